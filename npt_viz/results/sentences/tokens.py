"""Tokens: what one layer recovers on a prompt, the range of all layers, and where the prediction moves most."""

from collections.abc import Collection

import numpy as np

from npt_viz.results.estimate import median_of
from npt_viz.results.inspection import Inspection
from npt_viz.results.sentences import NOTHING, Basis, Exact, Sentence, Strong, is_known, said, states
from npt_viz.results.words import ROUNDING_KL, counted, interval, nats, number, percent


@states("tokens")
def tokens(run: Inspection, layer: int, *, with_sinks: bool = False) -> Sentence:
    """Share that one layer recovers on this prompt, and the token after which the prediction moves most."""
    basis = Basis.of_run(run, with_sinks=with_sinks)
    return _recovered(run, layer, basis) + _among_layers(run, basis) + _moved(run, basis)


def _recovered(run: Inspection, layer: int, basis: Basis) -> Sentence:
    inspected = run.layers[layer]
    share = median_of(basis.of(inspected.recovered))
    if share.n == 0:
        change, target = median_of(basis.of(inspected.gate_change)), inspected.main_target
        of_size = f" {interval(change)}" if is_known(change) else ""
        return said(
            f"Layer {layer} has nothing to recover: without its modulation it already writes what the base's layer does. It "
            f"moves the {target} by ", Strong(percent(change.value)), f"{of_size} of its size {basis.words(change.n)}.",
        )  # fmt: skip
    return said(*recovered_in_words(layer, share, basis), ".")


def recovered_in_words(layer: int, share, basis: Basis) -> tuple[str, ...]:
    """What a layer recovers, as the interval allows to say it; without a full stop."""
    where = basis.words(share.n)
    if not is_known(share):
        return (
            f"{counted(share.n, 'token')} {'is' if share.n == 1 else 'are'} too few to tell what layer {layer} recovers; "
            f"the median is {percent(share.value)} {where}",
        )
    if share.high < 0:
        return (
            f"Layer {layer} is ", Strong("worse than no modulation"), ": its squared error is "
            f"{number(1 - share.value)} [{number(1 - share.high)}, {number(1 - share.low)}] times that of leaving attention "
            f"out {where}",
        )  # fmt: skip
    if share.low <= 0:
        return (
            f"Layer {layer} cannot be told from no modulation: it recovers ", Strong(percent(share.value)),
            f" {interval(share)} of what attention does {where}",
        )  # fmt: skip
    return (
        f"Layer {layer} recovers ", Strong(percent(share.value)),
        f" {interval(share)} of what attention does {where}",
    )  # fmt: skip


def _among_layers(run: Inspection, basis: Basis) -> Sentence:
    medians = {layer: median_of(basis.of(found.recovered)).value for layer, found in run.layers.items()}
    medians = {layer: median for layer, median in medians.items() if np.isfinite(median)}
    if len(medians) < 2:
        return NOTHING
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return said(
        f"The medians of the {len(medians)} NPT layers lie between {percent(medians[low])} (layer {low}) and "
        f"{percent(medians[high])} (layer {high})."
    )


def largest(values: np.ndarray, left_out: np.ndarray) -> int:
    """Token with the largest finite value among those that count, or among all where none counts."""
    counts = np.isfinite(values) & ~left_out
    if not counts.any():
        counts = np.isfinite(values)
    return int(np.argmax(np.where(counts, values, -np.inf)))


def most_moved(run: Inspection, *, with_sinks: bool = False) -> int:
    """Token that is pinned at first: where the prediction moves most among those that count, or the last one."""
    if run.kl is None:
        return len(run.pieces) - 1
    return largest(run.kl, ~Basis.of_run(run, with_sinks=with_sinks).counts)


def layers_in_words(layers: Collection[int]) -> str:
    """layer 15; layers 10, 15 together"""
    names = ", ".join(map(str, layers))
    return f"layer {names}" if len(layers) == 1 else f"layers {names} together"


def _moved(run: Inspection, basis: Basis) -> Sentence:
    kl = run.kl
    if kl is None or not np.isfinite(kl).any():
        return NOTHING
    token, sink = largest(kl, ~basis.counts), int(np.nanargmax(kl))
    which = layers_in_words(run.layers)
    if kl[sink] < ROUNDING_KL:
        return said(
            f"With {which} run for real, no prediction moves beyond rounding (KL {nats(kl[sink])} nats)."
        )
    parts = [
        f"With {which} run for real, the prediction moves most after ",
        Exact(run.tokens[token]),
        f" #{token} (KL ",
        Strong(nats(kl[token])),
        " nats",
    ]
    if sink != token:  # A sink is left out of the ranking, not of the truth.
        parts += [f"; {nats(kl[sink])} after the sink ", Exact(run.tokens[sink]), f" #{sink}"]
    return said(*parts, ").")
