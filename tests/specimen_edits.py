"""Edits, files and parity of random adapters of many variants: what is said, held against dense weights in float64.

`PYTHONPATH=.:tests python tests/specimen_edits.py` goes through all of them and prints how many sentences it checked and which are
false; tests/results/sentences/test_edits.py goes through some.
"""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import editing_checker  # noqa: F401
import numpy as np
import torch
import trust_checker  # noqa: F401
from conftest import specimen, tiny_model
from literal import Exchanged, LiteralLlama, edited, mlp_of, mlp_output, rank_one_update, tanh_update
from specimen_pages import refused
from stated import Said

import npt_viz
from npt_viz.adapter import VARIANTS, RankOneSum
from npt_viz.analysis import parity as parity_module
from npt_viz.checkpoint import Checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.editing.cases import Case
from npt_viz.editing.judging.leakage import leakage as leakage_of
from npt_viz.editing.judging.preview import preview_update
from npt_viz.editing.judging.scorecard import scorecard as scorecard_of
from npt_viz.editing.judging.sweep import alpha_sweep
from npt_viz.editing.ledger import Ledger
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.transplant import transplant as transplant_of
from npt_viz.model.tokens import display_token, encode
from npt_viz.results.sentences import said
from npt_viz.results.sentences.answers import answer
from npt_viz.results.sentences.editing import leakage, realised, scorecard, strengths
from npt_viz.results.sentences.trust import load, parity

SOURCE, PROMPT = "the sky was green", "a cat sat"
LAYERS, TOKEN = (1, 3), 6
SCALE = {"S2": 0.1}


class Edited(NamedTuple):
    """A variant, and what was done to its weights."""

    variant: str
    rank: int = 7
    components: int = 3
    factor: float = 1.0
    """On all that is added: 0 is a dead layer, −1 a turned one."""
    mode: str = "local"
    positions: str = "deployed"
    alpha: float = 1.0

    @property
    def name(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items())


SPECIMENS = (
    Edited("N1"), Edited("N1", rank=1, components=1, factor=-1.0), Edited("N2", rank=2, components=2, alpha=-3.0),
    Edited("N3", positions="trained"), Edited("N4", rank=11, components=1, alpha=7.5), Edited("N5", mode="propagated"),
    Edited("N5", rank=3, components=4, factor=30.0, alpha=0.02), Edited("T1", alpha=4.0), Edited("T1", positions="trained", factor=-1.0),
    Edited("S2", components=1, alpha=10.0), Edited("S0"), Edited("S1-add", alpha=2.0), Edited("S1-later"),
    Edited("S1-design", mode="propagated", positions="trained"), Edited("N4", factor=1e-6),
)  # fmt: skip


@cache
def base():
    return tiny_model()


@cache
def checkpoint_of(each: Edited) -> Checkpoint:
    adapters = {}
    for layer in LAYERS:
        adapter = specimen(
            base(), each.variant, layer, seed=layer, rank=each.rank, components=each.components
        )
        for modulation in adapter.modulations.values():
            for name in ("W_b_up", "W_add", "B"):
                if getattr(modulation, name, None) is not None:
                    getattr(modulation, name).mul_(each.factor)
        adapters[layer] = adapter
    return Checkpoint.from_adapters(adapters, base(), each.variant)


def ids_of(text: str) -> torch.Tensor:
    return torch.tensor(encode(base(), text).ids)


def seen_by(each: Edited, text: str) -> list:
    """What the layers see of a text: in the base, or with the adapters on."""
    checkpoint = checkpoint_of(each)
    lane = {n: (each.variant, checkpoint.adapter(n)) for n in LAYERS} if each.mode == "propagated" else {}
    return LiteralLlama(base()).run(ids_of(text), lane, rope=each.positions == "deployed")[0]


def dense_updates(each: Edited, token: int = TOKEN) -> dict[str, torch.Tensor]:
    """Target -> ΔW (out, inp) of layer 1 at one token of SOURCE, from the formulas."""
    layer = LAYERS[0]
    seen, modulations = seen_by(each, SOURCE)[layer], checkpoint_of(each).adapter(layer).modulations
    a = seen.attention[token]
    if each.variant == "T1":
        return {"gate": tanh_update(modulations["gate"], a)}
    if each.variant[0] == "N" or each.variant == "S2":
        return {t: rank_one_update(m, a, SCALE.get(each.variant, 1.0)) for t, m in modulations.items()}
    # A bias and a factor are no weight change: the smallest one with their effect on z_C.
    norm = f"model.layers.{layer}.post_attention_layernorm"
    x = LiteralLlama(base()).norm(seen.hidden[token] + a, norm)
    weight = mlp_of(base(), layer).gate
    changed, bias = edited(each.variant, weight, modulations["gate"], a)
    effect = changed @ x + bias - weight @ x
    return {"gate": torch.outer(effect, x) / x.square().sum()}


def with_updates(changes: Sequence[tuple[float, dict[str, torch.Tensor]]]) -> LiteralLlama:
    """The base with α ΔW in the weights of layer 1."""
    model = tiny_model(dtype=torch.float64)
    for alpha, update in changes:
        for target, change in update.items():
            getattr(model.parts(LAYERS[0]), target).weight.data += alpha * change
    return LiteralLlama(model)


def log_p(llama: LiteralLlama, ids: torch.Tensor, lane=None, *, rope: bool = True) -> torch.Tensor:
    """(token, vocab)"""
    return llama.run(ids, lane, rope=rope)[2].log_softmax(-1)


def kl(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before.exp() * (before - after)).sum(-1)


def glyph(i: int) -> str:
    return display_token(base().tokenizer, int(i)).glyph


def side(before: torch.Tensor, own: torch.Tensor) -> SimpleNamespace:
    """The tables of an Outcome, from log-probabilities (token, vocab)."""
    first = own.argmax(-1)
    return SimpleNamespace(
        kl=kl(before, own).numpy(),
        top=SimpleNamespace(
            ids=first[:, None].numpy(), probabilities=own.exp().max(-1).values[:, None].numpy(),
            glyphs=[(glyph(i),) for i in first],
        ),
    )  # fmt: skip


def of_update(each: Edited) -> Iterator[Said]:
    """The update alone, on an earlier edit, and after that one is undone; the ledger's own lines."""
    model, checkpoint = base(), checkpoint_of(each)
    rule = UpdateRule(mode=each.mode, positions=each.positions)
    own, other = dense_updates(each), dense_updates(each, 2)
    ledger = Ledger(model)
    for case, beneath in (("alone", []), ("on an edit", [(0.5, other)]), ("undone", [])):
        if beneath:
            preview_update(model, checkpoint, SOURCE, LAYERS[0], 2, 0.5, rule=rule).apply_to(ledger)
        made = preview_update(
            model, checkpoint, SOURCE, LAYERS[0], TOKEN, each.alpha, prompt=PROMPT, rule=rule, ledger=ledger
        )
        ids = ids_of(PROMPT)
        before, after = (log_p(with_updates(c), ids) for c in (beneath, [*beneath, (each.alpha, own)]))
        informed = log_p(with_updates(beneath), ids_of(made.recovery.with_context))[-1]
        recovery = SimpleNamespace(
            kl_plain=float(kl(informed, before[-1])), kl_updated=float(kl(informed, after[-1]))
        )
        data = {
            "sources": [(glyph(ids_of(SOURCE)[TOKEN]), TOKEN)], "layers": LAYERS[:1], "alpha": each.alpha, "pieces": made.pieces,
            "before": side(before, before), "after": side(before, after), "recovery": recovery, "mode": each.mode,
            "positions": each.positions,
        }  # fmt: skip
        yield Said("update", f"{each.name}: {case}", said(answer(made)), data)
        if beneath:
            (entry,) = ledger.entries
            # A variant without a weight change is written as the smallest one.
            additive = each.variant.startswith(("S0", "S1"))
            line = {
                "number": 1, "rule": "minimum norm" if additive else "npt", "layers": LAYERS[:1],
                "sources": [(glyph(ids_of(SOURCE)[2]), 2)], "alpha": 0.5, "text": SOURCE,
            }  # fmt: skip
            yield Said("ledger entry", each.name, said(entry.sentence), line)
            ledger.undo()
    yield of_realised(each, made, own)
    yield from of_leakage(each, own, rule)


def of_realised(each: Edited, made, own: dict[str, torch.Tensor]) -> Said:
    ledger = Ledger(base())
    made.apply_to(ledger)
    kept = {}
    for dtype in ("float32", "bfloat16", "float16"):
        kept[dtype] = []
        for target, change in own.items():
            weight = getattr(base().parts(LAYERS[0]), target).weight.detach().float()
            asked = (each.alpha * change).float()
            stored = [w.to(getattr(torch, dtype)).double().numpy() for w in (weight, weight + asked)]
            kept[dtype].append((asked.double().numpy(), stored[1] - stored[0]))
    return Said("realised", each.name, realised(ledger.report()), {"kept": kept})


LEAKAGE_TEXTS = ("dogs run fast over the hill", "it rains in the old town")


def of_leakage(each: Edited, own: dict[str, torch.Tensor], rule: UpdateRule) -> Iterator[Said]:
    """Of NPT's own key and the smallest one, in every target: ‖ΔW x′‖ / ‖ΔW x‖, dense. The down target reads what the edit of gate and up makes."""
    if each.variant.startswith(("S0", "S1")) or "down" in own:
        return
    leaks = leakage_of(
        base(), checkpoint_of(each), SOURCE, layer=LAYERS[0], token=TOKEN, rule=rule, rules=("npt", "minimum_norm"),
        texts=LEAKAGE_TEXTS,
    )  # fmt: skip
    llama, norm = LiteralLlama(base()), f"model.layers.{LAYERS[0]}.post_attention_layernorm"
    seen = seen_by(each, SOURCE)[LAYERS[0]]
    x = llama.norm(seen.hidden[TOKEN] + seen.attention[TOKEN], norm)
    others = [
        llama.run(ids_of(text), rope=each.positions == "deployed")[0][LAYERS[0]] for text in LEAKAGE_TEXTS
    ]
    rows = []
    for other in others:
        sizes = other.hidden.norm(dim=-1)
        kept = sizes <= 10 * sizes.sort().values[(len(sizes) - 1) // 2]
        rows.append(llama.norm(other.hidden + other.attention, norm)[kept])
    elsewhere = torch.cat(rows)
    for target, change in own.items():
        smallest = torch.outer(change @ x, x) / x.square().sum()
        effects = {
            name: ((elsewhere @ dense.T).norm(dim=-1) / (dense @ x).norm()).numpy()
            for name, dense in {"npt": change, "minimum norm": smallest}.items()
        }
        parameter = f"model.layers.{LAYERS[0]}.mlp.{target}_proj.weight"
        data = {"effects": effects, "parameter": parameter, "mode": each.mode, "positions": each.positions}
        shown = [leak for leak in leaks if leak.parameter == parameter]
        yield Said(
            "leakage",
            f"{each.name}: {target}",
            leakage(shown, mode=each.mode, positions=each.positions),
            data,
        )


UNRELATED, NEUTRAL = ("two and two", "up and"), ("The road was wet. People walked on.",)


def of_strengths(each: Edited) -> Said:
    model, alphas = base(), [-2.0, 0.0, 0.5, 1.0, 4.0]
    made = preview_update(
        model,
        checkpoint_of(each),
        SOURCE,
        LAYERS[0],
        TOKEN,
        1.0,
        rule=UpdateRule(mode=each.mode, positions=each.positions),
    )
    own, ids = dense_updates(each), ids_of(PROMPT)
    sides = [with_updates([]), *(with_updates([(alpha, own)]) for alpha in alphas)]
    before, *after = (log_p(llama, ids)[-1] for llama in sides)
    # What the strongest update makes it say, so that some strength may be usable.
    new = int(after[-1].argsort(descending=True)[0])
    old = int(before.argmax())
    if new == old:
        new = int(after[-1].argsort(descending=True)[1])
    new_text = base().tokenizer.decode([new])
    if encode(model, new_text).ids != [new]:
        new, new_text = ids_of("x").tolist()[0], "x"
    sweep = alpha_sweep(
        model, made.update, PROMPT, new_text, alphas=alphas, unrelated=UNRELATED, neutral=NEUTRAL
    )
    unrelated = [[log_p(llama, ids_of(text))[-1] for text in UNRELATED] for llama in sides]
    perplexities = [perplexity(llama) for llama in sides]
    data = SimpleNamespace(
        alphas=np.array(alphas), new=(glyph(new), new), old=(glyph(old), old),
        margin=np.array([float(a[new] - a[old]) for a in after]),
        unrelated_kl=np.array([np.mean([float(kl(b, a)) for b, a in zip(unrelated[0], row, strict=True)]) for row in unrelated[1:]]),
        perplexity=np.array(perplexities[1:]), before_perplexity=perplexities[0], n_unrelated=len(UNRELATED),
        n_neutral_tokens=sum(len(ids_of(text)) - 1 for text in NEUTRAL), kl_limit=0.1, perplexity_limit=1.05,
    )  # fmt: skip
    return Said("strengths", each.name, strengths(sweep), {"sweep": data})


def perplexity(llama: LiteralLlama) -> float:
    nll = []
    for text in NEUTRAL:
        ids = ids_of(text)
        nll += (-log_p(llama, ids)[:-1].gather(1, ids[1:, None])[:, 0]).tolist()
    return float(np.exp(np.mean(nll)))


def of_scorecard(each: Edited) -> Said:
    model = base()
    made = preview_update(
        model,
        checkpoint_of(each),
        SOURCE,
        LAYERS[0],
        TOKEN,
        each.alpha,
        rule=UpdateRule(mode=each.mode, positions=each.positions),
    )
    before, after = with_updates([]), with_updates([(each.alpha, dense_updates(each))])
    said_after = int(log_p(after, ids_of(PROMPT))[-1].argmax())
    new = base().tokenizer.decode([said_after])
    if encode(model, new).ids != [said_after]:
        new = "x"
    case = Case(
        context=SOURCE,
        prompt=PROMPT,
        new=new,
        paraphrases=("the cat sat", "one cat sat"),
        unrelated=UNRELATED,
        consequences=(("so it", "s"),),
    )
    found = scorecard_of(model, [], [made.update], case, neutral=NEUTRAL)

    def first(llama, text):
        return int(log_p(llama, ids_of(text))[-1].argmax())

    (wanted,), (consequence,) = ids_of(new).tolist(), ids_of("s").tolist()
    rows = [("reliability", first(after, PROMPT) == wanted)]
    rows += [("generalisation", first(after, text) == wanted) for text in case.paraphrases]
    rows += [("locality", first(after, text) == first(before, text)) for text in UNRELATED]
    rows += [("portability", first(after, "so it") == consequence)]
    moved = torch.cat([kl(log_p(before, ids_of(text)), log_p(after, ids_of(text))) for text in NEUTRAL])
    data = {
        "rows": rows, "expected": glyph(wanted), "predicted": glyph(first(after, PROMPT)), "perplexity": (perplexity(before), perplexity(after)),
        "kl": float(moved.mean()), "n": sum(len(ids_of(text)) - 1 for text in NEUTRAL),
    }  # fmt: skip
    return Said("scorecard", each.name, scorecard(found), data)


def of_transplant(each: Edited, operation: str) -> Said:
    """One token runs with the donor's ΔW, its own scaled, or both."""
    checkpoint = checkpoint_of(each)
    strength = 2.5
    own, given = {"replace": (0.0, strength), "scale": (strength, 0.0), "add": (1.0, strength)}[operation]
    result = transplant_of(
        base(), checkpoint, SOURCE, PROMPT, layers=list(LAYERS), donor_token=TOKEN, token=4, operation=operation, strength=strength,
        mode=each.mode, positions=each.positions,
    )  # fmt: skip
    donors = {n: seen_by(each, SOURCE)[n].attention[TOKEN] for n in LAYERS}
    lane = {n: (each.variant, checkpoint.adapter(n)) for n in LAYERS}
    ids, rope = ids_of(PROMPT), each.positions == "deployed"
    plain = log_p(LiteralLlama(base()), ids, lane, rope=rope)
    changed = log_p(Exchanged(base(), each.variant, donors, 4, own, given), ids, lane, rope=rope)
    data = SimpleNamespace(
        operation=operation, donor_pieces=encode(base(), SOURCE).pieces, donor_token=TOKEN, pieces=encode(base(), PROMPT).pieces,
        token=4, layers=LAYERS, mode=each.mode, positions=each.positions, npt=side(plain, plain), transplanted=side(plain, changed),
    )  # fmt: skip
    return Said("transplant", f"{each.name}: {operation}", said(answer(result)), {"result": data})


# Parity.


def of_parity(variant: str, broken: str = "") -> Said:
    """broken: what is planted, while both the product and what is computed anew run."""
    model = tiny_model()
    adapters = {n: specimen(model, variant, n, seed=n) for n in LAYERS}
    checkpoint = Checkpoint.from_adapters(adapters, model, variant)
    ids = torch.tensor(encode(model, PROMPT).ids)
    with planted(broken), torch.no_grad():
        untouched = model.hf(input_ids=ids[None]).logits
        literal = LiteralLlama(model)
        hooks = n_hooks(model)
        found = parity_module.parity(model, checkpoint, PROMPT, steps=4)
        differences = {
            "NPT off = base": float((model.hf(input_ids=ids[None]).logits - untouched).abs().max()),
            "no hook is left": float(n_hooks(model) - hooks),
        }
        differences |= computed_anew(model, literal, adapters, variant, ids)
    if broken == PLANTED[-1]:
        del differences["cached = uncached, tokens"]  # The literal model has no such adapter.
    checks = [
        (each.name, each.measured, each.tolerance, each.unit, differences.get(each.name))
        for each in found.checks
    ]
    data = {
        "checks": checks,
        "layers": LAYERS,
        "n_tokens": len(ids),
        "token": len(ids) - 1,
        "dtype": "float32",
    }
    return Said("parity", f"{variant} {broken}", parity(found), data)


def computed_anew(
    model, literal: LiteralLlama, adapters, variant: str, ids: torch.Tensor
) -> dict[str, float]:
    """Dense ΔW against the run, and what a cache writes against the literal model without one."""
    found, a = {}, None
    for layer in LAYERS:
        record = parity_module.forward_pass(model, ids[None], [adapters], record=[layer]).layers[layer]
        h, a = record.hidden[0].double(), record.attention[0].double()
        norm = f"model.layers.{layer}.post_attention_layernorm"
        reads = VARIANTS[variant].semantics.attention in ("standard", "mlp_only")
        x = literal.norm(h[-1] + a[-1] if reads else h[-1], norm)
        y = mlp_output(
            mlp_of(model, layer), x, variant, adapters[layer], a if variant == "S0-pooled" else a[-1]
        )
        found[f"adapter = dense ΔW, layer {layer}"] = float(
            (record.mlp_output[0, -1].double() - y).norm() / y.norm()
        )
    if variant == "S0-pooled":
        return found
    with npt_viz.capture.running.changed(model, [adapters]):
        written = model.decode(ids[None], 4, lambda logits: logits.argmax(-1))[0]
    logits = literal.run(torch.cat([ids, written[:-1]]), {n: (variant, adapters[n]) for n in LAYERS})[2][-4:]
    differ = logits.argmax(-1) != written
    close = logits.max(-1).values - logits.gather(1, written[:, None])[:, 0] < 1e-4
    found["cached = uncached, tokens"] = float((differ & ~close).sum())
    return found


def n_hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def planted(name: str):
    """A fault for the length of a block."""
    right = parity_module.forward_pass

    def passing(change):
        return mock.patch.object(parity_module, "forward_pass", change)

    def edits(model, *args, **settings):
        found = right(model, *args, **settings)
        model.parts(0).gate.weight.data[0, 0] = 0.5
        return found

    def hooks(model, *args, **settings):
        if not model.parts(0).mlp._forward_hooks:
            model.parts(0).mlp.register_forward_hook(lambda module, given, output: None)
        return right(model, *args, **settings)

    delta, bottleneck = RankOneSum.delta, RankOneSum.bottleneck
    match name:
        case "an edited weight":
            return passing(edits)
        case "a hook that stays":
            return passing(hooks)
        case "a wrong factored form":
            return mock.patch.object(RankOneSum, "delta", lambda self, p, s: 1.01 * delta(self, p, s))
        case "an update that looks at other tokens":
            return mock.patch.object(
                RankOneSum,
                "bottleneck",
                lambda self, a: bottleneck(self, 3 * a.mean(dim=-2, keepdim=True).expand_as(a)),
            )
    return mock.patch.dict({}, {})


PLANTED = (
    "an edited weight",
    "a hook that stays",
    "a wrong factored form",
    "an update that looks at other tokens",
)


# Files.


def of_files() -> Iterator[Said]:
    """Files that are written from tensors here, so what they hold is known; opened on the base and on another."""
    model = base()
    ways = {
        "N1": ("N1", {}, ()), "N4 and N5": ("N4", {3: "N5"}, ()), "left over": ("N5", {}, ("ema.decay", "x.y")),
        "T1": ("T1", {}, ()), "S1": ("S1-later", {}, ()),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for case, (variant, others, left) in ways.items():
            tensors, layers, variants = {}, {}, {}
            for layer in LAYERS:
                named = named_tensors(specimen(model, others.get(layer, variant), layer, components=2))
                layers[layer], variants[layer] = [*named], others.get(layer, variant)
                tensors |= {key: tensor.clone() for key, tensor in named.items()}
            tensors |= {key: torch.ones(3, 2) for key in left}
            path = Path(folder) / f"{case.replace(' ', '_')}" / "npt_weights.pt"
            path.parent.mkdir()
            torch.save(tensors, path)
            yield opened(
                path,
                model,
                case,
                tensors,
                layers,
                variants,
                "chosen by the user" if variant[0] != "N" else "inferred from key names",
            )


def opened(path: Path, model, case: str, tensors, layers, variants, provenance: str) -> Said:
    chosen = next(iter(variants.values())) if provenance == "chosen by the user" else None
    report = npt_viz.open_checkpoint(str(path), model, **({"semantics": chosen} if chosen else {})).report
    data = {
        "format": report.format, "keys": [*torch.load(path)], "layers": layers, "variant": variants,
        "provenance": dict.fromkeys(layers, provenance),
        "match": {"model": model.name, "named": None, "config": None, "equal": {}, "compared": "all"},
    }  # fmt: skip
    return Said("load", case, load(report), data)


def of_native() -> Iterator[Said]:
    """A folder with a fingerprint, opened on its base, on one with another weight, and with another config."""
    from npt_viz.checkpoint import save_checkpoint

    made = {n: specimen(base(), "N4", n, seed=n) for n in LAYERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "npt"
        save_checkpoint(str(path), made, base(), recipe={}, figures={}, licence="Apache-2.0")
        for case in ("its base", "another weight", "another config"):
            model = tiny_model()
            if case == "another weight":
                model.parts(3).up.weight.data[0, 0] += 0.5
            elif case == "another config":
                model.config.rms_norm_eps *= 3
            same = {
                n: all(
                    torch.equal(own, other)
                    for own, other in zip(block_of(model, n), block_of(base(), n), strict=True)
                )
                for n in LAYERS
            }
            report = npt_viz.open_checkpoint(str(path), model).report
            keys = {n: [*named_tensors(made[n])] for n in LAYERS}
            data = {
                "format": "native", "keys": [key for each in keys.values() for key in each], "layers": keys, "variant": dict.fromkeys(LAYERS, "N4"),
                "provenance": dict.fromkeys(LAYERS, "from the file"),
                "match": {"model": "tiny", "named": "tiny", "config": case != "another config", "equal": same, "compared": "all"},
            }  # fmt: skip
            yield Said("load", case, load(report), data)


def block_of(model, layer: int) -> list[torch.Tensor]:
    return [*model.hf.model.layers[layer].parameters()]


def of_edit(each: Edited) -> Iterator[Said]:
    """All that is said of one specimen."""
    yield from of_update(each)
    yield of_strengths(each)
    yield of_scorecard(each)
    for operation in ("replace", "scale", "add"):
        yield of_transplant(each, operation)


def of_trust() -> Iterator[Said]:
    yield from (of_parity(variant) for variant in VARIANTS)
    yield from (of_parity("N5", broken) for broken in PLANTED)
    yield from of_files()
    yield from of_native()


if __name__ == "__main__":
    torch.set_num_threads(1)
    n_checked, all_false = 0, []
    for makers in (*((of_edit, each) for each in SPECIMENS), (of_trust,)):
        make, *given = makers
        found = [*make(*given)]
        false = refused(found)
        n_checked, all_false = n_checked + len(found), all_false + false
        print(
            f"{given[0].name if given else 'parity and files'}: {len(found)} sentences, {len(false)} false",
            *false,
            sep="\n  ",
            flush=True,
        )
    print(f"{n_checked} sentences, {len(all_false)} false")
