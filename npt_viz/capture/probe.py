"""What does an adapter fit? It is tried as it stands and in every other way, on the base's own activations.

A conclusion is drawn from an interval over tokens, never from a point, and a near tie is undecided (docs/health.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from npt_viz.adapter import LayerAdapter, MlpTrace, Semantics, mlp_reads_attention
from npt_viz.adapter.amplified import Amplified
from npt_viz.arguments import checked
from npt_viz.capture.alternatives import Trial, trials
from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import BASE, LayerTrace, attention_sinks, fit_of, layer_run, mlp_input_of
from npt_viz.capture.running import LayerRecord, forward_pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.checkpoint.meaning import Choice
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.progress import Progress, no_progress
from npt_viz.question import Positions
from npt_viz.results.better import NO_SHARE, is_better, may_be_better
from npt_viz.results.estimate import DECIDING, compared, median_of
from npt_viz.results.probe import Alternative, LayerProbe, Probe, Verdict
from npt_viz.texts import bundled_texts

WINDOW = 160
"""Tokens of a sequence: far enough for RoPE to matter."""

SEQUENCES = 2
"""Windows that are read, here and by health: a layer has one share recovered, and one n."""

MIN_TOKENS = 20
"""Tokens below which nothing is said: the deciding interval of fewer has no room between its ends."""


@dataclass(frozen=True)
class Seen:
    """What the base's layers saw on some texts, for one setting of positions."""

    records: Sequence[Mapping[int, LayerRecord]]
    """One a text: layer -> its record. The first text has every layer, the others those that were asked for."""

    def sinks(self, layer: int) -> Tensor:
        """(token,) bool, of all texts: attention sinks of the stream that enters the layer."""
        return torch.cat([attention_sinks(text[layer].hidden[BASE]) for text in self.records])


@checked
def probe(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    texts: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    progress: Progress = no_progress,
) -> Probe:
    """What every NPT layer fits: itself, itself otherwise (sign, size, swapped parts, positions, reading), or another layer.

    texts: the last bundled ones by default, of which two windows of 160 tokens are read; the same of your own.
    Takes the time of two to four bare passes for one layer (docs/health.md).

    Raises NptVizError for a layer that the checkpoint does not have, and where the model overflows.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    sequences = windows(model, bundled_texts("heldout")[-SEQUENCES:] if texts is None else texts, SEQUENCES)
    named = "bundled text" if texts is None else "your text"
    progress("running the base with and without RoPE", 0.0)
    adapters = adapters_of(checkpoint, layers)
    both = seen_by_base(model, sequences, list(adapters))
    found = {}
    for i, (layer, adapter) in enumerate(adapters.items()):
        progress(f"trying layer {layer} in other ways", 0.3 + 0.7 * i / len(adapters))
        found[layer] = probed_layer(model, adapter, both, named)
    sinks = both["deployed"].sinks(next(iter(adapters)))
    return Probe(
        model=model.name,
        checkpoint=checkpoint.name,
        layers=found,
        n_tokens=len(sinks),
        n_sinks=int(sinks.sum()),
        texts=named,
    )


def probed(checkpoint: Checkpoint, model: BaseModel) -> Checkpoint:
    """The checkpoint read as each layer fits; a layer that decides nothing keeps its reading. The evidence joins the
    report's warnings."""
    found = probe(model, checkpoint).layers
    choices = {
        layer: reading
        for layer, each in found.items()
        if (reading := reading_of(each, checkpoint.semantics(layer)))
    }
    return checkpoint.with_semantics(
        choices,
        provenance="probe",
        notes=[_about_reading(each, layer in choices) for layer, each in found.items()],
    )


def reading_of(found: LayerProbe, semantics: Semantics) -> Choice | None:
    """The reading that the layer fits clearly better than every other; None where that cannot be said."""
    if found.verdict == "something else" and found.fits[0].kind == "reading":
        return found.fits[0].value if isinstance(found.fits[0].value, str) else None
    readings = [each for each in found.alternatives if each.kind == "reading"]
    clear = all(each.gain.high < 0 for each in readings) and found.as_it_is.recovered.low > NO_SHARE
    return semantics if found.verdict in ("as it is", "undecided") and readings and clear else None


def _about_reading(found: LayerProbe, decided: bool) -> str:
    readings = [each for each in found.alternatives if each.kind == "reading"]
    figures = ", ".join(f"{each.figure} {each.name}" for each in (found.as_it_is, *readings))
    if not readings:
        return f"layer {found.layer}: its tensors have one reading only"
    verdict = "the probe decided" if decided else "undecided by the probe, the reading stays as it was"
    return f"layer {found.layer}: {verdict}; recovered {figures} ({found.setting})"


def windows(model: BaseModel, texts: Sequence[str], most: int) -> list[list[int]]:
    """Token ids, cut into windows; the first window of each text before the second of any.

    Raises NptVizError where no text has a token.
    """
    window = min(WINDOW, model.context_length)
    encoded = [text_ids(model, text) for text in texts]
    if not any(encoded):
        raise NptVizError(
            "the texts have no token; give at least one text, or none at all for the bundled ones"
        )
    starts = [(start, i) for i, ids in enumerate(encoded) for start in range(0, len(ids), window)]
    return [encoded[i][start : start + window] for start, i in sorted(starts)[:most]]


def seen_by_base(
    model: BaseModel, sequences: Sequence[Sequence[int]], layers: Sequence[int]
) -> dict[Positions, Seen]:
    """Positions -> what the base saw: one pass a sequence, and one without RoPE."""
    every = range(model.n_layers)
    recorded: dict[Positions, Sequence[Sequence[int]]] = {
        "deployed": [every if i == 0 else layers for i in range(len(sequences))],
        "trained": [layers] * len(sequences),
    }
    return {
        positions: Seen(
            [
                forward_pass(
                    model,
                    torch.tensor([list(ids)]),
                    record=record,
                    positions=positions,
                    stop_after=max(record),
                ).layers
                for ids, record in zip(sequences, records, strict=True)
            ]
        )
        for positions, records in recorded.items()
    }


@torch.no_grad()
def probed_layer(
    model: BaseModel, adapter: LayerAdapter, seen: Mapping[Positions, Seen], texts: str = "the text"
) -> LayerProbe:
    """One layer in every way."""
    bench = Bench(model, adapter, seen)
    with model.lock:
        shares_of = {trial: bench.shares(trial) for trial in trials(adapter, model.n_layers)}
    own = next(iter(shares_of.values()))
    if adapter.attention == "standard":  # With its modulation off it is the base's own layer already.
        own = np.zeros_like(own)
    tried = [(_alternative(trial, own, shares), shares) for trial, shares in shares_of.items()]
    verdict, fits = _judged(tried, own)
    if adapter.attention == "standard" and not fits:
        verdict = "not judged"
    as_it_is, *others = (alternative for alternative, _ in tried)
    return LayerProbe(
        layer=adapter.layer,
        variant=adapter.variant,
        verdict=verdict,
        fits=fits,
        alternatives=(as_it_is, *sorted(others, key=_by_share)),
        texts=texts,
    )


class Bench:
    """Runs one layer's adapter in other ways on what the base saw; the caller holds the model's lock."""

    def __init__(self, model: BaseModel, adapter: LayerAdapter, seen: Mapping[Positions, Seen]) -> None:
        self.model, self.seen = model, seen
        self._counted = (~seen["deployed"].sinks(adapter.layer)).numpy()
        self._plain: dict[tuple[bool, int], MlpTrace] = {}
        self._changes: dict[tuple[str, nn.Module, bool, int], Known] = {}
        self._own = adapter

    def shares(self, trial: Trial) -> np.ndarray:
        """(token,) share recovered at the tokens that are no sinks; NaN at tokens on which the way was not tried."""
        shares, start = np.full(len(self._counted), np.nan, np.float32), 0
        # Other layers are tried on the first text alone.
        for i, text in enumerate(self.seen[trial.positions].records):
            if trial.adapter.layer not in text:
                break
            try:
                trace = self._trace(trial, i, text[trial.adapter.layer])
            except NotFiniteError:
                if trial.kind == "as it is":
                    raise
                break  # In this way it overflows, so it does not fit.
            part = fit_of(trial.adapter, trace)["recovered"]
            shares[start : start + len(part)] = part
            start += len(part)
        return shares[self._counted]

    def _trace(self, trial: Trial, i: int, record: LayerRecord) -> LayerTrace:
        """One text; what all ways share that feed the MLP alike is computed once: the base's own MLP, and the changes that
        a size or a sign multiplies."""
        adapter, key = trial.adapter, (mlp_reads_attention(trial.adapter.attention), i)
        is_shared = adapter.layer == self._own.layer and trial.positions == "deployed"
        plain = self._plain.get(key) if is_shared else None
        if plain and not adapter.is_pooled:
            adapter = self._knowing(adapter, key, plain, record)
        run = layer_run(self.model, adapter, record, BASE, plain=plain)
        if is_shared:
            self._plain[key] = run.plain
        return run.trace

    def _knowing(
        self, adapter: LayerAdapter, key: tuple[bool, int], plain: MlpTrace, record: LayerRecord
    ) -> LayerAdapter:
        """The adapter with the changes of gate and up known where its modulations are the own ones, amplified or not."""
        own, modulations = set(self._own.modulations.values()), dict(adapter.modulations.items())
        for target, unmodulated in (("gate", plain.gate), ("up", plain.up)):
            module = modulations.get(target)
            inner = module.modulation if isinstance(module, Amplified) else module
            if inner not in own:
                continue
            if (target, inner, *key) not in self._changes:
                attention, mlp_input = self._inputs(adapter, record)
                alone = LayerAdapter(adapter.layer, adapter.semantics, {target: inner})
                change = alone.change(target, attention, mlp_input, unmodulated)
                self._changes[target, inner, *key] = Known(change)
            known = self._changes[target, inner, *key]
            modulations[target] = Amplified(known, module.factor) if isinstance(module, Amplified) else known
        return LayerAdapter(adapter.layer, adapter.semantics, modulations)

    def _inputs(self, adapter: LayerAdapter, record: LayerRecord) -> tuple[Tensor, Tensor]:
        """a, and what the MLP reads."""
        hidden, attention = record.hidden[BASE], record.attention[BASE]
        return attention, mlp_input_of(self.model.parts(adapter.layer), hidden, attention, adapter.attention)


class Known(nn.Module):
    """A change that was computed before, on the tokens that are asked for."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = nn.Parameter(known, requires_grad=False)

    def change(self, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        return self.known


def _alternative(trial: Trial, own: np.ndarray, shares: np.ndarray) -> Alternative:
    return Alternative(
        kind=trial.kind,
        name=trial.name,
        recovered=median_of(shares),
        gain=median_of(shares - own, DECIDING),
        value=trial.value,
        target=trial.target,
    )


def _judged(
    tried: Sequence[tuple[Alternative, np.ndarray]], own: np.ndarray
) -> tuple[Verdict, tuple[Alternative, ...]]:
    """The verdict, and what fits better than the adapter as it is: several where they are a near tie."""
    as_it_is, *others = (alternative for alternative, _ in tried)
    shares_of = {each.name: shares for each, shares in tried}
    own_share = as_it_is.recovered
    better = [
        each
        for each in others
        if is_better(each.kind, own_share, each.recovered, each.gain, in_part=each.target is not None)
    ]
    if better:
        fits = _best_of(better, shares_of)
        return ("something else" if len(fits) == 1 else "undecided"), fits
    if any(
        may_be_better(each.kind, own_share, each.recovered, each.gain, in_part=each.target is not None)
        for each in others
    ):
        return "undecided", ()
    return ("nothing" if own_share.high < NO_SHARE else "as it is"), ()


def _best_of(better: Sequence[Alternative], shares_of: Mapping[str, np.ndarray]) -> tuple[Alternative, ...]:
    """The best, and what cannot be told from it; the sizes of one kind are steps of one thing, layers are not."""
    best = max(better, key=lambda each: each.recovered.value)
    rivals = [
        each
        for each in better
        if each is not best
        and (each.kind != best.kind or best.kind == "layer")
        and compared(shares_of[each.name], shares_of[best.name]) != "more"
    ]
    return best, *sorted(rivals, key=_by_share)


def _by_share(alternative: Alternative) -> float:
    value = alternative.recovered.value
    return -value if np.isfinite(value) else np.inf
