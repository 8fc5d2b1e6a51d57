"""Clauses of Compare, from raw columns: token ids, numbers, sinks and first choices of A and of B.

Data: `ids`, `values`, `is_sink`, `first` (ids of the most probable next tokens, or None), `glyphs`, `mode`, `positions`, `layer`,
each (of A, of B); `label` of the number; `with_sinks`.
"""

import math

from sentence_checker import COUNT, NUMBER, TEXT, clause, interval, is_count, is_three_digits


def literal_alignment(a, b, at=(0, 0)):
    """(i, j) of every token that both have: the longest run that both have, the first of equal ones, then left and right of it."""
    best = (0, 0, 0)
    for i in range(len(a)):
        for j in range(len(b)):
            n = 0
            while i + n < len(a) and j + n < len(b) and a[i + n] == b[j + n]:
                n += 1
            if n > best[0]:
                best = n, i, j
    n, i, j = best
    if n == 0:
        return []
    return [
        *literal_alignment(a[:i], b[:j], at),
        *((at[0] + i + k, at[1] + j + k) for k in range(n)),
        *literal_alignment(a[i + n :], b[j + n :], (at[0] + i + n, at[1] + j + n)),
    ]


def pairs_of(data):
    return literal_alignment(list(data["ids"][0]), list(data["ids"][1]))


def sinks_of(data):
    return [any(bool(data["is_sink"][side][pair[side]]) for side in (0, 1)) for pair in pairs_of(data)]


def counted(data):
    """(i, j) of the tokens that count."""
    pairs, sinks = pairs_of(data), sinks_of(data)
    if data["with_sinks"] or all(sinks):
        return pairs
    return [pair for pair, sink in zip(pairs, sinks, strict=True) if not sink]


def columns(data):
    """A's and B's numbers at the tokens that count and that have both."""
    a, b = data["values"]
    both = [(float(a[i]), float(b[j])) for i, j in counted(data)]
    kept = [each for each in both if all(map(math.isfinite, each))]
    return [x for x, _ in kept], [y for _, y in kept]


def differences(data):
    return [y - x for x, y in zip(*columns(data), strict=True)]


def median(values):
    return interval(values)[0]


def rounding(data):
    a, b = data["values"]
    sizes = [abs(float(v)) for i, j in counted(data) for v in (a[i], b[j]) if math.isfinite(v)]
    return 1e-5 * median(sizes) if sizes else 0.0


SIDE = r"{0} (?P<mode_{0}>local|propagated), positions as (?P<positions_{0}>deployed|trained); "
BOTH = r"A and B (?P<mode>local|propagated), positions as (?P<positions>deployed|trained); "
BASIS = (
    rf"\((?:{BOTH}|{SIDE.format('A')}{SIDE.format('B')})(?P<n>{COUNT}) aligned tokens?(?:, (?P<only_A>{COUNT}) only in A)?"
    rf"(?:, (?P<only_B>{COUNT}) only in B)?, (?:no attention sink|(?P<n_sinks>\d+) sinks? (?P<fate>left out|counted)); "
    r"95 % intervals\)"
)
WHAT = r"(?P<what>.+?)"


def basis(found, data):
    pairs, sinks, (n_a, n_b) = pairs_of(data), sinks_of(data), map(len, data["ids"])
    is_count(found["n"], len(differences(data)))
    for side, name in enumerate("AB"):
        assert (found["mode"] or found[f"mode_{name}"]) == data["mode"][side]
        assert (found["positions"] or found[f"positions_{name}"]) == data["positions"][side]
    for name, n in (("only_A", n_a - len(pairs)), ("only_B", n_b - len(pairs))):
        assert (found[name] is not None) == (n > 0)
        if n:
            is_count(found[name], n)
    assert (found["n_sinks"] is not None) == any(sinks)
    if any(sinks):
        is_count(found["n_sinks"], sum(sinks))
        assert (found["fate"] == "left out") == (len(counted(data)) < len(pairs))
    in_a, in_b = data["layer"]
    where = {
        True: "",
        False: f" of layer {in_a}" + (f" in A and {in_b} in B" if in_a != in_b else ""),
    }[data["of_model"]]
    assert found["what"] == data["label"] + where


def medians(found, data, sign=1):
    middle, low, high, _ = interval([sign * each for each in differences(data)])
    for name, value in {"by": middle, "low": low, "high": high}.items():
        is_three_digits(found[name], value)
    for name, values in zip("ab", columns(data), strict=True):
        is_three_digits(found[f"of_{name}"], median(values))
    basis(found, data)
    return low, high


MEDIANS = rf"medians (?P<of_a>{NUMBER}) and (?P<of_b>{NUMBER}) {BASIS}\."
BY = rf"(?P<by>{NUMBER}) \[(?P<low>{NUMBER}), (?P<high>{NUMBER})\]"


@clause(
    "comparison",
    rf"From A to B the {WHAT} (?P<verb>rises|falls) by {BY} at the median token, {MEDIANS}",
    compares="no",
)
def _changes(found, data):
    low, _ = medians(found, data, 1 if found["verb"] == "rises" else -1)
    assert low > rounding(data)


@clause(
    "comparison",
    rf"It cannot be told whether the {WHAT} changes from A to B: the median of B − A is {BY}, {MEDIANS}",
    compares="cannot changes no",
)
def _untold(found, data):
    low, high = medians(found, data)
    assert low <= rounding(data) and high >= -rounding(data)


@clause(
    "comparison",
    rf"(?P<few>{COUNT}) aligned tokens? (?:is|are) too few to tell whether the {WHAT} changes from A to B; the median of B − A is "
    rf"(?P<by>{NUMBER}) {BASIS}\.",
    compares="few changes no",
)
def _few(found, data):
    middle, low, _, n = interval(differences(data))
    assert not math.isfinite(low) and n > 0
    is_count(found["few"], n)
    is_three_digits(found["by"], middle)
    basis(found, data)


@clause(
    "comparison",
    rf"From A to B the {WHAT} stays the same at every aligned token {BASIS}\.",
    compares="stays no",
)
def _same(found, data):
    assert len(differences(data)) > 5 and all(abs(each) <= rounding(data) for each in differences(data))
    basis(found, data)


@clause("comparison", rf"A or B has no {WHAT}, so it cannot be compared {BASIS}\.", compares="no cannot")
def _has_none(found, data):
    assert not differences(data) and pairs_of(data)
    basis(found, data)


@clause(
    "comparison",
    rf"The prompts of A and B have no token in common, so no token can be compared \(A has (?P<a>{COUNT}) tokens?, B (?P<b>{COUNT})\)\.",
    compares="no",
)
def _nothing_in_common(found, data):
    assert not set(data["ids"][0]) & set(data["ids"][1])
    is_count(found["a"], len(data["ids"][0])), is_count(found["b"], len(data["ids"][1]))


FURTHER = (
    rf"further than (?P<size>{NUMBER}), (?P<why>three robust standard deviations|what rounding alone can do), from the median "
    "difference"
)


def outside(found, data):
    """Differences that lie outside, with their tokens."""
    every = differences(data)
    middle = median(every)
    robust = 3 * 1.4826 * median([abs(each - middle) for each in every])
    size = max(robust, rounding(data))
    assert (found["why"] == "what rounding alone can do") == (rounding(data) > robust)
    is_three_digits(found["size"], size)
    a, b = data["values"]
    by_token = [(float(b[j]) - float(a[i]), i, j) for i, j in counted(data)]
    return [each for each in by_token if abs(each[0] - middle) > size]


@clause("comparison", rf"No token lies {FURTHER}\.")
def _none_outside(found, data):
    assert not outside(found, data)


@clause(
    "comparison",
    rf"(?P<out>{COUNT}) of (?P<n>{COUNT}) tokens lies? {FURTHER}; the largest is at (?P<glyph>{TEXT}) #(?P<i>\d+)"
    rf"(?: in A, #(?P<j>\d+) in B)? \(B − A (?P<largest>{NUMBER})\)\.",
)
def _some_outside(found, data):
    out = outside(found, data)
    is_count(found["out"], len(out)), is_count(found["n"], len(differences(data)))
    value, i, j = max(out, key=lambda each: abs(each[0]))
    assert (found["glyph"], int(found["i"])) == (data["glyphs"][0][i], i)
    assert (found["j"] is None) == (i == j) and int(found["j"] or j) == j
    is_three_digits(found["largest"], value)


CHOICE = r"The NPT models' most probable next token"


def other_choices(data):
    first_a, first_b = data["first"]
    return sum(first_a[i] != first_b[j] for i, j in pairs_of(data))


@clause(
    "comparison",
    rf"{CHOICE} stays the same after all of (?P<n>{COUNT}) aligned tokens?\.",
    compares="most stays all",
)
def _same_choices(found, data):
    is_count(found["n"], len(pairs_of(data)))
    assert other_choices(data) == 0


@clause(
    "comparison",
    rf"{CHOICE} is another one after (?P<other>{COUNT}) of (?P<n>{COUNT}) aligned tokens?\.",
    compares="most",
)
def _other_choices(found, data):
    is_count(found["n"], len(pairs_of(data)))
    is_count(found["other"], other_choices(data))
    assert other_choices(data) > 0
