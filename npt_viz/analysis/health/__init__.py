"""Is this checkpoint healthy? Evidence is measured once (gathering), judged by pure rules (rules)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from npt_viz.analysis.class_floor import class_floor
from npt_viz.analysis.downstream import cost as cost_downstream
from npt_viz.analysis.health.evidence import Evidence, LayerEvidence
from npt_viz.analysis.health.gathering import EACH_ALONE, layer_evidence, predicted
from npt_viz.analysis.health.load_rules import overflow
from npt_viz.analysis.health.rules import findings
from npt_viz.arguments import checked
from npt_viz.capture.inspection import layers_of
from npt_viz.capture.probe import SEQUENCES, WINDOW, seen_by_base, windows
from npt_viz.capture.running import refuse_pooled
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.progress import Progress, no_progress
from npt_viz.results.health import HealthReport, ordered
from npt_viz.results.load_report import LoadReport
from npt_viz.results.sentences.probe import probe as probe_in_words
from npt_viz.texts import bundled_texts

__all__ = ["cost", "health"]

NO_FLOOR = "what each layer's shape allows was not estimated (rank_floor, undertrained)"
"""A note; how to ask for it is another thing in a browser and in a terminal."""

QUICK_LAYERS = 4
"""Layers that a quick look tries, evenly spaced; all where there are no more."""

MIN_TOKENS = 32
"""Tokens that are no sinks; medians of fewer say little."""


@checked
def health(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    texts: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    floor: bool = False,
    quick: bool = False,
    progress: Progress = no_progress,
) -> HealthReport:
    """Everything that the rules find wrong with a checkpoint, the worst first.

    texts: the last bundled ones, which no demo checkpoint has seen, by default; the windows that the probe reads.
    floor: also train a fresh adapter of each layer's shape for a moment, to tell what the shape allows; takes minutes.
    quick: one window, QUICK_LAYERS layers, and the NPT model is not run: what the file, the weights and the probe tell.

    A value that is not finite is a finding, and then nothing else is judged but the load.

    Raises NptVizError for a layer that the checkpoint does not have, and text too short to judge by.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    started = time.monotonic()
    try:
        return _examined(model, checkpoint, texts, layers, floor, quick, progress, started)
    except NotFiniteError as error:
        load = Evidence(load=checkpoint.report, layers=())
        report = _report(model, checkpoint, load, [], 0, started, ["nothing but the load was judged"])
        return replace(report, findings=ordered((*report.findings, overflow(error))))


def _examined(
    model: BaseModel,
    checkpoint: Checkpoint,
    texts: Sequence[str] | None,
    layers: Sequence[int] | None,
    floor: bool,
    quick: bool,
    progress: Progress,
    started: float,
) -> HealthReport:
    progress("reading the weights", 0.0)
    load = checkpoint.report
    broken = {report.layer for report in load.layers if not report.finite}
    wanted = [layer for layer in layers_of(checkpoint, layers) if layer not in broken]
    usable = evenly_spaced(wanted, QUICK_LAYERS) if quick else wanted
    if not usable:
        return _report(
            model, checkpoint, Evidence(load=load, layers=()), [], 0, started, _notes(load, usable)
        )
    text = bundled_texts("heldout")[-SEQUENCES:] if texts is None else texts
    named = "bundled text" if texts is None else "your text"
    sequences = windows(model, text, 1 if quick else SEQUENCES)
    n_left = sum(len(text_ids(model, each)) for each in text) - sum(map(len, sequences))
    adapters = {layer: checkpoint.adapter(layer) for layer in usable}
    refuse_pooled(adapters.values(), "judges the tokens of several texts together")
    progress("running the base with and without RoPE", 0.1)
    seen = seen_by_base(model, sequences, usable)
    is_sink = seen["deployed"].sinks(usable[0])
    _refuse_short(int((~is_sink).sum()))
    reports = {report.layer: report for report in load.layers}
    measured = []
    for i, (layer, adapter) in enumerate(adapters.items()):
        progress(f"trying layer {layer} as it is and in other ways", 0.3 + 0.4 * i / len(adapters))
        fit = (
            class_floor(model, adapter, texts or bundled_texts(), recipe=checkpoint.recipe)
            if floor and _has_floor(adapter)
            else None
        )
        with model.lock:
            measured.append(layer_evidence(model, adapter, reports[layer], seen, fit, texts=named))
    if quick:
        evidence = Evidence(load=load, layers=tuple(measured))
        notes = [*_notes(load, usable, measured=measured), *left_to_the_whole(wanted, usable)]
        return _report(model, checkpoint, evidence, sequences, int(is_sink.sum()), started, notes)
    progress("running the NPT model", 0.7)
    ran = predicted(
        model, checkpoint, usable, sequences,
        progress=lambda done, in_all: progress("running the NPT model", 0.7 + 0.3 * done / in_all),
    )  # fmt: skip
    evidence = Evidence(load=load, layers=tuple(measured), predicted=ran)
    notes = _notes(
        load, usable, floor=floor, n_left=n_left if texts else 0, adapters=adapters, measured=measured
    )
    return _report(model, checkpoint, evidence, sequences, int(is_sink.sum()), started, notes)


def evenly_spaced(layers: Sequence[int], most: int) -> list[int]:
    """At most so many of the layers, the first and the last among them."""
    if len(layers) <= most:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (most - 1))] for i in range(most)]


def cost(model: BaseModel, layers: Sequence[int], *, quick: bool = False) -> float:
    """Tokens of forward passes of the base model that `health` takes with the bundled texts; about."""
    if quick:
        return min(WINDOW, model.context_length) * (2 + 2.5 * min(len(layers), QUICK_LAYERS))
    n_tokens = SEQUENCES * min(WINDOW, model.context_length)
    together = cost_downstream(model, layers, n_tokens, each_layer=len(layers) <= EACH_ALONE, cascade=False)
    # The base with and without RoPE, the alternatives of every layer, then the prediction.
    return n_tokens * (2 + 2.5 * len(layers) + together)


def _report(
    model, checkpoint: Checkpoint, evidence: Evidence, sequences, n_sinks: int, started: float, notes
) -> HealthReport:
    return HealthReport(
        model=model.name,
        checkpoint=checkpoint.name,
        layers=tuple(each.layer for each in evidence.layers),
        findings=ordered(findings(evidence)),
        n_tokens=sum(map(len, sequences)),
        n_sinks=n_sinks,
        n_sequences=len(sequences),
        seconds=time.monotonic() - started,
        texts=next((each.probe.texts for each in evidence.layers), HealthReport.texts),
        probes={each.layer: each.probe for each in evidence.layers},
        notes=tuple(notes),
    )


def left_to_the_whole(wanted: Sequence[int], usable: Sequence[int]) -> Iterator[str]:
    """Notes on what a quick look leaves out."""
    yield "a quick look: the NPT model was not run, so what it does to predictions was not judged"
    if left := [layer for layer in wanted if layer not in usable]:
        yield f"not looked at: layer{'s' * (len(left) > 1)} {', '.join(map(str, left))}"


def _refuse_short(n_tokens: int) -> None:
    if n_tokens < MIN_TOKENS:
        raise NptVizError(
            f"the text has {n_tokens} tokens that are no attention sinks; health needs at least {MIN_TOKENS}: give "
            "more text"
        )


def _has_floor(adapter) -> bool:
    return adapter.attention != "standard"


def _notes(
    load: LoadReport,
    usable: Sequence[int],
    *,
    floor: bool = True,
    n_left: int = 0,
    adapters=None,
    measured: Sequence[LayerEvidence] = (),
) -> Iterator[str]:
    for report in load.layers:
        if not report.finite:
            yield f"layer {report.layer} has weights that are not finite and was not run"
    if not usable:
        return
    if n_left:
        yield f"{n_left:,} more tokens of the text were not read"
    for layer, adapter in (adapters or {}).items():
        if adapter.attention == "standard":
            yield (
                f"layer {layer} keeps attention in its standard path: there is nothing to recover, and the rules about "
                "its fit do not apply"
            )
    if len(usable) > EACH_ALONE:
        yield f"more than {EACH_ALONE} NPT layers: the prediction was measured with all together, not with each alone"
    for each in measured:
        if each.probe.verdict == "undecided" and not each.probe.fits:
            yield str(probe_in_words(each.probe))
        if each.floor is not None and each.floor.problem:
            yield f"layer {each.layer}: what its shape allows cannot be told, because {each.floor.problem}"
    if not floor:
        yield NO_FLOOR
