"""Reads a sentence back: every number and every word that compares is recomputed from the data, by other means.

A sentence has to be made of clauses that are listed here, word by word; one that has any other word is refused. Words
that compare may stand in a clause only where its check recomputes them (`compares`), which tests/results/sentences holds
by turning them, and every number, into others.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEXICON = {
    "most", "least", "more", "less", "better", "worse", "best", "worst", "half", "stays", "changes", "raises", "lowers",
    "times", "within", "between", "no", "nothing", "cannot", "few", "differs", "collapsed", "alike", "lost", "all", "below",
    "recovers", "allows", "good", "higher", "lower", "enough", "moves",
}  # fmt: skip
"""Words that a reader takes for a finding."""

OPPOSITE = {
    "most": "least", "least": "most", "better": "worse", "worse": "better", "best": "worst", "worst": "best",
    "raises": "lowers", "lowers": "raises", "stays": "changes from", "within": "less than", "times": "tenths of",
    "less than": "within", "not told from": "within", "recovers": "loses", "is good": "is no good", "is no good": "is good",
    "no sign": "a sign", "nothing": "something", "left out": "counted", "counted": "left out", "allows": "forbids",
    "too few": "enough", "not enough": "enough", "has collapsed": "has not collapsed", "deployed": "trained",
    "trained": "deployed", "no more": "more", "fits that": "fits nothing", "fits nothing": "fits that", "local": "propagated", "propagated": "local", "more": "less", "cannot be told": "can be told",
    "differs": "does not differ", "little": "much", "alike": "apart", "last": "first", "rises": "falls", "falls": "rises", "No token": "Every token",
    "below": "above", "holds": "fails", "is broken": "holds", "says": "does not say", "leaks least": "leaks most", "leaks": "keeps",
    "every": "no", "further": "nearer", "another one": "the same",
}  # fmt: skip
"""Each turned, the sentence has to be refused."""


class Refused(AssertionError):
    """The sentence says what its data do not."""


class Clause(NamedTuple):
    """A part of a sentence, its numbers in named groups, and what holds it against the data."""

    pattern: str
    check: Callable[[dict, dict], None]
    compares: frozenset[str]
    """Words of the pattern that the check recomputes."""


GRAMMAR: dict[str, list[Clause]] = {}
"""Name of a sentence -> its clauses."""


def clause(name: str, pattern: str, *, compares: str = ""):
    """Register the check of one clause of one sentence."""

    def registered(check):
        GRAMMAR.setdefault(name, []).append(Clause(pattern, check, frozenset(compares.split())))
        return check

    return registered


def check(name: str, sentence, data: dict) -> list[Clause]:
    """Hold a sentence against its data; the clauses that it is made of. Raises Refused."""
    rest, used = str(sentence), []
    while rest:
        for each in GRAMMAR.get(name, ()):
            if (match := re.match(each.pattern, rest)) and match.end():
                try:
                    each.check(match.groupdict(), data)
                except (AssertionError, KeyError, ValueError, IndexError, TypeError, StopIteration) as error:
                    raise Refused(f"{match[0]!r}: {error}") from error
                rest, used = rest[match.end() :].lstrip(" "), [*used, each]
                break
        else:
            raise Refused(f"no clause reads {rest!r}")
    return used


# False sentences, which have to be refused.


def wrong_numbers(text: str):
    """The text with one of its numbers turned into another, each in turn."""
    for match in re.finditer(r"(?<![\w.])[\d,]*\d(?:\.\d+)?", text):
        number = match[0]
        for other in (number[:-1] + str((int(number[-1]) + 4) % 10), f"7{number}"):
            yield text[: match.start()] + other + text[match.end() :]


def turned(text: str):
    """The text with one of its words turned into its opposite, each in turn."""
    for word, other in OPPOSITE.items():
        for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text):
            yield text[: match.start()] + other + text[match.end() :]


# Numbers as they are printed.

NBSP = "\N{NO-BREAK SPACE}"
PERCENT = rf"−?\d+{NBSP}%|–"
TENTHS = rf"\d+\.\d{NBSP}%"
NUMBER = r"[−-]?[\d,]+(?:\.\d+)?(?:e[+-]?\d+)?|–"
COUNT = r"[\d,]+"
KL = rf"below 1e-07|{NUMBER}"
TEXT = r"[^ ]+(?: [^ ]+)*?"


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "").replace(NBSP, "").removesuffix("%"))


def is_percent(text: str, value: float, digits: int = 0) -> None:
    assert abs(number(text) - 100 * value) <= 0.5 * 10.0**-digits + 1e-6, f"{text} is {100 * value}"


def is_three_digits(text: str, value: float) -> None:
    size = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 1e-12
    # Above a thousand whole numbers are shown, below a ten-thousandth two digits.
    size = 1.0 if 1000 <= abs(value) < 1e7 else 10 * size if 0 < abs(value) < 1e-4 else size
    assert abs(number(text) - value) <= 0.5001 * size, f"{text} is {value}"


def is_kl(text: str, value: float) -> None:
    """Three digits; what float32 cannot tell from rounding is only said to be small."""
    if text.startswith("below"):
        assert 0 <= value < 1.01e-7, f"{text} is {value}"
    else:
        assert value == 0 or value > 0.99e-7
        is_three_digits(text, value)


def is_fixed(text: str, value: float, digits: int) -> None:
    assert abs(number(text) - value) <= 0.5 * 10.0**-digits + 1e-6, f"{text} is {value}"


def is_count(text: str, value: int) -> None:
    assert number(text) == value, f"{text} is {value}"


# Medians and their intervals, literally.


def interval(values, confidence=0.95):
    """(median, low, high, n): the narrowest symmetric pair of order statistics that covers with this probability."""
    kept = sorted(float(v) for v in np.ravel(values) if math.isfinite(v))
    n, found = len(kept), (-math.inf, math.inf)
    tail = 0
    for k in range(n // 2):
        tail += math.comb(n, k)
        if 2 * tail / 2**n > 1 - confidence:
            break
        found = kept[k], kept[n - 1 - k]
    middle = math.nan if not n else (kept[(n - 1) // 2] + kept[n // 2]) / 2
    return middle, *found, n


BASIS = (
    r"\((?P<text>this prompt), (?P<mode>local|propagated), positions as (?P<positions>deployed|trained), (?:median and 95 % "
    rf"interval of|over) (?P<n>{COUNT}) tokens?, (?:(?P<sinks>no attention sink)|(?P<n_sinks>\d+) sinks? "
    r"(?P<fate>left out|counted))\)"
)


def counted(data):
    """(token,) bool: which tokens count."""
    is_sink = np.asarray(data["is_sink"])
    return np.ones(len(is_sink), bool) if data["with_sinks"] or all(is_sink) else ~is_sink


def basis(found, data, n):
    is_count(found["n"], n)
    assert (found["mode"], found["positions"]) == (data["mode"], data["positions"])
    n_sinks = sum(bool(each) for each in data["is_sink"])
    if n_sinks == 0:
        assert found["sinks"]
    else:
        is_count(found["n_sinks"], n_sinks)
        assert (found["fate"] == "left out") == (sum(counted(data)) < len(data["is_sink"]))


# What a layer recovers: Tokens and Reconstruction.


def shares(data):
    return interval(np.asarray(data["recovered"])[counted(data)])


def recovered(found, data):
    median, low, high, n = shares(data)
    assert int(found["layer"]) == data["layer"]
    for name, value in {"share": median, "low": low, "high": high}.items():
        if found.get(name):
            is_percent(found[name], value)
    basis(found, data, n)
    return low, high


RECOVERED = (
    rf"(?P<share>{PERCENT}) \[(?P<low>{PERCENT}), (?P<high>{PERCENT})\] of what attention does {BASIS}"
)


def _positive(found, data):
    low, _ = recovered(found, data)
    assert low > 0
    _written(found, data)


def _untold(found, data):
    low, high = recovered(found, data)
    assert low <= 0 <= high
    _written(found, data)


def _worse(found, data):
    median, low, high, n = shares(data)
    assert high < 0 and int(found["layer"]) == data["layer"]
    for name, value in {"times": 1 - median, "from": 1 - high, "to": 1 - low}.items():
        is_three_digits(found[name], value)
    basis(found, data, n)
    _written(found, data)


def _few(found, data):
    median, low, _, n = shares(data)
    assert not math.isfinite(low) and int(found["layer"]) == data["layer"]
    is_count(found["few"], n)
    is_percent(found["share"], median)
    basis(found, data, n)
    _written(found, data)


def _written(found, data):
    if "writes" in found:
        assert found["writes"] == data["reconstructs"]


for page, end in {
    "tokens": r"\.",
    "reconstruction": r", where it has to write (?P<writes>.+?(?:\)|MLP\(z_C\)))\.",
}.items():
    clause(page, rf"Layer (?P<layer>\d+) recovers {RECOVERED}{end}", compares="recovers")(_positive)
    clause(
        page,
        rf"Layer (?P<layer>\d+) cannot be told from no modulation: it recovers {RECOVERED}{end}",
        compares="cannot no recovers",
    )(_untold)
    clause(
        page,
        rf"Layer (?P<layer>\d+) is worse than no modulation: its squared error is (?P<times>{NUMBER}) \[(?P<from>{NUMBER}), "
        rf"(?P<to>{NUMBER})\] times that of leaving attention out {BASIS}{end}",
        compares="worse no times",
    )(_worse)
    clause(
        page,
        rf"(?P<few>{COUNT}) tokens? (?:is|are) too few to tell what layer (?P<layer>\d+) recovers; the median is "
        rf"(?P<share>{PERCENT}) {BASIS}{end}",
        compares="few recovers",
    )(_few)


@clause(
    "tokens",
    r"Layer (?P<layer>\d+) has nothing to recover: without its modulation it already writes what the base's layer does\. It "
    rf"moves the (?P<target>gate|up|down) by (?P<share>{PERCENT})(?: \[(?P<low>{PERCENT}), (?P<high>{PERCENT})\])? of its "
    rf"size {BASIS}\.",
    compares="nothing moves",
)
def _nothing_to_recover(found, data):
    assert not np.isfinite(np.asarray(data["recovered"])[counted(data)]).any()
    assert int(found["layer"]) == data["layer"] and found["target"] == data["target"]
    median, low, high, n = interval(np.asarray(data["gate_change"])[counted(data)])
    is_percent(found["share"], median)
    assert (found["low"] is not None) == math.isfinite(low)
    if found["low"]:
        is_percent(found["low"], low), is_percent(found["high"], high)
    basis(found, data, n)


@clause(
    "tokens",
    rf"The medians of the (?P<n>\d+) NPT layers lie between (?P<low>{PERCENT}) \(layer (?P<lowest>\d+)\) and "
    rf"(?P<high>{PERCENT}) \(layer (?P<highest>\d+)\)\.",
    compares="between",
)
def _among(found, data):
    medians = {
        layer: interval(np.asarray(each)[counted(data)])[0] for layer, each in data["recovered_of"].items()
    }
    medians = {layer: median for layer, median in medians.items() if math.isfinite(median)}
    assert int(found["n"]) == len(medians) >= 2
    low, high = medians[int(found["lowest"])], medians[int(found["highest"])]
    assert all(low <= median <= high for median in medians.values())
    is_percent(found["low"], low), is_percent(found["high"], high)


LAYERS = r"layers? (?P<layers>\d+(?:, \d+)*)(?: together)?"


def _ran(found, data):
    assert [int(each) for each in found["layers"].split(", ")] == sorted(data["recovered_of"])


@clause(
    "tokens",
    rf"With {LAYERS} run for real, the prediction moves most after (?P<glyph>{TEXT}) #(?P<token>\d+) \(KL (?P<kl>{KL}) "
    rf"nats(?:; (?P<sink_kl>{KL}) after the sink (?P<sink_glyph>{TEXT}) #(?P<sink>\d+))?\)\.",
    compares="moves most below",
)
def _moved(found, data):
    _ran(found, data)
    kl, counts, token = np.asarray(data["kl"], float), counted(data), int(found["token"])
    assert counts[token] and kl[token] == max(kl[counts]) and kl.max() > 0.99e-7
    assert found["glyph"] == data["tokens"][token]
    is_kl(found["kl"], kl[token])
    assert (found["sink"] is not None) == (kl[token] < kl.max())
    if found["sink"]:
        sink = int(found["sink"])
        assert data["is_sink"][sink] and kl[sink] == kl.max() and found["sink_glyph"] == data["tokens"][sink]
        is_kl(found["sink_kl"], kl[sink])


@clause(
    "tokens",
    rf"With {LAYERS} run for real, no prediction moves beyond rounding \(KL (?P<kl>{KL}) nats\)\.",
    compares="no moves below",
)
def _unmoved(found, data):
    _ran(found, data)
    assert np.max(data["kl"]) < 1.01e-7
    is_kl(found["kl"], np.max(data["kl"]))


# Reconstruction.


@clause("reconstruction", r"What its shape allows is not estimated yet\.", compares="allows")
def _no_floor(found, data):
    assert not data["floors"]


@clause(
    "reconstruction",
    r"Layer (?P<layer>\d+) \((?P<variant>.+?)\): without modulation this layer already writes its target, so there is "
    r"nothing to recover\. That is so where attention keeps its standard path\.",
    compares="nothing",
)
def _keeps(found, data):
    assert (int(found["layer"]), found["variant"]) == (data["layer"], data["variant"])
    assert not np.isfinite(data["recovered"]).any()


def fit_is_good(floor):
    """It learned (above 0.05 of held-out text) and did not remember its own text (at most 0.2 more of that)."""
    return floor.recovered > 0.05 and floor.recovered_train - floor.recovered <= 0.2


SHAPE = r"(?P<targets>[a-z+]+), rank (?P<rank>\d+), (?P<components>\d+) components?"


def shape(found, floor):
    assert found["targets"].split("+") == list(floor.targets)
    assert (int(found["rank"]), int(found["components"])) == (floor.rank, floor.components)


LARGER = rf"(?P<larger>(?:; (?:[a-z+]+ allows at least (?:{PERCENT})|the fit of [a-z+]+ is no good, so it says nothing))*)\."


def larger_floors(found, floors):
    said = [each for each in found["larger"].split("; ") if each]
    assert len(said) == len(floors)
    for each, floor in zip(said, floors, strict=True):
        name = "+".join(floor.targets)
        if fit_is_good(floor):
            start, share = each.rsplit("at least ", 1)
            assert start == f"{name} allows "
            is_percent(share, np.nanmax([floor.recovered, floor.adapter_recovered]))
        else:
            assert each == f"the fit of {name} is no good, so it says nothing"


def own_floor(found, data):
    own, *larger = data["floors"]
    is_count(found["n"], own.n_heldout)
    assert found["positions"] == own.positions
    is_percent(found["adapter"], own.adapter_recovered)
    is_percent(found["fit"], own.recovered)
    assert (found["seen"] or "") == own.seen_note
    shape(found, own)
    larger_floors(found, larger)
    return own


ON_HELDOUT = (
    rf"On (?P<n>{COUNT}) held-out tokens? of the sample \(local, positions as (?P<positions>deployed|trained), sinks left "
    rf"out\) it recovers (?P<adapter>{PERCENT})(?P<seen> \(.+?\))?; a fresh fit of its shape \({SHAPE}\) "
)


@clause(
    "reconstruction",
    rf"{ON_HELDOUT}(?P<fit>{PERCENT}), so the shape allows at least (?P<allows>{PERCENT}){LARGER}",
    compares="recovers allows least no good nothing",
)
def _floor(found, data):
    own = own_floor(found, data)
    assert fit_is_good(own)
    is_percent(found["allows"], np.nanmax([own.recovered, own.adapter_recovered]))


@clause(
    "reconstruction",
    rf"{ON_HELDOUT}is no good \((?P<fit>{PERCENT}) there, (?P<train>{PERCENT}) of its own text\), so what the shape allows is "
    rf"not known{LARGER}",
    compares="recovers allows least no good nothing",
)
def _bad_floor(found, data):
    own = own_floor(found, data)
    assert not fit_is_good(own)
    is_percent(found["train"], own.recovered_train)


FIT = (
    rf"{SHAPE}: a fit of (?P<steps>\d+) steps on (?P<n_train>{COUNT}) tokens recovers (?P<fit>{PERCENT}) of (?P<n>{COUNT}) "
    rf"held-out tokens and (?P<train>{PERCENT}) of its own \(medians, local, positions as (?P<positions>deployed|trained), "
    rf"sinks left out, seed (?P<seed>\d+)\)(?:; this checkpoint recovers (?P<adapter>{PERCENT}) of the held-out tokens(?P<seen> \(.+?\))?)?"
)


def fitted(found, floor):
    shape(found, floor)
    for name, value in {
        "steps": floor.steps,
        "n_train": floor.n_train,
        "n": floor.n_heldout,
        "seed": floor.seed,
    }.items():
        is_count(found[name], value)
    assert found["positions"] == floor.positions
    is_percent(found["fit"], floor.recovered), is_percent(found["train"], floor.recovered_train)
    assert (found["adapter"] is not None) == math.isfinite(floor.adapter_recovered)
    if found["adapter"]:
        is_percent(found["adapter"], floor.adapter_recovered)
        assert (found["seen"] or "") == floor.seen_note


@clause(
    "class floor",
    rf"{FIT}(?P<more>, less than this short fit: more training can help)?\. The shape allows at least (?P<allows>{PERCENT})\.",
    compares="recovers less more allows least",
)
def _class_floor(found, data):
    floor = data["floor"]
    fitted(found, floor)
    assert fit_is_good(floor)
    assert (found["more"] is not None) == (floor.recovered - floor.adapter_recovered > 0.02)
    is_percent(found["allows"], np.nanmax([floor.recovered, floor.adapter_recovered]))


@clause(
    "class floor",
    rf"{FIT}\. The fit is no good, so it says nothing about what the shape allows\.",
    compares="recovers no good nothing allows",
)
def _bad_class_floor(found, data):
    fitted(found, data["floor"])
    assert not fit_is_good(data["floor"])


POSITIONS = (
    rf"Layer (?P<layer>\d+) recovers (?P<deployed>{PERCENT})(?: \[(?P<deployed_low>{PERCENT}), (?P<deployed_high>{PERCENT})\])? "
    rf"with positions as deployed and (?P<trained>{PERCENT})(?: \[(?P<trained_low>{PERCENT}), (?P<trained_high>{PERCENT})\])? "
    rf"with positions as trained \(this prompt, local, medians and 95 % intervals of (?P<n>{COUNT}) tokens?\)"
)


def gain(found, data):
    """(median, low, high) of the gain token by token, at 99.9 %, and both shares likewise; the rest is checked."""
    kept, shares = counted(data), {}
    assert int(found["layer"]) == data["layer"]
    for name in ("deployed", "trained"):
        median, low, high, _ = interval(np.asarray(data[name])[kept])
        is_percent(found[name], median)
        assert (found[f"{name}_low"] is not None) == math.isfinite(low)
        if found[f"{name}_low"]:
            is_percent(found[f"{name}_low"], low), is_percent(found[f"{name}_high"], high)
        shares[name] = median, low, high
    difference = [t - d for t, d, keep in zip(data["trained"], data["deployed"], kept, strict=True) if keep]
    median, low, high, n = interval(difference, 0.999)
    is_count(found["n"], n)
    return (median, low, high), shares["deployed"], shares["trained"]


def without_rope(gain: float, deployed: float, trained: float) -> bool:
    """docs/health.md, word for word: 0.05 or more; by 0.2, or by 0.1 where hardly anything is recovered as deployed; or
    nearly all of what was left."""
    if trained <= 0.05:
        return False
    return (
        gain > 0.2
        or (deployed < 0.4 * trained and gain > 0.1)
        or (1 - trained < 0.2 * (1 - deployed) and gain > 0)
    )


@clause(
    "positions",
    rf"{POSITIONS}: without RoPE it recovers more at the typical token by (?P<by>{PERCENT}) \[(?P<low>{PERCENT}), "
    rf"(?P<high>{PERCENT})\] \(99\.9 %\), so it was trained on attention without positions, which is not the attention it "
    r"replaces\.",
    compares="recovers more",
)
def _without(found, data):
    (median, low, high), deployed, trained = gain(found, data)
    assert without_rope(low, deployed[2], trained[1])
    is_percent(found["by"], median), is_percent(found["low"], low), is_percent(found["high"], high)


@clause(
    "positions",
    rf"{POSITIONS}: no sign that it was trained without positions; the gain at the typical token is (?P<by>{PERCENT}) "
    rf"\[(?P<low>{PERCENT}), (?P<high>{PERCENT})\] \(99\.9 %\), which healthy layers show, too\.",
    compares="recovers no",
)
def _no_sign(found, data):
    (median, low, high), deployed, trained = gain(found, data)
    assert not without_rope(high, deployed[1], trained[2]), "the tokens have no power to say so"
    is_percent(found["by"], median), is_percent(found["low"], low), is_percent(found["high"], high)


@clause(
    "positions",
    rf"{POSITIONS}: not enough tokens to tell whether it was trained without positions; a longer text can\.",
    compares="recovers enough",
)
def _not_enough(found, data):
    (_, low, high), deployed, trained = gain(found, data)
    assert without_rope(high, deployed[1], trained[2]) and not without_rope(low, deployed[2], trained[1])


# Directions.

MODULATION = r"(?P<layer>\d+)'s (?P<target>gate|up|down) modulation"
SPREAD = (
    r"s·v_b uses (?P<used>\d+\.\d) directions, (?P<redrawn>\d+\.\d) if its weights were redrawn at random; one direction for "
    rf"all tokens would leave out (?P<left>{TENTHS}) of its energy and (?P<lost>{TENTHS}) of what it adds {BASIS}\."
)


def is_drawn(stated: float, n: int, again: tuple[float, float] | None, digits: int) -> None:
    """The mean of n random draws, against (mean, sd) of other draws."""
    if again is not None:
        mean, sd = again
        assert abs(stated - mean) <= 4 * sd * math.sqrt(1 / n + 1 / 32) + 10.0**-digits, f"{stated} is {mean}"


def spread(found, data):
    result = data["result"]
    assert (int(found["layer"]), found["target"]) == (result.layer, result.target)
    evidence = next(each for each in result.verdicts if each.name == "s·v_b").evidence
    (
        is_fixed(found["used"], evidence["effective rank"], 1),
        is_fixed(found["redrawn"], evidence["redrawn adapter"], 1),
    )
    is_drawn(evidence["redrawn adapter"], 4, data.get("redrawn"), 1)
    is_percent(found["lost"], evidence["lost with one direction"], 1)
    is_percent(found["left"], evidence["left out by one direction"], 1)
    basis(found, data, len(result.tokens))
    assert not any(each.collapsed for each in result.verdicts)
    if evidence["redrawn adapter"] < 1.1 or evidence["lost, at least"] == -math.inf:
        return "cannot be told"
    little = evidence["left out by one direction"] < 0.01 and evidence["lost, at most"] < 0.01
    return "differs little" if little else "differs"


@clause("directions", rf"Layer {MODULATION} differs from token to token: {SPREAD}", compares="differs all")
def _differs(found, data):
    assert spread(found, data) == "differs"


@clause(
    "directions", rf"Layer {MODULATION} differs little from token to token: {SPREAD}", compares="differs all"
)
def _differs_little(found, data):
    assert spread(found, data) == "differs little"


@clause(
    "directions",
    rf"Whether layer {MODULATION} differs from token to token cannot be told: {SPREAD}",
    compares="differs cannot all",
)
def _cannot_tell(found, data):
    assert spread(found, data) == "cannot be told"


@clause("directions", rf"Layer {MODULATION} has collapsed {BASIS}: (?P<why>.+)", compares="collapsed")
def _collapsed(found, data):
    """Each reason is the sentence of one verdict, which says what its evidence says."""
    result, rest = data["result"], found["why"]
    assert (int(found["layer"]), found["target"]) == (result.layer, result.target)
    fallen = [each for each in result.verdicts if each.collapsed]
    assert fallen
    for verdict in fallen:
        assert rest.startswith(verdict.sentence)
        rest = rest.removeprefix(verdict.sentence).lstrip()
        check(
            "verdict",
            verdict.sentence,
            {"verdict": verdict, "target": result.target, "n": len(result.tokens)},
        )
    assert not rest
    basis(found, data, len(result.tokens))


@clause(
    "directions",
    r"Its cosine with the exact (?P<formula>W_g \(z_C − z\)|W_u \(z_C − z\)|a) is (?P<cosine>-?\d\.\d\d) \[(?P<low>-?\d\.\d\d), "
    r"(?P<high>-?\d\.\d\d)\]; with the ΔW of other tokens (?P<shuffled>-?\d\.\d\d) \(medians\)\.",
)
def _agrees(found, data):
    exact = data["result"].exact
    median, low, high, _ = interval(exact.cosines)
    for name, value in {"cosine": median, "low": low, "high": high, "shuffled": exact.shuffled.mean}.items():
        is_fixed(found[name], value, 2)
    is_drawn(exact.shuffled.mean, 16, data.get("others"), 2)
    assert (
        found["formula"]
        == {"gate": "W_g (z_C − z)", "up": "W_u (z_C − z)", "down": "a"}[data["result"].target]
    )


@clause(
    "directions",
    rf"(?P<n>{COUNT}) tokens are too few to tell how far it points along the exact "
    r"(?P<formula>W_g \(z_C − z\)|W_u \(z_C − z\)|a)\.",
    compares="few",
)
def _few_cosines(found, data):
    _, low, _, n = interval(data["result"].exact.cosines)
    is_count(found["n"], n)
    assert not math.isfinite(low)
    assert (
        found["formula"]
        == {"gate": "W_g (z_C − z)", "up": "W_u (z_C − z)", "down": "a"}[data["result"].target]
    )


# Verdicts of collapse.


@clause(
    "verdict",
    r"The modulation is (?P<judged>too small to matter|large enough to matter): it moves the (?P<target>gate|up|down) by "
    r"(?P<size>[\d.e+-]+) of its size\.",
    compares="enough moves",
)
def _size(found, data):
    verdict = data["verdict"]
    (relative,) = verdict.evidence.values()
    assert math.isclose(float(found["size"]), relative, rel_tol=0.06) or relative == float(found["size"])
    assert found["target"] == data["target"]
    assert (found["judged"] == "too small to matter") == verdict.collapsed == (not relative >= 2.0**-9)


@clause(
    "verdict",
    r"The scalar(?: of the most varying of (?P<components>\d+) components)? (?P<judged>varies little|differs between tokens|is "
    r"the same at every token): mean (?P<mean>[-\d.e+]+), sd / \|mean\| (?P<variation>[-\d.e+]+)\.",
    compares="differs between most",
)
def _scalar(found, data):
    verdict = data["verdict"]
    variation = verdict.evidence["sd / |mean|"]
    assert math.isclose(float(found["mean"]), verdict.evidence["mean"], rel_tol=0.006)
    assert math.isclose(float(found["variation"]), variation, rel_tol=0.06)
    expected = (
        "is the same at every token"
        if variation < 2.0**-7
        else "varies little"
        if variation < 0.2
        else "differs between tokens"
    )
    assert found["judged"] == expected and verdict.collapsed == (variation < 2.0**-7)
    assert found["components"] is None or int(found["components"]) == data["components"]


@clause(
    "verdict",
    r"(?P<name>s·v_b|v_a), (?P<meaning>what is added|what reads the token), (?P<judged>cannot be judged: at this rank and on "
    r"these tokens any adapter would use one direction|cannot be judged: too few tokens tell what one direction would leave out|"
    r"has collapsed towards one direction|differs little from token to token|differs from token to token): effective rank (?P<used>\d+\.\d) against "
    r"(?P<redrawn>\d+\.\d) of the same adapter with redrawn weights \(mean of (?P<draws>\d+)\); one direction for all "
    rf"tokens leaves out (?P<left>{TENTHS}) of their energy and (?P<lost>{TENTHS}) of what the modulation adds to the layer's "
    r"output \(median of (?P<n>\d+) tokens\)\.",
    compares="cannot few collapsed differs all",
)
def _diversity(found, data):
    verdict = data["verdict"]
    evidence = verdict.evidence
    (
        is_fixed(found["used"], evidence["effective rank"], 1),
        is_fixed(found["redrawn"], evidence["redrawn adapter"], 1),
    )
    is_percent(found["lost"], evidence["lost with one direction"], 1)
    is_percent(found["left"], evidence["left out by one direction"], 1)
    is_count(found["n"], data["n"]), is_count(found["draws"], 4)
    assert (
        found["name"] == verdict.name
        and found["meaning"] == {"s·v_b": "what is added", "v_a": "what reads the token"}[verdict.name]
    )
    told = evidence["redrawn adapter"] >= 1.1
    few = told and (evidence["effective rank"] - 1) / (evidence["redrawn adapter"] - 1) < 0.5
    one_does = evidence["left out by one direction"] < 0.01 and evidence["lost, at most"] < 0.01
    assert verdict.collapsed == bool(few and one_does)
    expected = (
        "any adapter would use one direction" if not told
        else "would leave out" if evidence["lost, at least"] == -math.inf
        else "has collapsed towards one direction" if few and one_does
        else "differs little from token to token" if one_does
        else "differs from token to token"
    )  # fmt: skip
    assert found["judged"].endswith(expected)


# Orthogonality.

AGAINST = (
    r"(?:(?P<{0}times>\d+\.\d) times|(?P<{0}less>less than)|(?P<{0}within>within)|(?P<{0}not>not told from)|"
    rf"(?P<{{0}}few>too few tokens to tell from)) a random vector's (?P<{{0}}random>{TENTHS}) ± (?P<{{0}}sd>{TENTHS})"
)


def against(found, name, values, q, d):
    median, low, high, n = interval(values)
    is_percent(found[f"{name}share"], median, 1)
    assert (found[f"{name}low"] is not None) == math.isfinite(low)
    if found[f"{name}low"]:
        is_percent(found[f"{name}low"], low, 1), is_percent(found[f"{name}high"], high, 1)
    mean = q / d
    band = 2 * math.sqrt((q / 2) * ((d - q) / 2) / ((d / 2) ** 2 * (d / 2 + 1)))  # Of Beta(q/2, (d − q)/2).
    is_percent(found[f"{name}random"], mean, 1), is_percent(found[f"{name}sd"], band, 1)
    expected = (
        "few" if not math.isfinite(low)
        else "times" if low > mean + band
        else "less" if high < mean - band
        else "within" if low >= mean - band and high <= mean + band
        else "not"
    )  # fmt: skip
    assert found[f"{name}{expected}"] is not None, expected
    if expected == "times":
        is_fixed(found[f"{name}times"], median / mean, 1)
    return n


@clause(
    "orthogonality",
    rf"Layer (?P<layer>\d+)'s v_a \((?P<target>gate|up|down)\) has (?P<a_share>{TENTHS})(?: \[(?P<a_low>{TENTHS}), "
    rf"(?P<a_high>{TENTHS})\])? of its energy along the mean of (?P<of>h|z|m) alone, {AGAINST.format('a_')}; in the top "
    r"(?P<top>\d+) of (?P<dim>\d+) directions of (?P<of_again>h|z|m) \((?P<centred>centred|not centred), axes of "
    rf"(?P<axes>this prompt|bundled texts|a text given here)\) it has (?P<t_share>{TENTHS})(?: \[(?P<t_low>{TENTHS}), "
    rf"(?P<t_high>{TENTHS})\])?, {AGAINST.format('t_')} {BASIS}\.",
    compares="times less within few",
)
def _orthogonality(found, data):
    result, kept = data["result"], counted(data)
    assert (int(found["layer"]), found["target"]) == (result.layer, result.target)
    assert found["of"] == found["of_again"] == result.of
    assert (int(found["top"]), int(found["dim"])) == (result.top, result.dim)
    assert (found["centred"] == "centred") == result.centred and found["axes"] == data["axes_from"]
    against(found, "a_", result.mean_shares[kept], 1, result.dim)
    basis(found, data, against(found, "t_", result.shares[kept], result.top, result.dim))


# Attribution.

BY = (
    r"\((?P<method>feature ablation|integrated gradients|gradient × activation), (?P<mode>local|propagated), positions as "
    rf"(?P<positions>deployed|trained), (?P<n>{COUNT}) tokens? of the prompt asked one run each, stand-in (?P<baseline>{TEXT})\)\."
)


def asked(found, data):
    result = data["result"]
    assert found["name"][1:] == result.name[1:] and found["name"][0] == result.name[0].upper()
    is_three_digits(found["value"], result.value)
    labels = {
        "ablation": "feature ablation",
        "integrated_gradients": "integrated gradients",
        "gradient_x_activation": "gradient × activation",
    }
    assert found["method"] == labels[result.method]
    assert (found["mode"], found["positions"]) == (result.mode, result.positions)
    is_count(found["n"], result.quantity.token)
    assert found["baseline"] == result.baseline
    return result, result.scores[1 : result.quantity.token + 1]


@clause(
    "attribution",
    rf"(?P<name>.+?) is (?P<value>{NUMBER}); (?P<glyph>{TEXT}) #(?P<token>\d+) (?P<verb>raises|lowers) it most, by "
    rf"(?P<score>{NUMBER}) {BY}",
    compares="raises lowers most",
)
def _drives(found, data):
    result, scores = asked(found, data)
    token = int(found["token"])
    score = scores[token - 1]
    assert abs(score) == max(map(abs, scores)) > 0 and (found["verb"] == "raises") == (score > 0)
    assert found["glyph"] == result.tokens[token]
    is_three_digits(found["score"], abs(score))


@clause(
    "attribution", rf"(?P<name>.+?) is (?P<value>{NUMBER}); no token changes it {BY}", compares="no changes"
)
def _drives_nothing(found, data):
    assert not np.any(asked(found, data)[1])


# Permanent update and Transplant.

NEXT = (
    r"the most probable next token (?:stays (?P<same>.+?) \((?P<p_before>\d\.\d\d) → (?P<p_after>\d\.\d\d)\)|changes from "
    r"(?P<old>.+?) to (?P<new>.+?) \((?P<p_new>\d\.\d\d)\))"
)


def next_token(found, before, after):
    """From the tables of the two sides, not from their properties."""
    old, new = before.top.ids[-1][0], after.top.ids[-1][0]
    glyphs = before.top.glyphs[-1][0], after.top.glyphs[-1][0]
    p_old, p_new = before.top.probabilities[-1][0], after.top.probabilities[-1][0]
    if found["same"] is not None:
        assert old == new and found["same"] == glyphs[1]
        is_fixed(found["p_before"], p_old, 2), is_fixed(found["p_after"], p_new, 2)
    else:
        assert old != new and (found["old"], found["new"]) == glyphs
        is_fixed(found["p_new"], p_new, 2)


@clause(
    "update",
    rf"Writing the update(?: of (?P<sources>.+?))? into layers? (?P<layers>\d+(?:, \d+)*) at α = (?P<alpha>[-\d.e+]+) moves the "
    rf"prediction after (?P<glyph>{TEXT}) by KL (?P<kl>{KL}) nats; {NEXT} \(one prediction, (?P<n>{COUNT}) tokens? of prompt, "
    r"run for real, positions as deployed; ΔW from a (?P<mode>[a-z ]+) run, positions as (?P<positions>[a-z ]+)\)\.",
    compares="moves most stays changes below",
)
def _update(found, data):
    sources = data["sources"]
    named = ", ".join(f"{glyph} #{position}" for glyph, position in sources[:3])
    assert (found["mode"], found["positions"]) == (data["mode"], data["positions"])
    assert (found["sources"] or "") == named + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")
    assert [int(each) for each in found["layers"].split(", ")] == list(data["layers"])
    assert math.isclose(float(found["alpha"]), data["alpha"], rel_tol=1e-5)
    assert found["glyph"] == data["pieces"][-1].glyph
    is_kl(found["kl"], float(data["after"].kl[-1]))
    is_count(found["n"], len(data["pieces"]))
    next_token(found, data["before"], data["after"])


@clause(
    "update",
    rf"Without its context the edited model recovers (?P<share>{PERCENT}) of what the context does to this prediction\.",
    compares="recovers",
)
def _context(found, data):
    recovery = data["recovery"]
    is_percent(found["share"], 1 - recovery.kl_updated / recovery.kl_plain)


USABLE = (
    rf"\. Usable means that (?P<new>{TEXT}) is more probable than (?P<old>{TEXT})(?:, (?P<unrelated>{COUNT}) unrelated "
    rf"prompts? moves? by at most (?P<limit>[\d.]+) nats on average,| \(no unrelated prompt is given, so none is judged\)) and perplexity grows by at most (?P<grows>{PERCENT}) on (?P<neutral>{COUNT}) "
    r"tokens? of neutral text \(run for real, positions as deployed\)\."
)


def usable(found, data) -> list[bool]:
    """Which strengths are, from the columns of the sweep."""
    sweep = data["sweep"]
    assert (found["new"], found["old"]) == (sweep.new[0], sweep.old[0])
    is_count(found["unrelated"] or "0", sweep.n_unrelated), is_count(found["neutral"], sweep.n_neutral_tokens)
    assert found["limit"] is None or float(found["limit"]) == sweep.kl_limit
    is_percent(found["grows"], sweep.perplexity_limit - 1)
    rows = zip(sweep.margin, sweep.unrelated_kl, sweep.perplexity, strict=True)
    return [
        margin > 0 and (kl <= 0.1 or not sweep.n_unrelated) and after / sweep.before_perplexity <= 1.05
        for margin, kl, after in rows
    ]


@clause(
    "strengths",
    rf"Which of (?P<n>\d+) strengths? is usable cannot be told: what should follow and what should not begin with the same token, "
    rf"(?P<both>{TEXT}) \(only the first token of each counts; run for real, positions as deployed\)\.",
    compares="cannot",
)
def _same_token(found, data):
    sweep = data["sweep"]
    is_count(found["n"], len(sweep.alphas))
    assert sweep.new[1] == sweep.old[1] and found["both"] == sweep.new[0] == sweep.old[0]


@clause(
    "strengths",
    rf"None of (?P<n>\d+) strengths? that were tried is usable{USABLE}",
    compares="more most no moves",
)
def _no_strength(found, data):
    is_count(found["n"], len(data["sweep"].alphas))
    assert not any(usable(found, data))


@clause(
    "strengths",
    rf"Usable: α = (?P<low>[-\d.e+]+) to (?P<high>[-\d.e+]+) \((?P<usable>\d+) of (?P<n>\d+) that were tried are\){USABLE}",
    compares="more most no moves",
)
def _strengths(found, data):
    alphas, works = list(data["sweep"].alphas), usable(found, data)
    is_count(found["n"], len(alphas)), is_count(found["usable"], sum(works))
    low, high = ([f"{a:.3g}" for a in alphas].index(found[end]) for end in ("low", "high"))
    assert all(works[low : high + 1])
    runs = "".join("x" if each else " " for each in works).split()
    assert high - low + 1 == max(map(len, runs))


@clause(
    "transplant",
    r"(?:(?P<own>Its own ΔW, scaled,)|The ΔW of (?P<donor>.+?) #(?P<donor_token>\d+)) at (?P<glyph>.+?) #(?P<token>\d+) in layers? "
    rf"(?P<layers>\d+(?:, \d+)*) moves the receiving prompt's prediction by KL (?P<kl>{KL}) nats at its end; {NEXT} \(one "
    rf"prediction, (?P<n>{COUNT}) tokens? of prompt, donor (?P<mode>local|propagated), positions as (?P<positions>deployed|trained)\)\.",
    compares="moves most stays changes below",
)
def _transplant(found, data):
    result = data["result"]
    assert (found["own"] is not None) == (result.operation == "scale")
    if found["donor"]:
        assert (found["donor"], int(found["donor_token"])) == (
            result.donor_pieces[result.donor_token].glyph,
            result.donor_token,
        )
    assert (found["glyph"], int(found["token"])) == (result.pieces[result.token].glyph, result.token)
    assert [int(each) for each in found["layers"].split(", ")] == list(result.layers)
    is_kl(found["kl"], float(result.transplanted.kl[-1]))
    is_count(found["n"], len(result.pieces))
    assert (found["mode"], found["positions"]) == (result.mode, result.positions)
    next_token(found, result.npt, result.transplanted)


# Training.

JUDGED = (
    r"(?P<stream>local|on the stream of the NPT layers below), positions as (?P<positions>deployed|trained)"
)
HELD = rf"\(median of (?P<n>{COUNT}) held-out tokens? at step (?P<step>\d+), sinks left out, {JUDGED}\)"
OF_LAYER = (
    rf"(?:layer \d+ recovers (?:{PERCENT}) \[(?:{PERCENT}), (?:{PERCENT})\] of what attention does {{0}}|"
    rf"layer \d+ cannot be told from no modulation: it recovers (?:{PERCENT}) \[(?:{PERCENT}), (?:{PERCENT})\] of what attention "
    rf"does {{0}}|layer \d+ is worse than no modulation: its squared error is (?:{NUMBER}) \[(?:{NUMBER}), (?:{NUMBER})\] times as "
    rf"large {{0}}|layer \d+ has nothing to recover {{0}}|{COUNT} held-out tokens? (?:is|are) too few to tell what layer \d+ recovers {{0}})"
).replace("{0}", re.sub(r"\?P<\w+>", "?:", HELD).replace("(?:[\\d,]+)", r"(?:[\d,]+)"))
LOSS = rf"the loss of the batch(?: of layer (?P<of>\d+(?:, \d+)*))? went from (?P<first>{NUMBER}) to (?P<last>{NUMBER})"


def loss(found, data):
    """Of the layers in the last step, the mean of their totals at their own first step and at the last."""
    rows, steps = data["rows"], [row["step"] for row in data["rows"]]
    is_count(found["done"], data["last"])
    now = [row for row in rows if row["step"] == steps[-1]]
    begun = [next(row for row in rows if row["layer"] == each["layer"]) for each in now]
    left_out = {row["layer"] for row in rows} - {row["layer"] for row in now}
    named = ", ".join(str(layer) for layer in sorted(row["layer"] for row in now)) if left_out else None
    assert found["of"] == named
    for name, part in (("first", begun), ("last", now)):
        is_three_digits(found[name], float(np.mean([row["total"] for row in part])))


@clause(
    "training",
    rf"After (?P<done>{COUNT}) steps? {LOSS}; held-out text has not been looked at yet\.",
)
def _unjudged(found, data):
    loss(found, data)
    assert not any("heldout/recovered" in row for row in data["rows"])


@clause(
    "training",
    rf"After (?P<done>{COUNT}) steps? (?P<layers>{OF_LAYER}(?:, {OF_LAYER})*); {LOSS}\.",
    compares="recovers cannot no worse times nothing few below",
)
def _trained(found, data):
    loss(found, data)
    latest = {row["layer"]: row for row in data["rows"] if "heldout/recovered" in row}
    said = [each for each in re.split(rf"(?:, )?(?={OF_LAYER})", found["layers"]) if each]
    assert len(said) == len(latest)
    for each, (layer, row) in zip(said, latest.items(), strict=True):
        _held_out(each, layer, row, data)


AT_THE_END = (
    rf"\(median of (?P<n>{COUNT}) of (?P<all>{COUNT}) held-out tokens?, (?P<sinks>{COUNT}) attention sinks? left out, {JUDGED}\)"
    r"(?P<note>; .+)?\."
)


def at_the_end(found, data) -> tuple[float, float]:
    """data: recovered (token,), is_sink (token,), layer, note."""
    is_sink = np.asarray(data["is_sink"])
    _, low, high, _ = interval(np.asarray(data["recovered"])[~is_sink])
    assert int(found["layer"]) == data["layer"] and (found["note"] or "; ")[2:] == data["note"]
    judged_in(found, data)
    is_count(found["n"], sum(~is_sink)), is_count(found["all"], len(is_sink))
    is_count(found["sinks"], sum(is_sink))
    for name, value in zip(
        ("share", "low", "high"), interval(np.asarray(data["recovered"])[~is_sink]), strict=False
    ):
        if found.get(name):
            is_percent(found[name], value)
    return low, high


OF_ATTENTION = rf"recovers (?P<share>{PERCENT}) \[(?P<low>{PERCENT}), (?P<high>{PERCENT})\] of what attention does {AT_THE_END}"


@clause("held out", rf"Layer (?P<layer>\d+) {OF_ATTENTION}", compares="recovers all below")
def _held_out_positive(found, data):
    assert at_the_end(found, data)[0] > 0


@clause(
    "held out",
    rf"Layer (?P<layer>\d+) cannot be told from no modulation: it {OF_ATTENTION}",
    compares="cannot no recovers all below",
)
def _held_out_untold(found, data):
    low, high = at_the_end(found, data)
    assert low <= 0 <= high


@clause(
    "held out",
    rf"Layer (?P<layer>\d+) is worse than no modulation: its squared error is (?P<times>{NUMBER}) \[(?P<from>{NUMBER}), "
    rf"(?P<to>{NUMBER})\] times as large {AT_THE_END}",
    compares="worse no times all below",
)
def _held_out_worse(found, data):
    low, high = at_the_end(found, data)
    assert high < 0
    median = interval(np.asarray(data["recovered"])[~np.asarray(data["is_sink"])])[0]
    for name, value in {"times": 1 - median, "from": 1 - high, "to": 1 - low}.items():
        is_three_digits(found[name], value)


@clause(
    "held out", rf"Layer (?P<layer>\d+) has nothing to recover {AT_THE_END}", compares="nothing all below"
)
def _held_out_nothing(found, data):
    at_the_end(found, data)
    assert not np.isfinite(data["recovered"]).any()


@clause(
    "held out",
    rf"(?P<few>{COUNT}) held-out tokens? (?:is|are) too few to tell what layer (?P<layer>\d+) recovers {AT_THE_END}",
    compares="few recovers all below",
)
def _held_out_few(found, data):
    is_count(found["few"], sum(~np.asarray(data["is_sink"])))
    assert at_the_end(found, data)[0] == -math.inf


def judged_in(found, data):
    stream = "local" if data["stream"] == "base" else "on the stream of the NPT layers below"
    assert (found["stream"], found["positions"]) == (stream, data["positions"])


def _held_out(text, layer, row, data):
    share, low, high, n = (
        row[f"heldout/{name}"] for name in ("recovered", "recovered_low", "recovered_high", "n_tokens")
    )
    assert re.search(rf"layer {layer}\b", text)
    where = re.search(HELD, text)
    judged_in(where, data), is_count(where["step"], row["step"]), is_count(where["n"], n)
    if few := re.match(rf"({COUNT}) held-out tokens? are too few", text):
        is_count(few[1], n)
        assert math.isnan(low) and math.isfinite(share)
        return
    numbers = re.findall(rf"{PERCENT}", text)
    if "nothing to recover" in text:
        assert math.isnan(share)
    elif "worse than no modulation" in text:
        assert high < 0
        times = re.search(rf"is ({NUMBER}) \[({NUMBER}), ({NUMBER})\] times", text)
        for shown, value in zip(times.groups(), (1 - share, 1 - high, 1 - low), strict=True):
            is_three_digits(shown, value)
    else:
        assert ("cannot be told" in text) == (low <= 0 <= high) and (low > 0 or "cannot be told" in text)
        for shown, value in zip(numbers, (share, low, high), strict=True):
            is_percent(shown, value)


# Runs.


@clause(
    "runs",
    rf"Of (?P<n>\d+) curves (?P<best>.+?) ends best in (?P<column>.+?): (?P<best_last>{NUMBER}) at step (?P<best_step>{COUNT}); "
    rf"(?P<worst>.+?) ends worst, (?P<worst_last>{NUMBER}) at step (?P<worst_step>{COUNT}) \(last values, one run each: chance "
    r"between seeds is not known\)\.",
    compares="best worst between",
)
def _ranked(found, data):
    summaries, sign = data["summaries"], 1 if data["better"] == "high" else -1
    assert data["better"] is not None
    is_count(found["n"], len(summaries))
    scores = {each.series: sign * each.last for each in summaries}
    for name, pick in {"best": max, "worst": min}.items():
        one = next(each for each in summaries if each.series == found[name])
        assert scores[one.series] == pick(scores.values())
        is_three_digits(found[f"{name}_last"], one.last), is_count(found[f"{name}_step"], one.last_step)
        assert found["column"] == one.column


@clause(
    "runs", rf"All (?P<n>\d+) curves end alike in (?P<column>.+?): (?P<last>{NUMBER})\.", compares="alike"
)
def _alike(found, data):
    lasts = {each.last for each in data["summaries"]}
    is_count(found["n"], len(data["summaries"]))
    assert len(lasts) == 1 and found["column"] == data["summaries"][0].column
    is_three_digits(found["last"], lasts.pop())


@clause(
    "runs",
    rf"(?P<series>.+?): (?P<column>.+?) went from (?P<first>{NUMBER}) to (?P<last>{NUMBER}) at step (?P<step>{COUNT})(?:, best "
    rf"(?P<best>{NUMBER}) at step (?P<best_step>{COUNT}))? \((?P<n>{COUNT}) values?\)\.",
    compares="best",
)
def _one_run(found, data):
    only = data["summaries"][0]
    assert (found["series"], found["column"]) == (only.series, only.column)
    is_three_digits(found["first"], only.first), is_three_digits(found["last"], only.last)
    is_count(found["step"], only.last_step), is_count(found["n"], only.n_values)
    assert (found["best"] is not None) == math.isfinite(only.best)
    if found["best"]:
        is_three_digits(found["best"], only.best), is_count(found["best_step"], only.best_step)


# Experiments: from the runs' own numbers.

LABELS = {
    "recovered": "Share recovered", "relative_error": "Relative error", "median_kl": "KL, median", "mean_kl": "KL, mean",
    "perplexity": "Perplexity", "agreement": "Top-1 agreement", "sink_recovered": "Sinks recovered",
}  # fmt: skip

LABEL = rf"(?P<label>{'|'.join(LABELS.values())}): the reference '(?P<reference>.+?)' has (?P<mean>[-\d.e+]+)"


def arms(data):
    """(reference's values by seed, arm -> values by seed, better is higher)."""
    result, measure = data["result"], data["measure"]
    values = {arm: {} for arm in result.arms}
    for run in result.runs:
        value = run.final.get(measure, math.nan)
        if run.state == "finished" and math.isfinite(value):
            values[run.arm][run.seed] = value
    return values.pop(result.reference), values, measure in ("recovered", "agreement", "sink_recovered")


T_975 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    7: 2.365,
    10: 2.228,
    12: 2.179,
    16: 2.120,
    22: 2.074,
}
"""Student's t at 0.975, by degrees of freedom, from a table."""


def is_general(text: str, value: float, digits: int = 3) -> None:
    size = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1) if value else 1e-12
    assert abs(float(text) - value) <= 0.5001 * size, f"{text} is {value}"


def reference(found, data):
    own, others, higher = arms(data)
    assert found["reference"] == data["result"].reference and found["label"] == LABELS[data["measure"]]
    is_general(found["mean"], sum(own.values()) / len(own))
    return own, others, higher


@clause(
    "experiment",
    r"The reference '(?P<reference>.+?)' has not finished yet; (?P<done>\d+) of (?P<all>\d+) runs are finished\.",
    compares="all",
)
def _unfinished(found, data):
    own, _, _ = arms(data)
    result = data["result"]
    assert not own and found["reference"] == result.reference
    is_count(found["done"], sum(run.state == "finished" for run in result.runs))
    is_count(found["all"], len(result.arms) * len(result.seeds))


@clause(
    "experiment",
    rf"{LABEL}; (?:(?P<none>no other arm has a number yet)|(?P<where>the best number is|no other arm has a better number; next is) "
    r"'(?P<arm>.+?)' with (?P<value>[-\d.e+]+))\. With one seed nobody can tell a difference from chance\.",
    compares="best better no",
)
def _one_seed(found, data):
    own, others, higher = reference(found, data)
    assert len(own) == 1
    means = {arm: sum(values.values()) / len(values) for arm, values in others.items() if values}
    assert (found["none"] is not None) == (not means)
    if means:
        best = (max if higher else min)(means.values())
        assert means[found["arm"]] == best
        is_general(found["value"], best)
        beats = best > next(iter(own.values())) if higher else best < next(iter(own.values()))
        assert (found["where"] == "the best number is") == beats


SEEDS = rf"{LABEL} ± (?P<sd>[-\d.e+]+) over (?P<seeds>\d+) seeds; "


def with_seeds(found, data):
    own, others, higher = reference(found, data)
    is_count(found["seeds"], len(own))
    is_general(found["sd"], float(np.std(list(own.values()), ddof=1)), 2)
    judged = {}
    for arm, values in others.items():
        shared = np.array([values[seed] - own[seed] for seed in values if seed in own])
        if len(shared) < 2:
            judged[arm] = ("unmeasured", math.nan)
            continue
        # Bonferroni: the table has no other quantile, so specimens compare one arm, or are far from the border.
        width = T_975[len(shared) - 1] * len(others) * shared.std(ddof=1) / math.sqrt(len(shared))
        narrow = T_975[len(shared) - 1] * shared.std(ddof=1) / math.sqrt(len(shared))
        mean = shared.mean()
        assert not narrow < abs(mean) < width, "a specimen too near the border"
        verdict = "unclear" if abs(mean) <= width else "better" if (mean > 0) == higher else "worse"
        judged[arm] = (verdict, mean)
    return judged


@clause("experiment", rf"{SEEDS}no other arm has enough finished runs to compare\.", compares="no enough")
def _none_to_compare(found, data):
    assert all(verdict == "unmeasured" for verdict, _ in with_seeds(found, data).values())


NAMED = r"(?:'[^']+' \([+-][\d.e-]+\)(?:, )?)+(?: and \d+ more)?"


@clause(
    "experiment",
    rf"{SEEDS}(?:(?P<none>no arm can be told from it by its seeds)|(?:better: (?P<better>{NAMED}))?(?:; )?(?:worse: (?P<worse>"
    rf"{NAMED}))?)(?:; (?P<unclear>\d+) cannot be told from it)?(?:; (?P<unmeasured>\d+) with too few finished runs to compare)?\.",
    compares="no better worse cannot few more",
)
def _differences(found, data):
    judged = with_seeds(found, data)
    kinds = {
        kind: [arm for arm, (verdict, _) in judged.items() if verdict == kind]
        for kind in ("better", "worse", "unclear", "unmeasured")
    }
    assert (found["none"] is not None) == (not kinds["better"] and not kinds["worse"])
    for kind in ("better", "worse"):
        named = re.findall(r"'([^']+)' \(([+-][\d.e-]+)\)", found[kind] or "")
        more = re.search(r" and (\d+) more", found[kind] or "")
        assert len(named) + (int(more[1]) if more else 0) == len(kinds[kind])
        for arm, shown in named:
            assert arm in kinds[kind]
            is_general(shown, judged[arm][1])
    counted_unclear = len(kinds["unclear"]) if kinds["better"] or kinds["worse"] else 0
    assert int(found["unclear"] or 0) == counted_unclear
    assert int(found["unmeasured"] or 0) == len(kinds["unmeasured"])
