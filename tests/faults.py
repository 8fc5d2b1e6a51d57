"""Checkpoints that were made to have one fault each, and healthy ones, on small models that behave like real ones.

`PYTHONPATH=. python tests/faults.py` runs them all and writes the tables of docs/health.md.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from conftest import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import npt_viz
from npt_viz.adapter import LayerAdapter, RankOneSum, Semantics
from npt_viz.analysis.health import health
from npt_viz.capture.layer_trace import traces
from npt_viz.checkpoint import Checkpoint, save_checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.model.base import BaseModel
from npt_viz.results.health import RULES, HealthReport
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "health.md"
SEED = int(os.environ.get("NPT_VIZ_FAULTS_SEED", "3"))
"""Of the small base model. Thresholds were set with seed 3 in view."""

OTHER_SEEDS = (43, 53, 63)
"""Base models that no threshold was set on; 13 and 33 were looked at (docs/health.md)."""

D_MODEL, D_FFN, LAYER = 32, 53, 1
TRIPLE = ("gate", "up", "down")
HELD_OUT = 8
CONSTANT = 12.0
"""Shared part of a model in which linear maps of a and z can say 1 at every token."""


def built(common: float = 2.0, seed: int = SEED) -> BaseModel:
    """A random Llama of three layers whose attention depends on positions.

    common: size of what all tokens share against what tells them apart. As in real models, attention outputs then
    share a direction; without it they point everywhere.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=D_MODEL,
        intermediate_size=D_FFN,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=97,
        bos_token_id=0,
        eos_token_id=1,
    )
    hf = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in hf.named_parameters():
        if weight.ndim == 2:
            gain = 3.0 if "q_proj" in name or "k_proj" in name else 1.0
            weight.copy_(gain * torch.randn_like(weight) / weight.shape[1] ** 0.5)
    embedding = hf.get_input_embeddings().weight
    embedding.copy_(torch.randn_like(embedding) + common * torch.randn(D_MODEL))
    return BaseModel(hf=hf, tokenizer=byte_tokenizer(), name="small", source="made in memory")


model = cache(built)
"""The same one for all specimens that ask for the same."""


def without_axis(changed: BaseModel, axis: int) -> BaseModel:
    """No token has this axis of the residual stream, and no layer writes it."""
    changed.hf.get_input_embeddings().weight[:, axis] = 0
    for block in changed.backbone.layers:
        block.self_attn.o_proj.weight[axis] = 0
        block.mlp.down_proj.weight[axis] = 0
    return changed


@cache
def with_sink() -> BaseModel:
    """The token ~ alone has axis 0: a residual norm of 300, and an attention output to match."""
    changed = without_axis(built(), 0)
    embedding = changed.hf.get_input_embeddings().weight
    embedding[ids_of("~")[0]] = 300 * torch.eye(D_MODEL)[0]
    for block in changed.backbone.layers:
        attention, heads = block.self_attn, torch.randn(2, 8)
        # It looks at itself alone, and comes last, so that no other token looks at it.
        attention.q_proj.weight[:, 0] = heads.repeat_interleave(2, 0).flatten()
        attention.k_proj.weight[:, 0] = heads.flatten()
        attention.v_proj.weight[:, 0] = 3 * torch.randn(16)
    return changed


@cache
def with_blind_direction() -> BaseModel:
    """The unembedding reads axis 0 of the stream, which the base never writes, forty times as strongly as others."""
    changed = without_axis(built(), 0)
    head = changed.hf.get_output_embeddings().weight
    head[:, 0] = 40 * torch.randn(len(head))
    return changed


@cache
def with_opposites() -> BaseModel:
    """Capitals are read by attention and small letters are not; the vector of N … is minus that of A …

    A text of A to M then makes the attention output of its small letters the opposite of that in a text of N to Z.
    """
    changed = built(common=0.0)
    half = D_MODEL // 2
    embedding = changed.hf.get_input_embeddings().weight
    embedding[:, :half] = 0
    for capital in "ABCDEFGHIJKLM":
        own, opposite = ids_of(capital)[0], ids_of(chr(ord(capital) + 13))[0]
        shared = torch.ones(half) + 0.5 * torch.randn(half)
        embedding[own], embedding[opposite] = 0, 0
        embedding[own, :half], embedding[opposite, :half] = shared, -shared
    attention = changed.backbone.layers[0].self_attn
    attention.v_proj.weight[:, half:] = 0
    attention.q_proj.weight[:] = 0  # Every token looks at all before it alike.
    return changed


def ids_of(text: str) -> list[int]:
    return byte_tokenizer()(text)["input_ids"]


@cache
def texts(end: str = "") -> tuple[str, ...]:
    """Sixty lines of made-up words; the last HELD_OUT are for measuring."""
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 7))) for _ in range(50)]
    return tuple(" ".join(draw.choices(words, k=40))[:89] + end for _ in range(60))


@cache
def opposite_texts() -> tuple[str, ...]:
    """Four small letters to a capital; A to M in the even lines, N to Z in the odd ones."""
    draw = random.Random(7)
    halves = "ABCDEFGHIJKLM", "NOPQRSTUVWXYZ"
    return tuple(
        "".join(draw.choice(halves[i % 2]) + "".join(draw.choices("abcdefgh", k=4)) for _ in range(16))
        for i in range(60)
    )


@cache
def trained(
    targets: Sequence[str] = TRIPLE,
    base: Callable[[], BaseModel] = model,
    *,
    layers: tuple[int, ...] = (LAYER,),
    semantics: Semantics = Semantics(),
    rank: int = 8,
    steps: int = 250,
    positions: str = "deployed",
    losses: str = "direct",
    lines: Callable[[], tuple[str, ...]] = texts,
) -> dict[int, LayerAdapter]:
    """Adapters as the trainer leaves them: layer -> adapter."""
    spec = AdapterSpec(layers=layers, targets=tuple(targets), rank=rank, semantics=semantics)
    training = train(
        base(),
        spec,
        lines()[:-HELD_OUT],
        losses,
        steps=steps,
        positions=positions,
        learning_rate=1e-2,
        evaluate_every=steps,
        warmup=min(50, steps),
    )
    for _ in training:
        pass
    return {layer: adapter.requires_grad_(False) for layer, adapter in training.adapters.items()}


def modified(
    adapters: dict[int, LayerAdapter], change: Callable[[RankOneSum], None]
) -> dict[int, LayerAdapter]:
    """Copies, with every modulation changed in place."""
    copies = deepcopy(adapters)
    for adapter in copies.values():
        for modulation in adapter.modulations.values():
            change(modulation)
    return copies


def read_as(adapters: dict[int, LayerAdapter], **semantics) -> dict[int, LayerAdapter]:
    """The same weights with another reading of them."""
    return {
        layer: LayerAdapter(layer, replace(adapter.semantics, **semantics), dict(adapter.modulations.items()))
        for layer, adapter in adapters.items()
    }


def one_direction(adapters: dict[int, LayerAdapter]) -> dict[int, LayerAdapter]:
    """W_b_up keeps its first singular direction: v_b is the same vector for every token."""

    def change(modulation: RankOneSum) -> None:
        U, S, Vh = torch.linalg.svd(modulation.W_b_up[0], full_matrices=False)
        modulation.W_b_up[0] = S[0] * torch.outer(U[:, 0], Vh[0])

    return modified(adapters, change)


def exchanged(adapters: dict[int, LayerAdapter], name: str) -> dict[int, LayerAdapter]:
    """This factor of gate and up exchanged."""
    adapters = deepcopy(adapters)
    gate, up = (getattr(adapters[LAYER].modulations[target], name) for target in ("gate", "up"))
    kept = gate.clone()
    gate.copy_(up)
    up.copy_(kept)
    return adapters


def shuffled(adapters: dict[int, LayerAdapter]) -> dict[int, LayerAdapter]:
    """What is added to one unit is added to another."""
    draw = torch.Generator().manual_seed(5)

    def change(modulation: RankOneSum) -> None:
        order = torch.randperm(modulation.W_b_up.shape[-1], generator=draw)
        modulation.W_b_up.copy_(modulation.W_b_up[..., order])

    return modified(adapters, change)


def constant_scalar() -> dict[int, LayerAdapter]:
    """v_a·z is 1 at every token, as far as a linear map of a and one of z can say 1; v_b is trained."""
    base = model(CONSTANT)
    first, *others = (traces(base, trained(("gate",)), ids_of(line)).local[LAYER] for line in texts()[:30])
    joined = first.joined(*others)
    a, z, one = joined.attention, joined.mlp_input, torch.ones(len(joined.attention), 1)
    says_one_a, says_one_z = (torch.linalg.lstsq(x, one).solution for x in (a, z))
    # The other bottlenecks read what tells tokens apart and are blind to what all share.
    shared = torch.nn.functional.normalize(a.mean(0), dim=0)
    apart = torch.linalg.svd(a - torch.outer(a @ shared, shared), full_matrices=False).Vh[:7].T
    W_a_up = torch.zeros(1, 8, D_MODEL)
    W_a_up[0, 0] = says_one_z[:, 0]
    gate = RankOneSum(torch.cat([says_one_a, apart], dim=1)[None], W_a_up, torch.zeros(1, 8, D_FFN))
    adapter = LayerAdapter(LAYER, Semantics(), {"gate": gate})
    nothing = (joined.unmodulated - joined.target).square().sum(-1)
    optimiser = torch.optim.Adam([gate.W_b_up], lr=0.03)
    for _ in range(600):
        optimiser.zero_grad()
        output = adapter.mlp(base.parts(LAYER).mlp, a, z).output
        ((output - joined.target).square().sum(-1) / nothing).mean().backward()
        optimiser.step()
        # v_b is made of these alone, so it differs between tokens while the scalar does not.
        gate.W_b_up.data[0, 0] = 0
    return {LAYER: adapter.requires_grad_(False)}


def writes_blindly() -> dict[int, LayerAdapter]:
    """A good triple layer that also writes a tenth of what is needed into the blind direction."""
    base = with_blind_direction()
    adapters = deepcopy(trained(TRIPLE, with_blind_direction))
    ids = ids_of(texts()[0])
    seen = traces(base, adapters, ids).local[LAYER]
    down = adapters[LAYER].modulations["down"]
    intermediate = adapters[LAYER].mlp(base.parts(LAYER).mlp, seen.attention, seen.mlp_input).intermediate
    p = down.bottleneck(seen.attention)
    strength = (down.scalars(p, intermediate) * p[..., 0]).abs().mean()
    down.W_b_up[0, 0, 0] += 0.1 * (seen.target - seen.unmodulated).norm(dim=-1).mean() / strength
    return adapters


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A checkpoint and what health has to say about it."""

    name: str
    made: str
    """How, in words."""
    fault: str | None
    """The rule that has to fire; None for a healthy one."""
    follows: frozenset[str] = frozenset()
    """Rules that the same fault may set off as well."""
    opened: Callable[[], Checkpoint | dict[int, LayerAdapter]]
    base: Callable[[], BaseModel] = model
    lines: Callable[[], tuple[str, ...]] = texts
    floor: bool = False

    @cache  # noqa: B019
    def report(self) -> HealthReport:
        found = self.opened()
        if isinstance(found, dict):
            found = Checkpoint.from_adapters(found, self.base(), self.name)
        lines = self.lines()
        # A floor is fitted on what it is given.
        return health(self.base(), found, lines if self.floor else lines[-HELD_OUT:], floor=self.floor)

    @property
    def fired(self) -> set[str]:
        return {finding.rule for finding in self.report().findings}


def file_with_left_overs() -> Checkpoint:
    tensors = named_tensors(trained()[LAYER]) | {"ema.decay_steps": torch.ones(3, 2)}
    with tempfile.TemporaryDirectory() as folder:
        torch.save({key: tensor.clone() for key, tensor in tensors.items()}, f"{folder}/npt_weights.pt")
        opened = npt_viz.open_checkpoint(f"{folder}/npt_weights.pt", model())
        opened.report, opened.adapter(LAYER)  # Read while the file is there.
    return opened


def file_of_another_base() -> Checkpoint:
    with tempfile.TemporaryDirectory() as folder:
        other = lambda: model(seed=SEED + 1)  # noqa: E731
        adapters = trained(TRIPLE, other)
        save_checkpoint(f"{folder}/npt", adapters, other(), recipe={}, figures={}, licence="Apache-2.0")
        opened = npt_viz.open_checkpoint(f"{folder}/npt", model())
        opened.report, opened.adapter(LAYER)
    return opened


def scaled(factor: float) -> Callable[[RankOneSum], None]:
    return lambda modulation: modulation.W_b_up.mul_(factor)


def with_scale(scale: float) -> Callable[[RankOneSum], None]:
    return lambda modulation: setattr(modulation, "scale", scale)


BESIDE = Semantics(attention="beside")
TANH = Semantics(rule="low_rank_tanh")

FAULTS = (
    Specimen(
        name="NaN",
        made="one weight of a trained layer is NaN",
        fault="not_finite",
        opened=lambda: modified(trained(), lambda m: m.W_down.view(-1)[5].fill_(torch.nan)),
    ),
    Specimen(
        name="another base",
        made="trained on a model with other weights, of the same shape",
        fault="wrong_base",
        follows=frozenset({"worse_than_nothing", "recovers_nothing", "ambiguous"}),
        opened=file_of_another_base,
    ),
    Specimen(
        name="left over",
        made="a file with one tensor more than its layer has",
        fault="left_over",
        opened=file_with_left_overs,
    ),
    Specimen(
        name="nothing loaded",
        made="every W_b_up is zero",
        fault="nothing_loaded",
        follows=frozenset({"untrained"}),
        opened=lambda: modified(trained(), scaled(0.0)),
    ),
    Specimen(
        name="at initialisation",
        made="all tensors drawn with the customary spread 0.02, no step taken",
        fault="untrained",
        follows=frozenset({"vanishing", "recovers_nothing"}),
        opened=lambda: {
            LAYER: AdapterSpec(layers=(LAYER,), targets=TRIPLE, rank=D_MODEL).blank(model(), LAYER, seed=1)
        },
    ),
    Specimen(
        name="vanishing",
        made="a trained layer with W_b_up divided by 10,000",
        fault="vanishing",
        follows=frozenset({"wrong_size"}),
        opened=lambda: modified(trained(), scaled(1e-4)),
    ),
    Specimen(
        name="constant scalar",
        made="closed form: v_a·z is 1 at every token; v_b trained",
        fault="scalar_constant",
        base=lambda: model(CONSTANT),
        opened=constant_scalar,
    ),
    Specimen(
        name="one direction",
        made="W_b_up of a trained gate layer cut to its first singular direction",
        fault="direction_collapsed",
        follows=frozenset({"wrong_size"}),
        opened=lambda: one_direction(trained(("gate",))),
    ),
    Specimen(
        name="another layer",
        made="the adapter of layer 1 in layer 2",
        fault="wrong_layer",
        opened=lambda: {2: LayerAdapter(2, Semantics(), dict(trained()[LAYER].modulations.items()))},
    ),
    Specimen(
        name="sign turned",
        made="a trained layer with −W_b_up",
        fault="sign_flipped",
        opened=lambda: modified(trained(), scaled(-1.0)),
    ),
    Specimen(
        name="W_b_up exchanged",
        made="a trained layer with W_b_up of gate and up exchanged",
        fault="swapped",
        opened=lambda: exchanged(trained(), "W_b_up"),
    ),
    Specimen(
        name="v_b shuffled",
        made="a trained layer with the units of W_b_up in another order",
        fault="worse_than_nothing",
        opened=lambda: shuffled(trained()),
    ),
    Specimen(
        name="drawn anew",
        made="every W_b_up drawn anew, so small that it does no harm",
        fault="recovers_nothing",
        opened=lambda: modified(trained(), lambda m: m.W_b_up.copy_(0.003 * torch.randn_like(m.W_b_up))),
    ),
    Specimen(
        name="four times too large",
        made="a trained layer with W_b_up × 4",
        fault="wrong_size",
        opened=lambda: modified(trained(), scaled(4.0)),
    ),
    Specimen(
        name="scale lost",
        made="trained with modulation_scale 1, read with 0.1",
        fault="wrong_size",
        opened=lambda: read_as(modified(trained(("gate",)), with_scale(0.1)), scale=0.1),
    ),
    Specimen(
        name="a and −a",
        made="trained where tokens alike but for the sign of a need opposite changes",
        fault="parity",
        follows=frozenset({"recovers_nothing"}),
        base=with_opposites,
        lines=opposite_texts,
        opened=lambda: trained(("gate", "up"), with_opposites, layers=(0,), lines=opposite_texts),
    ),
    Specimen(
        name="N3 read as N4",
        made="trained on MLP(z_C), read as if attention were withheld",
        fault="objective_mismatch",
        opened=lambda: read_as(trained(("gate", "up"), semantics=BESIDE), attention="withheld"),
    ),
    Specimen(
        name="N4 read as N3",
        made="trained on a + MLP(z_C), read as if attention were added beside",
        fault="objective_mismatch",
        opened=lambda: read_as(trained(("gate", "up")), attention="beside"),
    ),
    Specimen(
        name="no RoPE",
        made="trained on activations without RoPE",
        fault="trained_without_rope",
        opened=lambda: trained(positions="trained"),
    ),
    Specimen(
        name="no RoPE, no shared part",
        made="the same on a model whose attention outputs share nothing",
        fault="trained_without_rope",
        base=lambda: model(0.0),
        opened=lambda: trained(TRIPLE, lambda: model(0.0), positions="trained"),
    ),
    Specimen(
        name="blind direction",
        made="a good layer that also writes a tenth of what is needed where only the unembedding looks",
        fault="broken_downstream",
        base=with_blind_direction,
        opened=writes_blindly,
    ),
    Specimen(
        name="sink",
        made="one token in 90 is a sink with twenty times the attention output; trained with the direct loss as written",
        fault="sink_dominates",
        base=with_sink,
        lines=lambda: texts("~"),
        opened=lambda: trained(TRIPLE, with_sink, losses="direct:as_written=1", lines=lambda: texts("~")),
    ),
    Specimen(
        name="floor",
        made="gate alone, rank 4, trained to the end",
        fault="rank_floor",
        floor=True,
        opened=lambda: trained(("gate",), rank=4, steps=400),
    ),
    Specimen(
        name="stopped early",
        made="gate and up, 15 steps",
        fault="undertrained",
        # W_b_up begins at zero: after few steps what it writes still lies along one direction.
        follows=frozenset({"vanishing", "direction_collapsed"}),
        floor=True,
        opened=lambda: trained(("gate", "up"), steps=15),
    ),
)

HEALTHY = (
    Specimen(name="N1", made="gate, trained", fault=None, opened=lambda: trained(("gate",))),
    Specimen(name="N4", made="gate and up, trained", fault=None, opened=lambda: trained(("gate", "up"))),
    Specimen(name="N5", made="gate, up and down, trained", fault=None, floor=True, opened=trained),
    Specimen(
        name="N3",
        made="gate and up, attention beside, trained",
        fault=None,
        opened=lambda: trained(("gate", "up"), semantics=BESIDE),
    ),
    Specimen(
        name="T1",
        made="low-rank tanh, trained",
        fault=None,
        opened=lambda: trained(("gate",), semantics=TANH),
    ),
    Specimen(
        name="N5, three layers",
        made="every layer of the model, trained side by side",
        fault=None,
        opened=lambda: trained(layers=(0, 1, 2)),
    ),
    Specimen(
        name="N5, no shared part",
        made="attention outputs point everywhere",
        fault=None,
        base=lambda: model(0.0),
        opened=lambda: trained(TRIPLE, lambda: model(0.0)),
    ),
    Specimen(
        name="N5, sink",
        made="the same model with a sink, trained with the corrected direct loss",
        fault=None,
        base=with_sink,
        lines=lambda: texts("~"),
        opened=lambda: trained(TRIPLE, with_sink, lines=lambda: texts("~")),
    ),
    Specimen(
        name="T1, a and −a",
        made="an odd rule where tokens with opposite attention need opposite changes",
        fault=None,
        base=with_opposites,
        lines=opposite_texts,
        opened=lambda: trained(("gate",), with_opposites, layers=(0,), semantics=TANH, lines=opposite_texts),
    ),
)


def rows(specimens: Sequence[Specimen]) -> list[str]:
    """One line a specimen: what was made, what was found."""
    lines = [
        "| checkpoint | made how | fault | found | follows from it | false alarm |",
        "|---|---|---|---|---|---|",
    ]
    for each in specimens:
        follows = each.fired & each.follows
        wrong = each.fired - follows - {each.fault}
        cells = (
            each.name,
            each.made,
            f"`{each.fault}`" if each.fault else "none",
            "–" if each.fault is None else "yes" if each.fault in each.fired else "**no**",
            *(", ".join(f"`{rule}`" for rule in RULES if rule in group) for group in (follows, wrong)),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def rates(specimens: Sequence[Specimen]) -> list[str]:
    """One line a rule: true and false positives."""
    lines = ["| rule | made to have it | found | others | false alarms |", "|---|---|---|---|---|"]
    for rule in RULES:
        has = [each for each in specimens if each.fault == rule]
        others = [each for each in specimens if each.fault != rule and rule not in each.follows]
        found, wrong = (sum(rule in each.fired for each in group) for group in (has, others))
        lines.append(f"| `{rule}` | {len(has)} | {found} | {len(others)} | {wrong} |")
    return lines


def replaced(document: str, name: str, lines: Sequence[str]) -> str:
    """The document with what stands between <!-- name --> and <!-- end name --> replaced."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
    return re.sub(
        re.escape(begin.rstrip()) + ".*?" + re.escape(end),
        lambda _: begin + "\n".join(lines) + end,
        document,
        flags=re.S,
    )


def tabled(document: str) -> str:
    """docs/health.md with its tables from fresh runs."""
    specimens = (*FAULTS, *HEALTHY)
    return replaced(replaced(document, "specimens", rows(specimens)), "rates", rates(specimens))


def elsewhere(seed: int) -> str:
    """One line: the same specimens on another base model, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "fired"],
        env=os.environ | {"NPT_VIZ_FAULTS_SEED": str(seed)},
        check=True,
        capture_output=True,
        text=True,
    )
    fired = {name: set(rules) for name, rules in json.loads(done.stdout).items()}
    missed = [f"{x.name} (`{x.fault}`)" for x in FAULTS if x.fault not in fired[x.name]]
    wrong = {x.name: fired[x.name] - x.follows - {x.fault} for x in (*FAULTS, *HEALTHY)}
    alarms = [
        f"{name} ({', '.join(f'`{rule}`' for rule in rules)})" for name, rules in wrong.items() if rules
    ]
    cells = (
        seed,
        f"{len(FAULTS) - len(missed)} of {len(FAULTS)}",
        ", ".join(missed),
        len(alarms),
        ", ".join(alarms),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["fired"]:
        print(json.dumps({each.name: sorted(each.fired) for each in (*FAULTS, *HEALTHY)}))
        sys.exit()
    head = ["| seed | faults found | missed | false alarms | on |", "|---|---|---|---|---|"]
    text = replaced(
        DOCUMENT.read_text(encoding="utf-8"), "elsewhere", head + [elsewhere(s) for s in OTHER_SEEDS]
    )
    DOCUMENT.write_text(tabled(text), encoding="utf-8")
