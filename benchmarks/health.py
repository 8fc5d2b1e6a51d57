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
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM

import npt_viz
from benchmarks.specimens import LAYERS
from npt_viz.adapter import Additive, LayerAdapter, RankOneSum
from npt_viz.adapter.semantics import VARIANTS
from npt_viz.analysis.class_floor import class_floor
from npt_viz.analysis.health.evidence import Evidence
from npt_viz.analysis.health.gathering import layer_evidence
from npt_viz.analysis.health.rules import findings
from npt_viz.capture.probe import Seen, seen_by_base, windows
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.question import Positions
from npt_viz.results.estimate import wilson
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
    floor: bool = False

    @property
    def half(self) -> str:
        return "calibrated" if self.layer in CALIBRATED or self.truth in CALIBRATED else "held back"


class Shelf:
    """Adapters that benchmarks.specimens trained."""

    def __init__(self, folder: Path, model: BaseModel) -> None:
        self.folder, self.model = folder, model
        self._open: dict[str, Checkpoint] = {}

    def has(self, recipe: str) -> bool:
        return (self.folder / recipe / "npt_config.json").exists()

    def take(self, recipe: str, layer: int) -> LayerAdapter:
        if recipe not in self._open:
            self._open[recipe] = npt_viz.open_checkpoint(self.folder / recipe, self.model)
        return self._open[recipe].adapter(layer)


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
            # A gate of rank 8 in layer 23 recovers 0.08: little, and all that it can.
            floor=recipe == "N4-r64",
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
    yield Specimen(
        name=f"another base, {recipe} {layer}", layer=layer, made="run on another base model (no fingerprint)",
        faults=UNEXPLAINED, adapter=lambda: shelf.take(recipe, layer), base="other",
    )  # fmt: skip
    other = recipes[(i + 1) % len(recipes)]
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
    del other


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
    _seen: dict = field(default_factory=dict)

    @cached_property
    def other(self) -> BaseModel:
        """A base of the same shape with other weights."""
        torch.manual_seed(7)
        hf = AutoModelForCausalLM.from_config(self.model.config).eval().requires_grad_(False)
        return BaseModel(hf=hf, tokenizer=self.model.tokenizer, name="other", source="made in memory")

    def seen(self, base: BaseModel, length: int) -> Mapping[Positions, Seen]:
        if (base.name, length) not in self._seen:
            texts = bundled_texts("heldout")[-LENGTHS[length] :]
            cut = [ids[: length // LENGTHS[length]] for ids in windows(base, texts, LENGTHS[length])]
            self._seen[base.name, length] = seen_by_base(base, cut, range(base.n_layers))
        return self._seen[base.name, length]

    def fired(self, specimen: Specimen, length: int) -> dict:
        base = self.model if specimen.base == "own" else self.other
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
        evidence = Evidence(load=report, layers=measured)
        found = list(findings(evidence))
        n_sentences, false = false_findings(
            base,
            {specimen.layer: adapter},
            saw_of(self.seen(base, length)),
            evidence,
            found,
            texts="bundled text",
        )
        return {
            "fired": {each.rule: each.evidence.get("value") for each in found},
            "sentences": [each.meaning for each in found],
            "checked": n_sentences,
            "false": false,
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
    parser.add_argument("--no-floor", action="store_true")
    parser.add_argument("--document", action="store_true", help="write docs/health.md and judge nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = npt_viz.open_model("smollm2-135m")
    made = list(specimens(Shelf(options.folder, model)))
    kept = options.folder / "judged.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    judged = {(row["name"], row["length"]): row for row in map(json.loads, lines)}
    if not options.document:
        judge = Judge(options.folder, model)
        with kept.open("a", encoding="utf-8") as file:
            for length in options.lengths:
                for each in made:
                    if options.half not in (None, each.half) or (each.name, length) in judged:
                        continue
                    if options.no_floor:
                        each = replace(each, floor=False)
                    row = {"name": each.name, "length": length} | judge.fired(each, length)
                    judged[each.name, length] = row
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
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
    return specimen.faults != {"undertrained"} or length == max(LENGTHS)


def is_right(specimen: Specimen, row: dict) -> bool:
    """Whether what was said is the truth: the fault with its value, or nothing of a healthy one but its floor."""
    return right(specimen, row) if specimen.faults else not set(row["fired"]) - {"rank_floor"}


if __name__ == "__main__":
    validate()
