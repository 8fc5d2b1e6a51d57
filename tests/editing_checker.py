"""Clauses about an edit: whether its fact is written, what leaks, what the stored weights keep, a line of the ledger; from raw columns.

Data of "scorecard": `rows` (part, hit), `expected`, `predicted`, `perplexity` (before, after), `kl`, `n`; of "leakage": `effects`
(rule -> (token,) effect elsewhere / effect at the source), `parameter`, `mode`, `positions`; of "realised": `kept` (dtype -> (ΔW,
W + ΔW as stored less W as stored) of each weight, dense); of "ledger entry": `number`, `rule`, `layers`, `sources`, `alpha`, `text`.
"""

import math
import re

import numpy as np
from sentence_checker import (
    COUNT,
    KL,
    NUMBER,
    PERCENT,
    TENTHS,
    TEXT,
    clause,
    is_count,
    is_fixed,
    is_kl,
    is_percent,
    is_three_digits,
)

SCORE = rf"(?:reliability|generalisation|locality|portability) \d+ of \d+ \[(?:{PERCENT}), (?:{PERCENT})\]"
CARD = (
    rf": (?P<scores>{SCORE}(?:, {SCORE})*); perplexity (?:(?P<verb>rises|falls) from (?P<before>{NUMBER}) to (?P<after>{NUMBER})|stays "
    rf"(?P<same>{NUMBER})), mean KL (?P<kl>{KL}) nats, on (?P<n>{COUNT}) tokens? of neutral text \(run for real, positions as "
    r"deployed; 95 % intervals\)\."
)


def wilson_ends(hits: int, n: int) -> tuple[float, float]:
    """Both p with (p̂ − p)² = 1.96² p (1 − p) / n: Wilson's interval from its definition."""
    z2 = 1.959964**2 / n
    share = hits / n
    low, high = sorted(np.roots([1 + z2, -(2 * share + z2), share**2]).real)
    return float(low), float(high)


def card(found: dict, data: dict) -> bool:
    """Whether the prompt says what it should; everything else is checked."""
    parts = list(dict.fromkeys(part for part, _ in data["rows"]))
    said = re.findall(rf"(\w+) (\d+) of (\d+) \[({PERCENT}), ({PERCENT})\]", found["scores"])
    assert [each[0] for each in said] == parts
    for part, hits, n, low, high in said:
        own = [hit for other, hit in data["rows"] if other == part]
        is_count(hits, sum(own)), is_count(n, len(own))
        for shown, end in zip((low, high), wilson_ends(sum(own), len(own)), strict=True):
            is_percent(shown, end)
    before, after = data["perplexity"]
    if found["same"]:
        is_three_digits(found["same"], before), is_three_digits(found["same"], after)
    else:
        assert (found["verb"] == "rises") == (after > before)
        is_three_digits(found["before"], before), is_three_digits(found["after"], after)
        assert found["before"] != found["after"], "both are shown alike"
    is_kl(found["kl"], data["kl"])
    is_count(found["n"], data["n"])
    assert found["expected"] == data["expected"]
    return next(hit for part, hit in data["rows"] if part == "reliability")


@clause(
    "scorecard",
    rf"The edited model says (?P<expected>{TEXT}) after the prompt{CARD}",
    compares="stays below",
)
def _written(found, data):
    assert card(found, data)


@clause(
    "scorecard",
    rf"The edited model does not say (?P<expected>{TEXT}) after the prompt, but (?P<predicted>{TEXT}){CARD}",
    compares="stays below",
)
def _not_written(found, data):
    assert not card(found, data) and found["predicted"] == data["predicted"]


RMS = rf"(?:{NUMBER}) with the key [a-z ]+"


@clause(
    "leakage",
    rf"On other tokens an update of (?P<parameter>\S+) has this part of its effect at the source \(rms\): (?P<rows>{RMS}(?:, {RMS})*)"
    rf"(?:; (?P<least>[a-z ]+) leaks least)? \((?P<n>{COUNT}) tokens of reference text, sinks left out; (?P<mode>local|propagated), "
    r"positions as (?P<positions>deployed|trained)\)\.",
    compares="least",
)
def _leakage(found, data):
    rms = {rule: math.sqrt(np.mean(np.square(each))) for rule, each in data["effects"].items()}
    said = re.findall(rf"({NUMBER}) with the key ([a-z ]+)(?:, |$)", found["rows"])
    assert [rule for _, rule in said] == list(rms)
    for shown, rule in said:
        is_three_digits(shown, rms[rule])
    least = min(rms, key=rms.__getitem__)
    shown = {rule: text for text, rule in said}
    told_apart = sorted(rms.values())[:2] if len(rms) > 1 else [0, 0]
    if found["least"]:
        assert found["least"] == least and sum(text == shown[least] for text in shown.values()) == 1
    else:
        assert len(rms) == 1 or math.isclose(*told_apart, rel_tol=0.01)
    is_count(found["n"], len(next(iter(data["effects"].values()))))
    assert found["parameter"] == data["parameter"]
    assert (found["mode"], found["positions"]) == (data["mode"], data["positions"])


KEPT = rf"\w+ (?:no finite weight|nothing, as nothing is asked for|nothing, as no entry changes|a cosine of -?\d\.\d{{3}}, with (?:{TENTHS}) of the entries changed)"


@clause(
    "realised",
    rf"Of the requested ΔW (?:(?P<one>the weight)|the worst of (?P<n>\d+) weights) keeps, by the dtype in which it is stored: "
    rf"(?P<kept>{KEPT}(?:; {KEPT})*)\.",
    compares="worst no nothing all changes",
)
def _realised(found, data):
    said = dict(each.split(" ", 1) for each in found["kept"].split("; "))
    assert list(said) == list(data["kept"])
    for dtype, weights in data["kept"].items():
        assert (found["one"] is not None) == (len(weights) == 1)
        if found["n"]:
            is_count(found["n"], len(weights))
        if not all(np.isfinite(change).all() for _, change in weights):
            assert said[dtype] == "no finite weight"
            continue
        asked, change = min(weights, key=lambda each: cosine(*each))
        if not asked.any():
            assert said[dtype] == "nothing, as nothing is asked for"
        elif not change.any():
            assert said[dtype] == "nothing, as no entry changes"
        else:
            shown = re.match(rf"a cosine of (-?\d\.\d{{3}}), with ({TENTHS})", said[dtype])
            is_fixed(shown[1], cosine(asked, change), 3)
            is_percent(shown[2], float((change != 0).mean()), 1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """−∞ where one of them is zero."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size else -math.inf


@clause(
    "ledger entry",
    r"#(?P<number>\d+): (?P<rule>[a-z ]+), layers? (?P<layers>\d+(?:, \d+)*), token (?P<sources>.+?), α = (?P<alpha>[-\d.e+]+), from “(?P<text>.*)”",
)
def _entry(found, data):
    is_count(found["number"], data["number"])
    assert found["rule"] == data["rule"]
    assert [int(each) for each in found["layers"].split(", ")] == list(data["layers"])
    shown = " ".join(f"{glyph} #{position}" for glyph, position in data["sources"][:4])
    more = f" and {len(data['sources']) - 4} more" if len(data["sources"]) > 4 else ""
    assert found["sources"] == shown + more
    assert math.isclose(float(found["alpha"]), data["alpha"], rel_tol=1e-5)
    assert found["text"] == data["text"]
