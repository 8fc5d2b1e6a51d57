"""Reconstruction: what a layer recovers, what its shape allows, and which positions it fits."""

from collections.abc import Sequence

import numpy as np

from npt_viz.question import Mode
from npt_viz.results.better import is_better, may_be_better
from npt_viz.results.estimate import DECIDING, median_of
from npt_viz.results.reconstruction import ClassFloor, PositionsCompared, Reconstruction
from npt_viz.results.sentences import NOTHING, Basis, Sentence, is_known, said, states
from npt_viz.results.sentences.tokens import recovered_in_words
from npt_viz.results.words import counted, interval, percent


@states("reconstruction")
def reconstruction(
    result: Reconstruction,
    layer: int,
    *,
    mode: Mode = "local",
    is_sink: np.ndarray | None = None,
    with_sinks: bool = False,
    floors: Sequence[ClassFloor] = (),
) -> Sentence:
    """What the layer recovers on the prompt; on the same held-out tokens it, its shape and larger ones.

    is_sink: of the prompt, where `result` counts them. floors: the adapter's own shape first, then larger ones.
    """
    fit = result.fits(mode)[layer]
    if fit.problem:
        return said(fit.problem)
    basis = Basis(
        mode=mode,
        positions=result.positions,
        is_sink=result.is_sink if is_sink is None else is_sink,
        with_sinks=with_sinks,
    )
    share = median_of(basis.of(fit.recovered))
    sentence = said(*recovered_in_words(layer, share, basis), f", where it has to write {fit.reconstructs}.")
    return sentence + (_allowed(floors) if floors else said("What its shape allows is not estimated yet."))


def _allowed(floors: Sequence[ClassFloor]) -> Sentence:
    own, *larger = floors
    # Another text than the prompt, so the checkpoint's own number there comes first.
    start = (
        f"On {counted(own.n_heldout, 'held-out token')} of the sample (local, positions as {own.positions}, sinks left out) "
        f"it recovers {percent(own.adapter_recovered)}{own.seen_note}"
    )
    rest = "".join(
        f"; {'+'.join(floor.targets)} allows at least {percent(floor.allows)}"
        if floor.is_good
        else f"; the fit of {'+'.join(floor.targets)} is no good, so it says nothing"
        for floor in larger
    )
    if not own.is_good:
        return said(
            f"{start}; a fresh fit of its shape ({own.shape}) is no good ({percent(own.recovered)} there, "
            f"{percent(own.recovered_train)} of its own text), so what the shape allows is not known{rest}."
        )
    return said(
        f"{start}; a fresh fit of its shape ({own.shape}) {percent(own.recovered)}, so the shape allows at least "
        f"{percent(own.allows)}{rest}."
    )


@states("class floor")
def class_floor(floor: ClassFloor) -> Sentence:
    """What was estimated, how, from how much, and whether the fit is any good."""
    fit = (
        f"{floor.shape}: a fit of {floor.steps} steps on {floor.n_train:,} tokens recovers {percent(floor.recovered)} of "
        f"{floor.n_heldout:,} held-out tokens and {percent(floor.recovered_train)} of its own (medians, local, positions as "
        f"{floor.positions}, sinks left out, seed {floor.seed})"
    )
    known = np.isfinite(floor.adapter_recovered)
    own = (
        f"; this checkpoint recovers {percent(floor.adapter_recovered)} of the held-out tokens"
        if known
        else ""
    )
    if not floor.is_good:
        return said(f"{fit}{own}. The fit is no good, so it says nothing about what the shape allows.")
    more = ", less than this short fit: more training can help" if floor.shows_more else ""
    return said(f"{fit}{own}{more}. The shape allows at least {percent(floor.allows)}.")


@states("positions")
def positions(result: PositionsCompared, layer: int, basis: Basis) -> Sentence:
    """Which positions the layer was trained for, or that the tokens are too few to tell."""
    shares = {name: run.local[layer].recovered for name, run in result.runs.items()}
    medians = {name: median_of(basis.of(values)) for name, values in shares.items()}
    start = " and ".join(
        f"{percent(median.value)}{' ' * is_known(median)}{interval(median)} with positions as {name}"
        for name, median in medians.items()
    )
    if not any(median.n for median in medians.values()):
        return NOTHING
    gain = median_of(basis.of(shares["trained"]) - basis.of(shares["deployed"]), DECIDING)
    where = f"({basis.text}, local, medians and 95 % intervals of {counted(gain.n, 'token')})"
    start = f"Layer {layer} recovers {start} {where}"
    if is_better("positions", medians["deployed"], medians["trained"], gain):
        return said(
            f"{start}: without RoPE it recovers more at the typical token by {percent(gain.value)} "
            f"{interval(gain)} (99.9 %), so it was trained on attention without positions, which is not the attention it "
            "replaces."
        )
    if may_be_better("positions", medians["deployed"], medians["trained"], gain):
        return said(
            f"{start}: not enough tokens to tell whether it was trained without positions; a longer text can."
        )
    return said(
        f"{start}: no sign that it was trained without positions; the gain at the typical token is {percent(gain.value)} "
        f"{interval(gain)} (99.9 %), which healthy layers show, too."
    )
