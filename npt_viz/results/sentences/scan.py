"""Sentences that state what holds over a corpus, and how two scans of it differ."""

import math

from npt_viz.results.scan import ScanComparison, ScanResult
from npt_viz.results.sentences import Quoted, Sentence, Strong, said, states
from npt_viz.results.words import counted, number, percent


@states("scan")
def scan(result: ScanResult, layer: int | None = None) -> Sentence:
    """What a layer recovers over a corpus, and what the running NPT model predicts.

    layer: the highest by default.
    """
    layer = max(result.layers) if layer is None else layer
    start = () if result.is_finished else ("So far: ",)
    return said(*start, *_of_layer(result, layer), *_of_prediction(result), " ", _basis(result))


def _of_layer(result: ScanResult, layer: int) -> tuple[str, ...]:
    middle, low = (result.quantile(f"{layer} recovered", level) for level in (0.5, 0.05))
    if not math.isfinite(middle):
        error = result.quantile(f"{layer} relative_error", 0.5)
        return (
            f"Layer {layer} has no share to recover; its relative error at the median token is ",
            Strong(number(error)),
            ".",
        )
    return (
        f"Layer {layer} recovers ",
        Strong(f"{percent(middle)} of the attention effect"),
        f" at the median token; at one token in twenty it is below {percent(low)}.",
    )


def _of_prediction(result: ScanResult) -> tuple[str, ...]:
    if not result.has("nll_change") or not math.isfinite(result.mean("nll_change")):
        return ()
    change, half = result.mean("nll_change"), result.half_width("nll_change")
    texts = int(result.n_clusters[result.index("nll_change")])
    interval = (
        f"[{number(change - half)}, {number(change + half)}] over {counted(texts, 'text')}"
        if math.isfinite(half)
        else f"{counted(texts, 'text')}: too few for an interval"
    )
    return (
        " Run for real, the NPT model has ",
        Strong(
            f"perplexity {number(result.perplexity('npt'))} beside the base's {number(result.perplexity('base'))}"
        ),
        f" (NLL {number(change)} nats a token, {interval}) and expects the base's next token at "
        f"{percent(result.mean('agrees'))} of the tokens.",
    )


def _basis(result: ScanResult) -> str:
    sinks = f"{counted(result.n_sinks, 'sink')} left out" if result.n_sinks else "no attention sink"
    return (
        f"({counted(result.n_tokens - result.n_sinks, 'token')} of {counted(result.n_texts, 'text')} of the corpus, {result.mode}, "
        f"positions as {result.positions}, {sinks})"
    )


@states("scan_comparison")
def scan_comparison(comparison: ScanComparison, key: str) -> Sentence:
    """Whether one number is higher in B than in A."""
    found = comparison.of(key)
    where = "" if found.quantity.layer is None else f" of layer {found.quantity.layer}"
    label = found.quantity.label[0].upper() + found.quantity.label[1:]
    names = (
        f"{found.a:.4g} in A ({comparison.a.checkpoint}) and {found.b:.4g} in B ({comparison.b.checkpoint})"
    )
    texts = f"{counted(found.n_clusters, 'text')}, {'text by text' if comparison.is_paired else 'not paired'}"
    if found.verdict == "the same":
        end: tuple[str, ...] = ("they are ", Strong("the same"), ".")
    elif not math.isfinite(found.half_width):
        end = (f"{texts}: too few to tell.",)
    else:
        low, high = (found.difference + sign * found.half_width for sign in (-1, 1))
        told = f"is {found.verdict}" if found.verdict != "cannot tell" else "cannot be told from A"
        end = (
            f"B − A is {number(found.difference)} [{number(low)}, {number(high)}] ({texts}): B ",
            Strong(told),
            ".",
        )
    bases = [_basis(each) for each in (comparison.a, comparison.b)]
    measured_on = f"Both {bases[0]}" if bases[0] == bases[1] else f"A {bases[0]}, B {bases[1]}"
    return said(Quoted(f"{label}{where}: mean {names}; "), *end, f" {measured_on}.")
