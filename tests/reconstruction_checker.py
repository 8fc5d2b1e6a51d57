"""Clauses about what parts of a layer are worth, what its gate could do and what it predicts; from the raw columns.

Data: "ablations" `shares` (name -> (token,)), "gate oracle" `error`, `moved`, `adapter_error`, `adapter_moved` (token,),
"downstream" `on`, `off` (token,) KL, and what every sentence says of its text, mode and positions.
"""

import math

import numpy as np
from sentence_checker import (
    BASIS,
    COUNT,
    KL,
    LAYERS,
    NUMBER,
    PERCENT,
    basis,
    clause,
    counted,
    interval,
    is_count,
    is_kl,
    is_percent,
    is_three_digits,
    without_rope,
)


def part(name: str) -> str:
    return rf"(?P<{name}>{PERCENT})(?: \[(?P<{name}_low>{PERCENT}), (?P<{name}_high>{PERCENT})\])?"


def is_part(found: dict, name: str, values) -> int:
    """A share with its interval; how many tokens have one."""
    median, low, high, n = interval(values)
    if found[name] == "–":
        assert not math.isfinite(median)
    else:
        is_percent(found[name], median)
    assert (found[f"{name}_low"] is not None) == math.isfinite(low)
    if found[f"{name}_low"]:
        is_percent(found[f"{name}_low"], low), is_percent(found[f"{name}_high"], high)
    return n


@clause(
    "ablations",
    rf"Layer (?P<layer>\d+) recovers {part('own')}(?:; with one scalar for all tokens {part('scalar')})?(?:; with one direction "
    rf"for all tokens {part('direction')})? {BASIS}\.",
    compares="recovers all",
)
def _ablations(found, data):
    assert int(found["layer"]) == data["layer"]
    kept = counted(data)
    names = {"own": "as it is", "scalar": "mean scalar", "direction": "mean direction"}
    for name, row in names.items():
        assert (found[name] is not None) == (row in data["shares"])
        if found[name]:
            n = is_part(found, name, np.asarray(data["shares"][row])[kept])
            if name == "own":
                basis(found, data, n)


@clause(
    "ablations",
    r"Layer (?P<layer>\d+) has nothing to recover, so nothing of it can be missed\.",
    compares="nothing",
)
def _nothing_to_miss(found, data):
    assert int(found["layer"]) == data["layer"]
    assert not np.isfinite(np.asarray(data["shares"]["as it is"])[counted(data)]).any()


ORACLE = (
    rf"Layer (?P<layer>\d+): moved at each token by itself, the gate alone leaves a relative error of (?P<error>{NUMBER}) and moves by "
    rf"(?P<moved>{NUMBER}) times its own norm; this adapter leaves (?P<adapter>{NUMBER}) and (?:moves it by (?P<adapter_moved>{NUMBER}) "
    rf"times|(?P<alone>leaves the gate alone)) \((?P<text>this prompt), (?P<mode>local|propagated), positions as "
    rf"(?P<positions>deployed|trained), medians of (?P<n>{COUNT}) tokens?\)"
)


def oracle(found: dict, data: dict) -> tuple[float, float]:
    """(low, high) of how much more error the adapter leaves, token by token."""
    assert int(found["layer"]) == data["layer"]
    assert (found["mode"], found["positions"]) == (data["mode"], data["positions"])
    is_count(found["n"], len(data["error"]))
    (
        is_three_digits(found["error"], np.median(data["error"])),
        is_three_digits(found["moved"], np.median(data["moved"])),
    )
    is_three_digits(found["adapter"], np.median(data["adapter_error"]))
    moved = np.median(data["adapter_moved"])
    assert (found["alone"] is not None) == (moved == 0)
    if found["adapter_moved"]:
        is_three_digits(found["adapter_moved"], moved)
    return interval(np.subtract(data["adapter_error"], data["error"]))[1:3]


@clause(
    "gate oracle",
    rf"{ORACLE}: the gate at a single token is not what limits this adapter, which has one set of weights for all tokens\.",
    compares="moves times all",
)
def _no_limit(found, data):
    assert oracle(found, data)[0] > 0


@clause(
    "gate oracle",
    rf"{ORACLE}: the adapter does better than any gate could\.",
    compares="moves times better",
)
def _beyond_the_gate(found, data):
    assert oracle(found, data)[1] < 0


@clause(
    "gate oracle",
    rf"{ORACLE}: too few tokens to tell whether the gate is what limits it\.",
    compares="moves times few",
)
def _few_gates(found, data):
    assert oracle(found, data) == (-math.inf, math.inf)


@clause(
    "gate oracle",
    rf"{ORACLE}: the best gate cannot be told from this adapter\.",
    compares="moves times best cannot",
)
def _gate_untold(found, data):
    low, high = oracle(found, data)
    assert -math.inf < low <= 0 <= high


WHERE = (
    rf"\((?P<text>this prompt|reference text), run for real, positions as (?P<positions>deployed|trained), medians of (?P<n>{COUNT}) "
    r"tokens?\)\."
)
OFF = (
    r"(?P<what>Dropping the attention of|Switching off the modulation of|Switching off) layers? (?P<layers>\d+(?:, \d+)*) costs KL "
    rf"(?P<off>{KL}) nats"
)
ON = rf"{OFF}; with the modulation it is (?P<on>{KL})"


def switched(found: dict, data: dict) -> tuple[float, float, float]:
    """(share of the medians, low and high of what the modulation saves token by token)."""
    assert tuple(map(int, found["layers"].split(", "))) == tuple(data["layers"])
    paths = {data["attention"][layer] for layer in data["layers"]}
    expected = (
        "Dropping the attention of" if paths == {"withheld"}
        else "Switching off the modulation of" if len(paths) == 1 and paths <= {"beside", "mlp_only"}
        else "Switching off"
    )  # fmt: skip
    assert found["what"] == expected
    assert (found["text"], found["positions"]) == (data["text"], data["positions"])
    is_count(found["n"], len(data["on"]))
    on, off = np.median(data["on"]), np.median(data["off"])
    is_kl(found["off"], off)
    if "on" in found:
        is_kl(found["on"], on)
    low, high = interval(np.subtract(data["off"], data["on"]))[1:3]
    return (1 - on / off if off > 0 else math.nan), low, high


@clause("downstream", rf"{OFF}: there is nothing to recover {WHERE}", compares="nothing below")
def _costs_nothing(found, data):
    assert math.isnan(switched(found, data)[0])


@clause(
    "downstream", rf"{ON}; too few tokens to tell whether the modulation helps {WHERE}", compares="few below"
)
def _few_predictions(found, data):
    assert switched(found, data)[1] == -math.inf


@clause(
    "downstream",
    rf"{ON}: it predicts worse than with no modulation at all {WHERE}",
    compares="worse no all below",
)
def _predicts_worse(found, data):
    share, _, high = switched(found, data)
    assert high < 0 and share < 0


@clause(
    "downstream",
    rf"{ON}: it cannot be told from no modulation at all {WHERE}",
    compares="cannot no all below",
)
def _predicts_the_same(found, data):
    share, low, high = switched(found, data)
    assert low > -math.inf and not (low > 0 and share > 0) and not (high < 0 and share < 0)


@clause(
    "downstream",
    rf"{ON}: it recovers (?P<share>{PERCENT}) of that, (?P<worth>little|a part|most) of the effect {WHERE}",
    compares="recovers most below",
)
def _predicts_better(found, data):
    share, low, _ = switched(found, data)
    assert low > 0 and share > 0
    is_percent(found["share"], share)
    assert found["worth"] == ("little" if share < 0.25 else "a part" if share < 0.75 else "most")


OTHER = rf"With positions as (?P<other>deployed|trained) it recovers {part('share')} \(this prompt, local, median of (?P<n>{COUNT}) tokens?\)"


def other(found: dict, data: dict) -> tuple[bool, bool]:
    """Whether it was trained without positions for sure, and whether it may have been."""
    assert found["other"] == {"deployed": "trained", "trained": "deployed"}[data["positions"]]
    kept = counted(data)
    is_count(found["n"], is_part(found, "share", np.asarray(data[found["other"]])[kept]))
    deployed, trained = (np.asarray(data[name])[kept] for name in ("deployed", "trained"))
    _, low, high, _ = interval(trained - deployed, 0.999)
    own, without = interval(deployed), interval(trained)
    return without_rope(low, own[2], without[1]), without_rope(high, own[1], without[2])


@clause(
    "other positions",
    rf"{OTHER}: it was trained on attention without positions, which is not the attention it replaces\.",
    compares="recovers",
)
def _trained_without(found, data):
    assert other(found, data)[0]


@clause(
    "other positions",
    rf"{OTHER}: not enough tokens to tell whether it was trained without positions\.",
    compares="recovers enough",
)
def _perhaps_without(found, data):
    assert other(found, data) == (False, True)


@clause(
    "other positions",
    rf"{OTHER}: no sign that it was trained without positions, because healthy layers differ by as much\.",
    compares="recovers no",
)
def _not_without(found, data):
    assert other(found, data) == (False, False)


@clause(
    "kl",
    rf"With {LAYERS} run for real, KL to the base's prediction is (?P<kl>{KL})(?: \[(?P<low>{KL}), (?P<high>{KL})\])? "
    rf"nats \(this prompt, positions as (?P<positions>deployed|trained), median of (?P<n>{COUNT}) tokens?\)\.",
    compares="below",
)
def _kl(found, data):
    assert [int(each) for each in found["layers"].split(", ")] == sorted(data["recovered_of"])
    median, low, high, n = interval(np.asarray(data["kl"], float)[counted(data)])
    assert found["positions"] == data["positions"]
    is_count(found["n"], n), is_kl(found["kl"], median)
    assert (found["low"] is not None) == math.isfinite(low)
    if found["low"]:
        is_kl(found["low"], low), is_kl(found["high"], high)
