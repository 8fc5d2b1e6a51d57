"""Clauses of the sentences about scans, recomputed from every token's own numbers."""

import math
import re

import numpy as np
from sentence_checker import (
    COUNT,
    NBSP,
    NUMBER,
    PERCENT,
    T_975,
    clause,
    is_count,
    is_three_digits,
    number,
)

ERROR = 0.002
"""What a quantile of a scan may be off, of its own size."""


def is_about_percent(text: str, value: float) -> None:
    assert abs(number(text) - 100 * value) <= 0.5 + 100 * ERROR * abs(value) + 1e-6, (
        f"{text} is {100 * value}"
    )


def is_end(text: str, value: float, half: float) -> None:
    """The end of an interval; the table of Student's t has three decimals."""
    size = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    assert abs(number(text) - value) <= 0.5001 * size + 3e-4 * half, f"{text} is {value}"


def kept(data: dict, column: str, side: str = "values") -> tuple[np.ndarray, np.ndarray]:
    """(values, texts) of the tokens that count."""
    values = data[side][column]
    counts = np.isfinite(values) & ~data["is_sink"]
    return values[counts], data["text"][counts]


def rank(values: np.ndarray, level: float) -> float:
    return sorted(values)[math.floor(level * (len(values) - 1))]


def half_width(values: np.ndarray, texts: np.ndarray) -> float:
    """Of the mean over texts, written out: NaN of fewer than eight."""
    names = sorted(set(texts))
    if len(names) < 8:
        return math.nan
    mean = values.mean()
    errors = [values[texts == name].sum() - mean * (texts == name).sum() for name in names]
    n = len(names)
    return T_975[n - 1] * math.sqrt(n / (n - 1) * sum(error**2 for error in errors)) / len(values)


SHARE = (
    rf"(?P<so_far>So far: )?Layer (?P<layer>\d+) recovers (?P<middle>{PERCENT}) of the attention effect at the median token; "
    rf"at one token in twenty it is below (?P<low>{PERCENT})\."
)


@clause("scan", SHARE, compares="recovers below")
def _share(found, data):
    values, _ = kept(data, "recovered")
    assert bool(found["so_far"]) != data["is_finished"] and int(found["layer"]) == data["layer"]
    is_about_percent(found["middle"], rank(values, 0.5))
    is_about_percent(found["low"], rank(values, 0.05))


NO_SHARE = (
    r"(?P<so_far>So far: )?Layer (?P<layer>\d+) has no share to recover; its relative error at the median token is "
    rf"(?P<error>{NUMBER})\."
)


@clause("scan", NO_SHARE, compares="no")
def _no_share(found, data):
    assert not len(kept(data, "recovered")[0])
    assert bool(found["so_far"]) != data["is_finished"] and int(found["layer"]) == data["layer"]
    error = rank(kept(data, "relative_error")[0], 0.5)
    assert abs(number(found["error"]) - error) <= (0.005 + ERROR) * error


PREDICTED = (
    rf"Run for real, the NPT model has perplexity (?P<npt>{NUMBER}) beside the base's (?P<base>{NUMBER}) \(NLL (?P<change>"
    rf"{NUMBER}) nats a token, (?:\[(?P<from>{NUMBER}), (?P<to>{NUMBER})\] over (?P<n>{COUNT}) texts|(?P<few>{COUNT}) "
    rf"texts?: too few for an interval)\) and expects the base's next token at (?P<agrees>{PERCENT}) of the tokens\."
)


@clause("scan", PREDICTED, compares="few")
def _predicted(found, data):
    change, texts = kept(data, "nll_change")
    for lane in ("base", "npt"):
        is_three_digits(found[lane], math.exp(kept(data, f"nll_{lane}")[0].mean()))
    is_three_digits(found["change"], change.mean())
    half, n = half_width(change, texts), len(set(texts))
    assert math.isfinite(half) == (found["few"] is None)
    is_count(found["n"] or found["few"], n)
    if found["few"] is None:
        is_end(found["from"], change.mean() - half, half)
        is_end(found["to"], change.mean() + half, half)
    assert abs(number(found["agrees"]) - 100 * kept(data, "agrees")[0].mean()) <= 0.5 + 1e-6


BASIS_OF_SCAN = (
    rf"\((?P<tokens>{COUNT}) tokens? of (?P<texts>{COUNT}) texts? of the corpus, (?P<mode>local|propagated), positions as "
    rf"(?P<positions>deployed|trained), (?:(?P<sinks>{COUNT}) sinks? left out|(?P<none>no attention sink))\)"
)


@clause("scan", BASIS_OF_SCAN, compares="no")
def _measured_on(found, data):
    is_count(found["tokens"], int((~data["is_sink"]).sum()))
    is_count(found["texts"], len(set(data["text"])))
    assert (found["mode"], found["positions"]) == (data["mode"], data["positions"])
    assert (found["none"] is not None) == (not data["is_sink"].any())
    if found["sinks"]:
        is_count(found["sinks"], int(data["is_sink"].sum()))


NAMED_BASIS = re.sub(r"\(\?P<\w+>", "(?:", BASIS_OF_SCAN)


@clause("scan_comparison", rf"Both (?P<basis>{NAMED_BASIS})\.", compares="no")
def _both_measured_on(found, data):
    assert data["modes"][0] == data["modes"][1]
    _measured_on(re.fullmatch(BASIS_OF_SCAN, found["basis"]).groupdict(), data | {"mode": data["modes"][0]})


@clause("scan_comparison", rf"A (?P<a>{NAMED_BASIS}), B (?P<b>{NAMED_BASIS})\.", compares="no")
def _each_measured_on(found, data):
    assert data["modes"][0] != data["modes"][1]
    for side, mode in zip("ab", data["modes"], strict=True):
        _measured_on(re.fullmatch(BASIS_OF_SCAN, found[side]).groupdict(), data | {"mode": mode})


COMPARED = (
    rf"(?P<label>Share recovered|KL\(base ‖ NPT\))(?: of layer (?P<layer>\d+))?: mean (?P<a>{NUMBER}) in A \((?P<name_a>\w+)\) and "
    rf"(?P<b>{NUMBER}) in B \((?P<name_b>\w+)\); "
)


def compared(found, data):
    """(values of A, of B, texts), held against the means that are said."""
    column = {"Share recovered": "recovered", "KL(base ‖ NPT)": "kl"}[found["label"]]
    assert (int(found["layer"]) if found["layer"] else None) == (
        data["layer"] if column == "recovered" else None
    )
    sides = [kept(data, column, side) for side in ("a", "b")]
    for side, (values, _) in zip("ab", sides, strict=True):
        assert found[f"name_{side}"] == data[f"name_{side}"]
        assert abs(number(found[side]) - values.mean()) <= 5e-4 * abs(values.mean())
    return sides[0][0], sides[1][0], sides[0][1]


@clause("scan_comparison", COMPARED + r"they are the same\.", compares="")
def _same(found, data):
    a, b, _ = compared(found, data)
    assert np.array_equal(a, b) and data["is_paired"]


TEXTS = rf"(?P<n>{COUNT}) texts?, (?P<how>text by text|not paired)"


@clause("scan_comparison", COMPARED + TEXTS + r": too few to tell\.", compares="few")
def _too_few(found, data):
    _, _, texts = compared(found, data)
    is_count(found["n"], len(set(texts)))
    assert len(set(texts)) < 8 and (found["how"] == "text by text") == data["is_paired"]


@clause(
    "scan_comparison",
    COMPARED
    + rf"B − A is (?P<d>{NUMBER}) \[(?P<from>{NUMBER}), (?P<to>{NUMBER})\] \({TEXTS}\): B (?:is (?P<told>higher|lower)|(?P<not>cannot be "
    r"told from A))\.",
    compares="higher lower cannot",
)
def _difference(found, data):
    a, b, texts = compared(found, data)
    is_count(found["n"], len(set(texts)))
    assert (found["how"] == "text by text") == data["is_paired"]
    half = (
        half_width(b - a, texts)
        if data["is_paired"]
        else math.hypot(half_width(a, texts), half_width(b, texts))
    )
    difference = b.mean() - a.mean()
    is_three_digits(found["d"], difference)
    is_end(found["from"], difference - half, half)
    is_end(found["to"], difference + half, half)
    told = "cannot" if abs(difference) <= half else "higher" if difference > 0 else "lower"
    assert told == (found["told"] or "cannot")


assert re.match(PERCENT, f"41{NBSP}%")
