"""Clauses about what was read of a file, whether it fits the base model, and whether the equalities hold; from raw tensors.

Data of "load": `format`, `keys` (of the file, without the base's own), `layers` (layer -> keys of it, found anew from the names),
`variant`, `provenance` (of each layer), `match` (the data of "base match"). Of "base match": `model`, `named` (base in the file),
`config` (whether it is equal; None where none is recorded), `equal` (layer -> whether its weights are; of those recorded), `compared`
("all" weights of a layer, or the "gate" alone). Of "parity": `checks` (name, what was measured, what is allowed, unit, the difference
computed anew or None), `layers`, `n_tokens`, `token`, `dtype`.
"""

import math
import re

from sentence_checker import COUNT, check, clause, is_count

LAYERS = r"\d+(?:, \d+)*"


def common(by_layer: dict[int, str]) -> str:
    if len(set(by_layer.values())) == 1:
        return next(iter(by_layer.values()))
    return "; ".join(f"layer {layer}: {value}" for layer, value in by_layer.items())


@clause(
    "load",
    rf"Format (?P<format>A|B|C|native|memory): (?P<used>\d+) of (?P<all>\d+) tensors used, (?P<left>\d+) left over; (?P<variant>.+?) "
    rf"\((?P<provenance>.+?)\) on layers? (?P<layers>{LAYERS})\. (?P<match>.+)\.",
    compares="all",
)
def _load(found, data):
    used = sum(map(len, data["layers"].values()))
    assert found["format"] == data["format"]
    is_count(found["used"], used), is_count(found["all"], len(data["keys"]))
    is_count(found["left"], len(data["keys"]) - used)
    assert [int(each) for each in found["layers"].split(", ")] == sorted(data["layers"])
    assert found["variant"] == common(data["variant"]) and found["provenance"] == common(data["provenance"])
    check("base match", found["match"], data["match"])


def numbers(text: str | None) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", text or "")]


def equal(data: dict, is_equal: bool = True) -> list[int]:
    return [layer for layer, same in data["equal"].items() if same == is_equal]


@clause(
    "base match",
    r"Config and weights of its layers are those of (?P<model>\S+)(?:; of layers? (?P<without>[\d, ]+) it records none)?$",
)
def _same(found, data):
    assert data["config"] is True and data["compared"] == "all" and found["model"] == data["model"]
    assert equal(data) and not equal(data, False)
    assert numbers(found["without"]) == data.get("unrecorded", [])


@clause(
    "base match",
    r"The config is that of (?P<model>\S+); of its layers the file records no weights to compare$",
    compares="no",
)
def _config_alone(found, data):
    assert data["config"] is True and not data["equal"] and found["model"] == data["model"]


@clause(
    "base match",
    r"The checkpoint was made on (?P<named>.+?), whose weights differ from (?P<model>\S+)'s in layer (?P<layers>[\d, ]+); numbers will be "
    r"off: open the base model that it was trained on$",
)
def _other_weights(found, data):
    assert (found["named"], found["model"]) == (data["named"], data["model"]) and data["compared"] == "all"
    assert numbers(found["layers"]) == equal(data, False) != []


@clause(
    "base match",
    r"The checkpoint was made on (?P<named>.+?), whose config differs from (?P<model>\S+)'s, though the weights of its layers are the same; "
    r"check rope and norm settings$",
    compares="differs",
)
def _other_config(found, data):
    assert data["config"] is False and equal(data) and not equal(data, False)
    assert (found["named"], found["model"]) == (data["named"], data["model"])


@clause(
    "base match", r"The gate weights beside the adapters are (?P<model>\S+)'s \(layer (?P<layers>[\d, ]+)\)$"
)
def _same_gates(found, data):
    assert data["compared"] == "gate" and found["model"] == data["model"]
    assert numbers(found["layers"]) == equal(data) != [] and not equal(data, False)


@clause(
    "base match",
    r"The gate weights beside the adapters differ from (?P<model>\S+)'s in layer (?P<layers>[\d, ]+); open this folder itself as the base "
    r"model$",
)
def _other_gates(found, data):
    assert data["compared"] == "gate" and found["model"] == data["model"]
    assert numbers(found["layers"]) == equal(data, False) != []


@clause("base match", r"The file does not name its base; its dimensions fit (?P<model>\S+)$")
def _unnamed(found, data):
    assert data["named"] is None and not data["equal"] and found["model"] == data["model"]


@clause(
    "base match",
    r"The file names (?P<named>\S+), the model that is open; it has no fingerprint to prove it$",
    compares="no",
)
def _by_name(found, data):
    assert found["named"] == data["named"] == data["model"] and not data["equal"]


@clause(
    "base match",
    r"The file names (?P<named>\S+) as its base, the open model is (?P<model>\S+); the dimensions fit, the numbers need not: open the base "
    r"model that it was trained on$",
)
def _another_name(found, data):
    assert (found["named"], found["model"]) == (data["named"], data["model"])
    assert data["named"] != data["model"] and not data["equal"]


SETTING = (
    rf"\(layers? (?P<layers>{LAYERS}) run for real, positions as deployed, (?P<n>{COUNT}) tokens? of prompt, ΔW written out at "
    r"#(?P<token>\d+), (?P<dtype>\w+)\)"
)


def measured(found: dict, data: dict) -> dict[str, bool]:
    """Name of a check -> whether it holds; what the sentence lists is compared."""
    assert [int(each) for each in found["layers"].split(", ")] == list(data["layers"])
    is_count(found["n"], data["n_tokens"]), is_count(found["token"], data["token"])
    assert found["dtype"] == data["dtype"]
    holds, listed = {}, []
    for name, difference, allowed, unit, own in data["checks"]:
        # What cannot be told from rounding is computed anew to be so; what is larger, to its size.
        holds[name] = difference <= allowed
        if own is not None:
            assert (own <= allowed) == holds[name], f"{name}: {own} computed anew"
            assert holds[name] or not math.isfinite(own) or math.isclose(own, difference, rel_tol=0.02)
        shown = "0 allowed" if allowed == 0 else f"{allowed:.2g} allowed"
        listed.append((name, f"{name}: {difference:.2g} {unit} ({shown})"))
    broken = not all(holds.values())
    assert found["parts"] == "; ".join(text for name, text in listed if not broken or not holds[name])
    return holds


@clause("parity", rf"Parity holds in all of (?P<all>\d+) checks {SETTING}: (?P<parts>.+)\.", compares="all")
def _holds(found, data):
    holds = measured(found, data)
    assert all(holds.values())
    is_count(found["all"], len(holds))


@clause(
    "parity",
    rf"Parity is broken: (?P<failed>\d+) of (?P<all>\d+) checks fails? {SETTING}: (?P<parts>.+)\.",
    compares="all",
)
def _broken(found, data):
    holds = measured(found, data)
    is_count(found["failed"], sum(not each for each in holds.values())), is_count(found["all"], len(holds))
    assert int(found["failed"]) > 0
