"""Answers in one sentence, computed from results; token text is in code spans, safe as Markdown."""

import numpy as np

from npt_viz.figures.theme import number
from npt_viz.results.reconstruction import percent
from npt_viz.ui.shell.text import code
from npt_viz.ui.widgets.view import View


def tokens(view: View) -> str:
    """Share that one layer recovers on this prompt, and the token where the prediction moves most."""
    return " ".join(filter(None, [_achieved(view), _among_layers(view), _moved(view)]))


def typical(values: np.ndarray, left_out: np.ndarray) -> tuple[float, int]:
    """Median of the finite values of the tokens that count, and the number of these tokens."""
    kept = np.asarray(values)[~left_out]
    kept = kept[np.isfinite(kept)]
    return (float(np.median(kept)), len(kept)) if len(kept) else (float("nan"), 0)


def _achieved(view: View) -> str:
    inspected, layer = view.run.layers[view.layer], view.layer
    recovered, n = typical(inspected.recovered, view.left_out)
    if n == 0:
        # Where the attention path is the base model's, there is nothing to recover.
        change, n = typical(inspected.gate_change, view.left_out)
        return (
            f"Layer {layer} keeps the base model's attention; its modulation moves the gate by "
            f"**{percent(change)}** of its size ({_median_of(n, view)})."
        )
    if recovered < -0.005:
        return (
            f"Layer {layer} is **worse than no modulation**: its squared error is {1 - recovered:.2f} times that of "
            f"leaving attention out ({_median_of(n, view)})."
        )
    return f"Layer {layer} recovers **{percent(max(recovered, 0))}** of what attention does on this prompt ({_median_of(n, view)})."


def _among_layers(view: View) -> str:
    medians = {
        layer: typical(inspected.recovered, view.left_out)[0] for layer, inspected in view.run.layers.items()
    }
    medians = {layer: median for layer, median in medians.items() if np.isfinite(median)}
    if len(medians) < 2:
        return ""
    best, worst = max(medians, key=medians.get), min(medians, key=medians.get)
    return (
        f"Of the {len(medians)} NPT layers, {best} recovers most ({percent(medians[best])}) and {worst} least "
        f"({percent(medians[worst])})."
    )


def largest(values: np.ndarray, left_out: np.ndarray) -> int:
    """Token with the largest finite value among those that count, or among all where none counts."""
    counts = np.isfinite(values) & ~left_out
    if not counts.any():
        counts = np.isfinite(values)
    return int(np.argmax(np.where(counts, values, -np.inf)))


def _moved(view: View) -> str:
    run, kl = view.run, view.run.kl
    if kl is None or not np.isfinite(kl).any():
        return ""
    token = largest(kl, view.left_out)
    layers = [str(layer) for layer in run.layers]
    which = f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(layers)} together"
    sink = int(np.nanargmax(kl))
    # A sink is left out of the ranking, not of the truth.
    besides = "" if sink == token else f"; {number(kl[sink])} after the sink {code(run.tokens[sink])}"
    return (
        f"With {which} run for real, the prediction moves most after {code(run.tokens[token])} "
        f"(KL **{number(kl[token])}** nats{besides})."
    )


def _median_of(n: int, view: View) -> str:
    sinks = int(view.left_out.sum())
    left_out = ["", ", sink left out"][sinks] if sinks < 2 else f", {sinks} sinks left out"
    return f"{view.question.mode}, median over {n:,} token{'s' * (n != 1)}{left_out}"
