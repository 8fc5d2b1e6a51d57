"""Reconstruction: what a layer recovers, what its shape and its gate allow, what its parts are worth, what it predicts."""

from collections.abc import Sequence

import numpy as np

from npt_viz.question import Mode, Positions
from npt_viz.results.better import is_better, may_be_better
from npt_viz.results.downstream import Arm, Downstream
from npt_viz.results.estimate import DECIDING, median_of
from npt_viz.results.inspection import Inspection
from npt_viz.results.reconstruction import (
    AblationTable,
    ClassFloor,
    GateOracle,
    PositionsCompared,
    Reconstruction,
)
from npt_viz.results.sentences import NOTHING, Basis, Sentence, Strong, is_known, said, states
from npt_viz.results.sentences.tokens import layers_in_words, recovered_in_words
from npt_viz.results.words import counted, interval, nats, number, percent


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


def answer(
    result: PositionsCompared,
    run: Inspection,
    layer: int,
    *,
    with_sinks: bool = False,
    floors: Sequence[ClassFloor] = (),
) -> Sentence:
    """What the page says of one layer: what it recovers, what its shape allows, other positions, and KL to the base."""
    basis = Basis.of_run(run, with_sinks=with_sinks)
    share = reconstruction(
        result.runs[run.positions],
        layer,
        mode=run.mode,
        is_sink=run.is_sink,
        with_sinks=with_sinks,
        floors=floors,
    )
    return share + other_positions(result, layer, basis) + kl(run, basis)


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
        f"; this checkpoint recovers {percent(floor.adapter_recovered)} of the held-out tokens{floor.seen_note}"
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


@states("other positions")
def other_positions(result: PositionsCompared, layer: int, basis: Basis) -> Sentence:
    """What the layer recovers with the positions that are not chosen, and whether it was trained without any."""
    shares = {name: run.local[layer].recovered for name, run in result.runs.items()}
    medians = {name: median_of(basis.of(values)) for name, values in shares.items()}
    if not any(median.n for median in medians.values()):
        return NOTHING
    name = "trained" if basis.positions == "deployed" else "deployed"
    other = medians[name]
    gain = median_of(basis.of(shares["trained"]) - basis.of(shares["deployed"]), DECIDING)
    start = (
        f"With positions as {name} it recovers {percent(other.value)}{' ' * is_known(other)}{interval(other)} ({basis.text}, "
        f"local, median of {counted(other.n, 'token')})"
    )
    if is_better("positions", medians["deployed"], medians["trained"], gain):
        return said(
            f"{start}: it was ", Strong("trained on attention without positions"), ", which is not the attention it replaces."
        )  # fmt: skip
    if may_be_better("positions", medians["deployed"], medians["trained"], gain):
        return said(f"{start}: not enough tokens to tell whether it was trained without positions.")
    return said(
        f"{start}: no sign that it was trained without positions, because healthy layers differ by as much."
    )


@states("kl")
def kl(run: Inspection, basis: Basis) -> Sentence:
    """How far the NPT model's predictions are from the base's, at the typical token."""
    if run.kl is None:
        return NOTHING
    moved = median_of(basis.of(run.kl))
    if not moved.n:
        return NOTHING
    layers = layers_in_words(run.layers)
    spread = f" {interval(moved, nats)}" if is_known(moved) else ""
    return said(
        f"With {layers} run for real, KL to the base's prediction is ", Strong(nats(moved.value)),
        f"{spread} nats ({basis.text}, positions as {run.positions}, median of {counted(moved.n, 'token')}).",
    )  # fmt: skip


@states("ablations")
def ablations(table: AblationTable, *, positions: Positions = "deployed") -> Sentence:
    """What the scalar and the direction of a layer are worth on this prompt: each with its interval."""
    basis = Basis(positions=positions, is_sink=table.is_sink)
    shares = {row.name: median_of(basis.of(row.recovered)) for row in table.rows}
    own = shares[table.rows[0].name]
    if own.n == 0:
        return said(f"Layer {table.layer} has nothing to recover, so nothing of it can be missed.")
    parts = [
        f"; with {what} for all tokens {percent(shares[name].value)}{' ' * is_known(shares[name])}{interval(shares[name])}"
        for name, what in (("mean scalar", "one scalar"), ("mean direction", "one direction"))
        if name in shares
    ]
    return said(
        f"Layer {table.layer} recovers {percent(own.value)}{' ' * is_known(own)}{interval(own)}{''.join(parts)} "
        f"{basis.words(own.n)}."
    )


@states("gate oracle")
def gate_oracle(
    oracle: GateOracle, *, mode: Mode = "local", positions: Positions = "deployed", text: str = "this prompt"
) -> Sentence:
    """How far the gate alone could go at each token, and whether it is what limits the adapter."""
    error, moved = oracle.relative_error[-1], oracle.movement[-1]
    n = len(oracle.tokens)
    adapter = median_of(oracle.adapter_error).value
    moves = median_of(oracle.adapter_movement).value
    own = f"moves it by {number(moves)} times" if moves > 0 else "leaves the gate alone"
    start = (
        f"Layer {oracle.layer}: moved at each token by itself, the gate alone leaves a relative error of "
        f"{number(median_of(error).value)} and moves by {number(median_of(moved).value)} times its own norm; this adapter "
        f"leaves {number(adapter)} and {own} ({text}, {mode}, positions as {positions}, medians of {counted(n, 'token')})"
    )
    better = median_of(oracle.adapter_error - error)
    if better.low > 0:
        return said(
            f"{start}: the gate at a single token is not what limits this adapter, which has one set of weights for all tokens."
        )
    if better.high < 0:
        return said(f"{start}: the adapter does better than any gate could.")
    if not is_known(better):
        return said(f"{start}: too few tokens to tell whether the gate is what limits it.")
    return said(f"{start}: the best gate cannot be told from this adapter.")


@states("downstream")
def downstream(result: Downstream, arm: Arm, *, text: str = "this text") -> Sentence:
    """What an arm's modulation is worth to the prediction: KL with it on and off, token by token."""
    off, on = arm.off.kl, arm.npt.kl
    switched = "switching off the modulation of"
    dropped = {"withheld": "dropping the attention of", "beside": switched, "mlp_only": switched}
    kinds = {result.attention[layer] for layer in arm.layers}
    what = dropped.get(kinds.pop(), "switching off") if len(kinds) == 1 else "switching off"
    where = f"({text}, run for real, positions as {result.positions}, medians of {counted(len(on), 'token')})"
    start = f"{what.capitalize()} {arm.name} costs KL {nats(arm.off.median_kl)} nats"
    share = arm.share_recovered
    if not np.isfinite(share):
        return said(f"{start}: there is nothing to recover {where}.")
    start = f"{start}; with the modulation it is {nats(arm.npt.median_kl)}"
    saved = median_of(off - on)
    if not is_known(saved):
        return said(f"{start}; too few tokens to tell whether the modulation helps {where}.")
    if saved.high < 0 and share < 0:
        return said(f"{start}: it predicts worse than with no modulation at all {where}.")
    if not (saved.low > 0 and share > 0):
        return said(f"{start}: it cannot be told from no modulation at all {where}.")
    worth = "little" if share < 0.25 else "a part" if share < 0.75 else "most"
    return said(f"{start}: it recovers {percent(share)} of that, {worth} of the effect {where}.")
