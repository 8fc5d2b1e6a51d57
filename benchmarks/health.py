"""Health on checkpoints of the real base model that were made to have one fault each, and on healthy ones.

python -m benchmarks.specimens FOLDER              trains the adapters that the specimens are made of
python -m benchmarks.health FOLDER                 judges every specimen on three lengths of text (resumes where it was)
python -m benchmarks.health FOLDER --document      writes the tables of docs/health.md from what was judged

Thresholds were fixed on the layers CALIBRATED; the confusion table of the other layers is the one that counts.
"""

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import npt_viz
from benchmarks import bases
from benchmarks.specimens import LAYERS
from npt_viz.adapter import Additive, LayerAdapter, RankOneSum
from npt_viz.adapter.semantics import VARIANTS
from npt_viz.analysis.class_floor import class_floor
from npt_viz.analysis.health.evidence import Evidence
from npt_viz.analysis.health.gathering import layer_evidence, predicted
from npt_viz.analysis.health.rules import findings
from npt_viz.capture.layer_trace import LayerTrace, attention_sinks, fit_columns, local_trace
from npt_viz.capture.probe import Seen, seen_by_base, windows
from npt_viz.capture.running import NoAttention
from npt_viz.capture.running import changed as changed_layers
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.question import Positions
from npt_viz.results.estimate import median_of, wilson
from npt_viz.results.sentences.probe import probe as probe_in_words
from npt_viz.texts import bundled_texts
from npt_viz.training.data import corpus_of
from npt_viz.training.spec import AdapterSpec

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "health.md"

sys.path.append(str(ROOT / "tests"))
from recomputed import saw_of  # noqa: E402
from specimen_sentences import false_findings  # noqa: E402

CALIBRATED = (2, 9, 15, 23)
"""Layers in whose view the thresholds were fixed; the others were looked at afterwards."""

LENGTHS = {320: 2, 120: 1, 60: 1}
"""Tokens of text -> windows that they come in."""

HEALTHY = ("N1-r8", "N4-r64", "N5-r64", "N4-r32-k4", "T1-r64", "S1-r64", "N3-r64", "N5-r256", "N1-r128-k8")
LOUD = (0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)
"""Sizes of what is written where the prediction is most sensitive, against what is needed; the first that leaves STILL_GOOD."""

STILL_GOOD = 0.45

UNEXPLAINED = frozenset({"worse_than_nothing", "recovers_nothing"})


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One layer's adapter, and which rule has to see what is wrong with it."""

    name: str
    layer: int
    """That it runs in."""
    made: str
    """The kind, in words."""
    faults: frozenset[str] = frozenset()
    """Rules of which one has to fire; empty for a healthy one."""
    follows: frozenset[str] = frozenset()
    """Rules that the same fault may set off as well, and truly."""
    adapter: Callable[[], LayerAdapter]
    truth: float | None = None
    """What the finding has to name: the factor or the layer."""
    base: str = "own"
    """Or the name of one of benchmarks.bases."""
    floor: bool = False
    runs: bool = False
    """Whether the prediction of the model with this layer is looked at, too."""

    @property
    def half(self) -> str:
        return "calibrated" if self.layer in CALIBRATED or self.truth in CALIBRATED else "held back"


class Text(NamedTuple):
    """What one layer sees, and its MLP."""

    seen: LayerTrace
    mlp: nn.Module


def cut(model: BaseModel, length: int) -> list[list[int]]:
    """The windows that are judged at this length."""
    texts = bundled_texts("heldout")[-LENGTHS[length] :]
    return [ids[: length // LENGTHS[length]] for ids in windows(model, texts, LENGTHS[length])]


class Shelf:
    """Adapters that benchmarks.specimens trained."""

    def __init__(self, folder: Path, model: BaseModel) -> None:
        self.folder, self.model = folder, model
        self._open: dict[str, Checkpoint] = {}
        self._loudest: dict[int, torch.Tensor] = {}
        self._texts: dict[int, Text] = {}

    def has(self, recipe: str) -> bool:
        return (self.folder / recipe / "npt_config.json").exists()

    def take(self, recipe: str, layer: int) -> LayerAdapter:
        if recipe not in self._open:
            self._open[recipe] = npt_viz.open_checkpoint(self.folder / recipe, self.model)
        return self._open[recipe].adapter(layer)

    def text(self, layer: int) -> Text:
        """What a layer with attention withheld sees on the whole text that is judged; sinks left out."""
        if layer not in self._texts:
            silent = self.take("N4-r64", layer)
            seen = [local_trace(self.model, silent, ids) for ids in cut(self.model, max(LENGTHS))]
            kept = [trace.rows(~attention_sinks(trace.hidden)) for trace in seen]
            self._texts[layer] = Text(kept[0].joined(*kept[1:]), self.model.parts(layer).mlp)
        return self._texts[layer]

    def loudest(self, layer: int) -> torch.Tensor:
        if layer not in self._loudest:
            self._loudest[layer] = loudest(self.model, layer, cut(self.model, max(LENGTHS))[0])
        return self._loudest[layer]


def changed(adapter: LayerAdapter, change: Callable[[LayerAdapter], None]) -> LayerAdapter:
    """A copy with something done to it."""
    copied = copy.deepcopy(adapter)
    with torch.no_grad():
        change(copied)
    return copied


def scaled(factor: float, *targets: str) -> Callable[[LayerAdapter], None]:
    def change(adapter: LayerAdapter) -> None:
        for target, modulation in adapter.learned.items():
            if not targets or target in targets:
                last = [p for name, p in modulation.named_parameters() if name in ("W_b_up", "B", "W_add")]
                last[0].mul_(factor)

    return change


def exchanged(name: str, one: str, other: str) -> Callable[[LayerAdapter], None]:
    def change(adapter: LayerAdapter) -> None:
        a, b = adapter.modulation(one), adapter.modulation(other)
        kept = getattr(a, name).clone()
        getattr(a, name).copy_(getattr(b, name))
        getattr(b, name).copy_(kept)

    return change


def wholly_exchanged(adapter: LayerAdapter) -> None:
    for name in ("W_down", "W_a_up", "W_b_up"):
        exchanged(name, "gate", "up")(adapter)


def sums(adapter: LayerAdapter) -> list[RankOneSum]:
    """The modulations of an adapter that has no other rule."""
    return [modulation for modulation in adapter.learned.values() if isinstance(modulation, RankOneSum)]


def shuffled(adapter: LayerAdapter) -> None:
    draw = torch.Generator().manual_seed(adapter.layer)
    for modulation in sums(adapter):
        order = torch.randperm(modulation.W_b_up.shape[-1], generator=draw)
        modulation.W_b_up.copy_(modulation.W_b_up[..., order])


def one_direction(adapter: LayerAdapter) -> None:
    for modulation in sums(adapter):
        U, S, Vh = torch.linalg.svd(modulation.W_b_up[0], full_matrices=False)
        modulation.W_b_up[0] = S[0] * torch.outer(U[:, 0], Vh[0])


def padded(adapter: LayerAdapter) -> LayerAdapter:
    """The same function with every bottleneck twice as wide and every component twice: rank that is not used."""
    parts: dict[str, nn.Module] = {}
    for target, m in adapter.learned.items():
        assert isinstance(m, RankOneSum)
        wide = [
            torch.cat([t.detach(), torch.zeros_like(t)], dim=axis)
            for t, axis in ((m.W_down, 2), (m.W_a_up, 1), (m.W_b_up, 1))
        ]
        twice = [t.repeat(2, 1, 1) for t in wide]
        twice[2] = twice[2] / 2
        parts[target] = RankOneSum(*twice, scale=m.scale)
    return LayerAdapter(adapter.layer, adapter.semantics, parts).requires_grad_(False)


def constant(adapter: LayerAdapter, text: Text) -> LayerAdapter:
    """The scalar of gate and up replaced by its mean, in closed form: a·w is 1 and a vector times z the mean at every token."""

    seen = text.seen

    def change(copied: LayerAdapter) -> None:
        one = torch.ones(len(seen), 1)
        reads_a, reads_z = (
            torch.linalg.lstsq(x.double(), one.double()).solution.float()[:, 0]
            for x in (seen.attention, seen.mlp_input)
        )
        for modulation in sums(copied):
            bottleneck = seen.attention @ modulation.W_down[0]
            mean = ((bottleneck @ modulation.W_a_up[0]) * seen.mlp_input).sum(-1).mean()
            # The direction that tells least of a gives way.
            least = bottleneck.square().mean(0).mul(modulation.W_b_up[0].square().sum(-1)).argmin()
            modulation.W_down[0, :, least] = reads_a
            modulation.W_a_up[0] = 0
            modulation.W_a_up[0, least] = mean * reads_z
            modulation.W_b_up[0, least] = 0

    return changed(adapter, change)


def loud(adapter: LayerAdapter, text: Text, direction: torch.Tensor) -> LayerAdapter:
    """A good layer that also writes where the prediction is most sensitive, as much as leaves it good: one more component of down."""
    seen = text.seen
    intermediate = adapter.mlp(text.mlp, seen.attention, seen.mlp_input).intermediate
    needed = (seen.target - seen.unmodulated).norm(dim=-1).median()

    def written(size: float) -> Callable[[LayerAdapter], None]:
        def change(copied: LayerAdapter) -> None:
            down = copied.modulation("down")
            assert isinstance(down, RankOneSum)
            one = {name: torch.zeros(1, *p.shape[1:]) for name, p in down.named_parameters()}
            one["W_down"][0, :, 0] = _mean_direction(seen.attention)
            one["W_a_up"][0, 0] = _mean_direction(intermediate)
            one["W_b_up"][0, 0] = direction
            unscaled = RankOneSum(**one).change(seen.attention, intermediate).norm(dim=-1).median()
            one["W_b_up"] *= size * needed / unscaled
            parts = {name: torch.cat([p.data, one[name]]) for name, p in down.named_parameters()}
            copied.modulations["down"] = RankOneSum(**parts, scale=down.scale)

        return change

    for size in LOUD:
        made = changed(adapter, written(size))
        output = made.mlp(text.mlp, seen.attention, seen.mlp_input).output
        shares = fit_columns(output, seen.unmodulated, seen.target)["recovered"]
        if median_of(shares).low >= STILL_GOOD:
            return made
    raise AssertionError(f"layer {adapter.layer} has no room for a loud component")


def _mean_direction(x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(0)
    return mean / mean.square().sum()


def loudest(model: BaseModel, layer: int, ids: list[int]) -> torch.Tensor:
    """Unit vector to which the prediction is most sensitive where it is added to this MLP's output (Fisher information)."""
    added = torch.zeros(1, len(ids), model.d_model, requires_grad=True)
    hook = model.parts(layer).mlp.register_forward_hook(lambda module, args, output: output + added)
    try:
        with torch.enable_grad():
            log_p = model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        draw = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(log_p.detach().exp(), 1, generator=draw)
        log_p.gather(1, drawn).sum().backward()
    finally:
        hook.remove()
    assert added.grad is not None
    per_token = added.grad[0][1:]
    return torch.linalg.svd(per_token, full_matrices=False).Vh[0]


def read_as(adapter: LayerAdapter, **settings) -> LayerAdapter:
    semantics = replace(adapter.semantics, **settings)
    modulations: dict[str, nn.Module] = {}
    for target, modulation in adapter.learned.items():
        modulations[target] = copy.deepcopy(modulation)
        vars(modulations[target])["scale"] = semantics.scale
        if isinstance(modulation, Additive):
            vars(modulations[target])["factor"] = semantics.factor
    return LayerAdapter(adapter.layer, semantics, modulations)


def in_layer(adapter: LayerAdapter, layer: int) -> LayerAdapter:
    return LayerAdapter(layer, adapter.semantics, {**adapter.learned})


def specimens(shelf: Shelf) -> Iterator[Specimen]:
    """All that can be made of what is on the shelf."""
    for i, layer in enumerate(LAYERS):
        yield from _healthy(shelf, layer)
        yield from _altered(shelf, layer, i)
        yield from _misplaced(shelf, layer, i)
        yield from _trained_otherwise(shelf, layer)


def _healthy(shelf: Shelf, layer: int) -> Iterator[Specimen]:
    for recipe in filter(shelf.has, HEALTHY):
        yield Specimen(
            name=f"{recipe} {layer}", layer=layer, made=f"healthy: {recipe}",
            adapter=lambda r=recipe: shelf.take(r, layer),
            runs=recipe == "N5-r64",
        )  # fmt: skip
    yield Specimen(
        name=f"padded {layer}", layer=layer, made="healthy: rank and components that are not used",
        adapter=lambda: padded(shelf.take("N4-r64", layer)),
    )  # fmt: skip


def _altered(shelf: Shelf, layer: int, i: int) -> Iterator[Specimen]:
    sources = [r for r in ("N4-r64", "N5-r64", "N4-r32-k4", "N5-r256") if shelf.has(r)]
    source, triple = sources[i % len(sources)], "N5-r64"
    one = ("gate", "up", "down")[i % 3]

    def altered(made: str, rule: str, change, recipe: str = source, truth=None, follows=()) -> Specimen:
        return Specimen(
            name=f"{made}, {recipe} {layer}", layer=layer, made=made, faults=frozenset({rule}), truth=truth,
            follows=frozenset(follows), adapter=lambda: changed(shelf.take(recipe, layer), change),
        )  # fmt: skip

    yield altered("sign turned", "sign_flipped", scaled(-1))
    yield altered("sign of one target turned", "sign_flipped", scaled(-1, one), triple)
    yield altered("1.5 times too large", "wrong_size", scaled(1.5), truth=1 / 1.5)
    yield altered("4 times too large", "wrong_size", scaled(4), truth=1 / 4)
    yield altered("half as large", "wrong_size", scaled(0.5), truth=2)
    yield altered("modulation_scale 0.1 lost", "wrong_size", scaled(10), truth=1 / 10)
    yield altered("gate and up exchanged", "swapped", wholly_exchanged)
    yield altered("W_a_up of gate and up exchanged", "swapped", exchanged("W_a_up", "gate", "up"))
    yield altered("W_b_up of gate and up exchanged", "swapped", exchanged("W_b_up", "gate", "up"))
    yield altered("W_down of up and down exchanged", "swapped", exchanged("W_down", "up", "down"), triple)
    yield replace(altered("v_b shuffled", "", shuffled), faults=UNEXPLAINED)
    yield altered("NaN", "not_finite", lambda a: a.modulation("up").W_a_up.view(-1)[7].fill_(math.nan))
    yield altered("W_b_up zero", "nothing_loaded", scaled(0), follows=("untrained",))
    yield altered("divided by 10,000", "vanishing", scaled(1e-4), follows=("wrong_size", "recovers_nothing"))
    yield Specimen(
        name=f"constant scalar {layer}", layer=layer, made="v_a·z the same at every token", adapter=lambda: constant(
            shelf.take("N4-r64", layer), shelf.text(layer)
        ), faults=frozenset({"scalar_constant"}), follows=frozenset({"wrong_size", *UNEXPLAINED}),
    )  # fmt: skip
    if shelf.has("N5-r256"):
        yield Specimen(
            name=f"loud component {layer}", layer=layer, made="writes where the prediction is most sensitive", runs=True,
            # Half of what down adds is truly better then.
            faults=frozenset({"broken_downstream"}), follows=frozenset({"wrong_size"}),
            adapter=lambda: loud(shelf.take("N5-r256", layer), shelf.text(layer), shelf.loudest(layer)),
        )  # fmt: skip
    yield altered(
        "one direction",
        "direction_collapsed",
        one_direction,
        "N4-r64",
        follows=("wrong_size", "recovers_nothing"),
    )


def _misplaced(shelf: Shelf, layer: int, i: int) -> Iterator[Specimen]:
    recipes = [r for r in ("N4-r64", "N5-r64", "N1-r8", "N1-r128-k8", "T1-r64") if shelf.has(r)]
    recipe, step = recipes[i % len(recipes)], (1, -1, 2, -2)[i % 4]
    for made, to in (("in a layer nearby", layer + step), ("in a layer far away", (layer + 13) % 30)):
        yield Specimen(
            name=f"{made}, {recipe} {layer}", layer=to, made=made, faults=frozenset({"wrong_layer"}), truth=layer,
            adapter=lambda to=to: in_layer(shelf.take(recipe, layer), to),
        )  # fmt: skip
    for base, made in (
        ("untrained", "run on an untrained base model (no fingerprint)"),
        ("renumbered", "run on another base model as good (no fingerprint)"),
    ):
        yield Specimen(
            name=f"{base} base, {recipe} {layer}", layer=layer, made=made, faults=UNEXPLAINED, base=base,
            # An untrained base has hardly any attention that a modulation could be made of.
            follows=frozenset({"vanishing"} if base == "untrained" else ()),
            adapter=lambda: shelf.take(recipe, layer),
        )  # fmt: skip
    for made, source, settings in (
        ("N4 read as N3", "N4-r64", {"attention": "beside"}),
        ("N3 read as N4", "N3-r64", {"attention": "withheld"}),
        ("S1, another recipe", "S1-r64", {"factor": VARIANTS["S1-design"].semantics.factor, "scale": 1.0}),
    ):
        if shelf.has(source):
            yield Specimen(
                name=f"{made} {layer}", layer=layer, made=made, faults=frozenset({"objective_mismatch"}),
                adapter=lambda s=source, k=settings: read_as(shelf.take(s, layer), **k),
            )  # fmt: skip


def _trained_otherwise(shelf: Shelf, layer: int) -> Iterator[Specimen]:
    for recipe in ("N1-r64-no-rope", "N4-r64-no-rope", "N5-r32-no-rope"):
        if shelf.has(recipe):
            yield Specimen(
                name=f"{recipe} {layer}", layer=layer, made=f"no RoPE: {recipe[:2]}",
                faults=frozenset({"trained_without_rope"}), adapter=lambda r=recipe: shelf.take(r, layer),
            )  # fmt: skip
    if shelf.has("N4-r64-30-steps"):
        yield Specimen(
            name=f"30 steps {layer}", layer=layer, made="30 steps", faults=frozenset({"undertrained"}),
            # Stopped while it grew: more of the same change would truly be better.
            follows=frozenset({"wrong_size", "vanishing", "untrained"}), floor=True,
            adapter=lambda: shelf.take("N4-r64-30-steps", layer),
        )  # fmt: skip
    if shelf.has("N1-r64-planar"):
        yield Specimen(
            name=f"planar base {layer}", layer=layer, made="trained on a base whose attention lies in a plane",
            faults=frozenset({"parity"}), follows=frozenset({"recovers_nothing"}), base="planar",
            adapter=lambda: shelf.take("N1-r64-planar", layer),
        )  # fmt: skip
    if shelf.has("N1-r64-400-steps"):
        yield Specimen(
            name=f"to the end {layer}", layer=layer, made="gate alone, trained to the end", floor=True,
            faults=frozenset({"rank_floor"}), adapter=lambda: shelf.take("N1-r64-400-steps", layer),
        )  # fmt: skip
    yield Specimen(
        name=f"at initialisation {layer}", layer=layer, made="at initialisation", faults=frozenset({"untrained"}),
        follows=frozenset({"vanishing", "wrong_size", *UNEXPLAINED}),
        adapter=lambda: AdapterSpec(layers=(layer,), targets=("gate", "up"), rank=64).blank(shelf.model, layer, seed=1),
    )  # fmt: skip


@dataclass
class Judge:
    """Runs health's rules on one layer at a time; what the base saw is kept for all of them."""

    folder: Path
    model: BaseModel
    is_checking: bool = True
    """Whether every sentence is held against what is computed anew."""
    _seen: dict = field(default_factory=dict)
    _bases: dict = field(default_factory=dict)

    def base(self, name: str) -> BaseModel:
        """The model, or one that was made from it."""
        if name not in self._bases:
            made = {
                "own": lambda: self.model,
                "untrained": lambda: bases.untrained(self.model),
                "renumbered": lambda: bases.renumbered(self.model),
                "planar": lambda: bases.planar(self.model, LAYERS),
            }
            self._bases[name] = made[name]()
        return self._bases[name]

    def seen(self, base: BaseModel, length: int) -> Mapping[Positions, Seen]:
        if (base.name, length) not in self._seen:
            self._seen[base.name, length] = seen_by_base(base, cut(base, length), range(base.n_layers))
        return self._seen[base.name, length]

    def kl(self, base: BaseModel, adapters: Mapping[int, LayerAdapter], length: int):
        """(layers, modulated) -> (token,) KL(base ‖ this) of whole forward passes, in float64."""

        def logits(ids: list[int], lane: Mapping) -> torch.Tensor:
            with torch.no_grad(), changed_layers(base, [lane]):
                return (
                    base.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
                )

        def kl(layers: tuple[int, ...], modulated: bool) -> np.ndarray:
            lane = {
                i: adapters[i] if modulated else NoAttention(attention=adapters[i].attention) for i in layers
            }
            parts = []
            for ids in cut(base, length):
                plain, run = logits(ids, {}), logits(ids, lane)
                parts.append((plain.exp() * (plain - run)).sum(-1).numpy())
            return np.concatenate(parts)

        return kl

    def fired(self, specimen: Specimen, length: int) -> dict:
        base = self.base(specimen.base)
        adapter = specimen.adapter()
        checkpoint = Checkpoint.from_adapters({specimen.layer: adapter}, base, specimen.name)
        report = checkpoint.report
        measured = ()
        if report.layers[0].finite:
            floor = self._floor(specimen, adapter, length)
            measured = (
                layer_evidence(
                    base, adapter, report.layers[0], self.seen(base, length), floor, texts="bundled text"
                ),
            )
        ran = ()
        if specimen.runs:
            ran = predicted(base, checkpoint, [specimen.layer], cut(base, length))
        evidence = Evidence(load=report, layers=measured, predicted=ran)
        found = list(findings(evidence))
        checked = {}
        if self.is_checking:
            n_sentences, false = false_findings(
                base,
                {specimen.layer: adapter},
                saw_of(self.seen(base, length)),
                evidence,
                found,
                texts="bundled text",
                kl=self.kl(base, {specimen.layer: adapter}, length),
            )
            checked = {"checked": n_sentences, "false": false}
        return checked | {
            "fired": {each.rule: each.evidence.get("value") for each in found},
            "sentences": [each.meaning for each in found],
            "probe": str(probe_in_words(measured[0].probe)) if measured else "",
            "gains": {
                each.name: [round(v, 4) for v in (each.recovered.value, each.gain.value, each.gain.low)]
                for each in (measured[0].probe.alternatives if measured else ())
                if each.kind != "layer" or each.gain.value > 0
            },
        }

    def _floor(self, specimen: Specimen, adapter: LayerAdapter, length: int):
        """A fit does not depend on the text that is judged; it is made once."""
        if not specimen.floor or length != max(LENGTHS):
            return None
        return class_floor(self.model, adapter, corpus_of(self.model, bundled_texts(), tokens=8000))


def validate() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("calibrated", "held back"))
    parser.add_argument("--lengths", type=int, nargs="*", default=list(LENGTHS))
    parser.add_argument(
        "--no-floor", action="store_true", help="leave out what needs a fresh fit, which takes a minute each"
    )
    parser.add_argument(
        "--unchecked", action="store_true", help="do not hold sentences against the weights: quicker"
    )
    parser.add_argument("--document", action="store_true", help="write docs/health.md and judge nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = npt_viz.open_model("smollm2-135m")
    made = list(specimens(Shelf(options.folder, model)))
    kept = options.folder / "judged.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    judged = {(row["name"], row["length"]): row for row in map(json.loads, lines)}
    if not options.document:
        judge = Judge(options.folder, model, is_checking=not options.unchecked)
        # A row is one write, so that several processes may judge side by side.
        with kept.open("ab", buffering=0) as file:
            for length in options.lengths:
                for each in made:
                    if options.half not in (None, each.half) or (each.name, length) in judged:
                        continue
                    if options.no_floor and each.floor and length == max(LENGTHS):
                        continue
                    row = {"name": each.name, "length": length} | judge.fired(each, length)
                    judged[each.name, length] = row
                    file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    lines = list(tables(made, judged))
    print("\n".join(lines))
    if options.document:
        text = DOCUMENT.read_text(encoding="utf-8")
        begin, end = "<!-- confusion -->", "<!-- end confusion -->"
        start, stop = text.index(begin) + len(begin), text.index(end)
        DOCUMENT.write_text(text[:start] + "\n".join(["", *lines, ""]) + text[stop:], encoding="utf-8")


def right(specimen: Specimen, row: dict) -> bool:
    """Whether a rule that has to fire fired, and named the true value."""
    found = [rule for rule in row["fired"] if rule in specimen.faults]
    if not found or specimen.truth is None:
        return bool(found)
    value = row["fired"][found[0]]
    # A size is tried in steps of √2.
    near = (
        value and abs(math.log(value / specimen.truth)) <= math.log(2) / 2
        if "wrong_size" in found
        else value == specimen.truth
    )
    return bool(near)


def wrong(specimen: Specimen, row: dict) -> set[str]:
    """Rules that fired and are not true of it."""
    return set(row["fired"]) - specimen.faults - specimen.follows - {"rank_floor"}


def tables(made: list[Specimen], judged: Mapping[tuple[str, int], dict]) -> Iterator[str]:
    """A table for each half: how many of each kind were named rightly, by length of text."""
    lengths = " | ".join(f"{length} tokens" for length in LENGTHS)
    for half in ("held back", "calibrated"):
        of_half = [s for s in made if s.half == half]
        layers = sorted({s.layer for s in of_half if "layer" not in s.made})
        yield f"\n{half.capitalize()} ({len(of_half)} specimens, layers {', '.join(map(str, layers))}):\n"
        yield f"| specimens | n | {lengths} | what was said of the others |"
        yield "|---|---|" + "---|" * (len(LENGTHS) + 1)
        for kind in dict.fromkeys(s.made for s in of_half):
            yield _line(kind, [s for s in of_half if s.made == kind], judged)
        yield _line("**all faults**", [s for s in of_half if s.faults], judged, summed_up=True)
        yield _line("**all healthy**", [s for s in of_half if not s.faults], judged, summed_up=True)
    rows = [row for row in judged.values() if "checked" in row]
    false = [each for row in rows for each in row["false"]]
    n_sentences = sum(row["checked"] for row in rows)
    yield f"\nSentences held against the weights (tests/specimen_sentences.py): {n_sentences:,}; false: {len(false)}."
    yield from (f"- {each}" for each in false)


def _line(
    kind: str, specimens: list[Specimen], judged: Mapping[tuple[str, int], dict], *, summed_up: bool = False
) -> str:
    cells, said = [], {}
    for length in LENGTHS:
        rows = [
            (s, judged[s.name, length])
            for s in specimens
            if (s.name, length) in judged and _is_judged(s, length)
        ]
        good = sum(is_right(s, r) for s, r in rows)
        low, high = wilson(good, len(rows))
        alarms = sum(bool(wrong(s, r)) for s, r in rows)
        cells.append(f"{good} of {len(rows)}" if rows else "–")
        if summed_up:
            cells[-1] += f" ({low:.3f} to {high:.3f}), {alarms} false alarm{'s' * (alarms != 1)}"
        for s, r in rows:
            if not is_right(s, r):
                name = f"{', '.join(r['fired']) or 'nothing'} at {length}"
                said[name] = said.get(name, 0) + 1
    others = "" if summed_up else "; ".join(f"{name} ({count})" for name, count in said.items())
    return f"| {kind} | {len(specimens)} | {' | '.join(cells)} | {others} |"


def _is_judged(specimen: Specimen, length: int) -> bool:
    """What only a floor shows was looked for once, with the longest text."""
    return not specimen.faults & {"undertrained", "rank_floor"} or length == max(LENGTHS)


def is_right(specimen: Specimen, row: dict) -> bool:
    """Whether what was said is the truth: the fault with its value, or nothing of a healthy one but its floor."""
    return right(specimen, row) if specimen.faults else not set(row["fired"]) - {"rank_floor"}


if __name__ == "__main__":
    validate()
