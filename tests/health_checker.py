"""Clauses about what an adapter fits and what is wrong with it; shares, sizes and cosines are computed anew (recomputed.Layer).

Data of "probe" and of "health: RULE": `layer`, a recomputed.Layer; `measured`, the LayerEvidence that the sentence was made
from, of which no number is believed that the layer can give. Thresholds are those of the rules; what follows from them is
written here again, from docs/health.md.
"""

import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from sentence_checker import COUNT, NUMBER, PERCENT, check, clause, interval, is_count, number

from npt_viz.analysis.health import rules
from npt_viz.results import better

WAY = (
    r"(?:as it stands|without RoPE|in layer \d+|with the sign of what it adds(?: to \w+)? turned|with [\d.e+-]+ times what it "
    r"adds(?: to \w+)?|with (?:the weights|W_\w+) of \w+ for \w+(?:, \w+ for \w+)*|with its additive and its multiplicative part "
    r"exchanged|read with attention \w+|read as [\w+-]+)"
)
SHARE = rf"(?:{PERCENT})(?: \[(?:{PERCENT}), (?:{PERCENT})\])?"
STATED = rf"{SHARE} {WAY}(?: \({COUNT} tokens\))?"


def is_share(text: str, value: float) -> None:
    """A whole percent, within what float32 leaves of it."""
    if text == "–":
        assert not math.isfinite(value), f"– is {value}"
        return
    slack = 0.01 + 3e-4 * abs(100 * value - 100)
    assert abs(number(text) - 100 * value) <= 0.5 + slack, f"{text} is {100 * value}"


def is_close(text: str, value: float, relative: float = 0.06) -> None:
    """Two digits, such as 1.3e-05."""
    assert math.isclose(number(text), value, rel_tol=relative), f"{text} is {value}"


def is_interval(text: str, values) -> tuple[float, float]:
    """80 % [78 %, 82 %] of these values; its ends."""
    shown = re.fullmatch(rf"({PERCENT})(?: \[({PERCENT}), ({PERCENT})\])?", text)
    median, low, high, _ = interval(values)
    is_share(shown[1], median)
    assert (shown[2] is not None) == math.isfinite(low)
    if shown[2]:
        is_share(shown[2], low), is_share(shown[3], high)
    return low, high


# What an adapter fits.


def kind_of(name: str) -> str:
    starts = {
        "without RoPE": "positions", "in layer": "layer", "with the sign": "sign", "read": "reading", "with the weights": "swapped",
        "with W_": "swapped", "with its": "swapped", "with": "size",
    }  # fmt: skip
    return next(kind for start, kind in starts.items() if name.startswith(start))


def is_in_part(name: str) -> bool:
    """Whether a way changes one target or exchanges parts."""
    return kind_of(name) == "swapped" or " adds to " in name


def fits_better(name: str, own: tuple, other: tuple, gain: tuple) -> bool:
    """docs/health.md: worth a word, and clearly more than healthy adapters show. Each (low, high)."""
    kind = kind_of(name)
    if not other[0] > (better.FITS_IN_PART if is_in_part(name) else better.FITS):
        return False
    if kind == "layer" and own[1] > better.AT_HOME * other[0]:
        return False
    margin = better.MARGINS[kind]
    if kind == "positions" and own[1] < better.HARDLY_DEPLOYED * other[0]:
        margin = margin / 2
    leaves_little = 1 - other[0] < better.NEARLY_ALL * (1 - own[1])
    return gain[0] > margin or (leaves_little and gain[0] > 0)


class Tried:
    """Every way of a probe, from the shares computed anew."""

    def __init__(self, data: dict) -> None:
        self.layer, self.probe = data["layer"], data["measured"].probe
        self.thorough = data.get("thorough", False)
        self.own = self.layer.shares()
        if self.probe.verdict == "not judged" or np.isnan(self.own).all():
            self.own = np.zeros_like(self.own)
        self.names = [each.name for each in self.probe.alternatives[1:]]
        assert len(set(self.names)) == len(self.names)

    def ends(self, name: str) -> tuple[tuple, tuple, tuple]:
        """(own, other, gain): (low, high) each, the gain with 99.9 %."""
        shares = self.layer.shares(name)
        gain = interval(shares - self.own, 0.999)
        return interval(self.own)[1:3], interval(shares)[1:3], gain[1:3]

    def is_better(self, name: str) -> bool:
        return fits_better(name, *self.ends(name))

    def may_be_better(self, name: str) -> bool:
        (own_low, _), (_, other_high), (_, gain_high) = self.ends(name)
        room = fits_better(name, (own_low, own_low), (other_high, other_high), (gain_high, gain_high))
        return room and not self.is_better(name)

    def median(self, name: str) -> float:
        median = interval(self.layer.shares(name))[0]
        return median if math.isfinite(median) else -math.inf

    @property
    def looked_at(self) -> list[str]:
        """All ways, or those that are said to recover most or perhaps more: what could make an absence false."""
        ways = self.probe.alternatives[1:]
        return [each.name for i, each in enumerate(ways) if self.thorough or i < 2 or each.gain.high > 0]

    def is_best(self, name: str) -> None:
        """No way that was looked at has a larger median; equal ones may stand in either order."""
        best = max(map(self.median, self.looked_at))
        assert self.median(name) >= best - 1e-4 * (1 + abs(best)), f"{name} is not the best"


def stated_way(data: dict, tried: Tried, text: str) -> str:
    """Checks a share, its interval and its number of tokens; the name of the way."""
    shown = re.fullmatch(rf"(?P<share>{SHARE}) (?P<name>{WAY})(?: \((?P<n>{COUNT}) tokens\))?", text)
    name = shown["name"]
    assert name in tried.names or name == "as it stands", f"{name} was not tried"
    shares = tried.layer.shares(name)
    is_interval(shown["share"], shares)
    n = int(np.isfinite(shares).sum())
    own = int(np.isfinite(tried.layer.shares()).sum())
    assert (shown["n"] is not None) == (n != own)
    if shown["n"]:
        is_count(shown["n"], n)
    return name


SETTING = (
    rf"\(median of (?P<n>{COUNT}) tokens of (?P<texts>.+?), sinks left out, 95\N{{NO-BREAK SPACE}}% interval; local, positions as "
    r"deployed unless said otherwise\)\."
)
START = rf"Layer (?P<layer>\d+) recovers (?P<own>{SHARE}) as it stands"


def begun(found: dict, data: dict) -> Tried:
    tried = Tried(data)
    assert int(found["layer"]) == tried.layer.layer
    own = tried.layer.shares()
    is_interval(found["own"], own)
    is_count(found["n"], np.isfinite(own).sum())
    assert found["texts"] == data["layer"].texts
    if found.get("tried"):
        is_count(found["tried"], len(tried.names))
    return tried


def none_is_better(tried: Tried) -> None:
    for name in tried.looked_at:
        assert not tried.is_better(name), f"{name} fits clearly better"


@clause(
    "probe",
    rf"{START}, and none of (?P<tried>\d+) other ways to use it recovers more {SETTING}",
    compares="recovers more",
)
def _as_it_is(found, data):
    tried = begun(found, data)
    none_is_better(tried)
    own = interval(tried.own)[0]
    for name in tried.looked_at:
        assert tried.median(name) <= own + 1e-4 * (1 + abs(own)), f"{name} recovers more"
        assert not tried.may_be_better(name), f"{name} may be better"


@clause(
    "probe",
    rf"{START}; the best of (?P<tried>\d+) other ways to use it recovers (?P<best>{STATED}): no more above it than healthy "
    rf"adapters show {SETTING}",
    compares="recovers best no more",
)
def _little_better(found, data):
    tried = begun(found, data)
    none_is_better(tried)
    name = stated_way(data, tried, found["best"])
    tried.is_best(name)
    assert tried.median(name) > interval(tried.own)[0] - 1e-4
    for each in tried.looked_at:
        assert not tried.may_be_better(each), f"{each} may be better"


@clause("probe", rf"{START} and (?P<best>{STATED}): it fits that {SETTING}", compares="recovers")
def _fits(found, data):
    tried = begun(found, data)
    name = stated_way(data, tried, found["best"])
    assert tried.is_better(name)
    rivals = [
        each
        for each in tried.looked_at
        if tried.is_better(each) and (kind_of(each) != kind_of(name) or kind_of(name) == "layer")
    ]
    best = tried.layer.shares(name)
    for each in {*rivals} - {name}:
        assert interval(best - tried.layer.shares(each), 0.999)[1] > 0, f"it cannot be told from {each}"


@clause(
    "probe",
    rf"{START}; something else fits better, and it cannot be told which: (?P<either>{STATED}(?: or {STATED})+) {SETTING}",
    compares="recovers better cannot",
)
def _either(found, data):
    tried = begun(found, data)
    said = re.split(rf" or (?={STATED})", found["either"])
    names = [stated_way(data, tried, each) for each in said]
    assert all(map(tried.is_better, names))
    best = max(names, key=tried.median)
    for name in {*names} - {best}:
        apart = interval(tried.layer.shares(best) - tried.layer.shares(name), 0.999)[1] > 0
        assert not apart, f"{name} can be told from {best}"


@clause(
    "probe",
    rf"{START}; whether something else fits better cannot be told from these tokens {SETTING}",
    compares="recovers better cannot",
)
def _untold(found, data):
    tried = begun(found, data)
    none_is_better(tried)
    assert any(map(tried.may_be_better, tried.looked_at))


@clause(
    "probe",
    rf"{START}, and the best of (?P<tried>\d+) other ways to use it (?P<best>{STATED}): (?P<by>it fits nothing that was tried|"
    rf"weights that fit nothing reach as much in one of so many ways) {SETTING}",
    compares="recovers best nothing",
)
def _fits_nothing(found, data):
    tried = begun(found, data)
    none_is_better(tried)
    name = stated_way(data, tried, found["best"])
    tried.is_best(name)
    assert interval(tried.own)[2] < better.NO_SHARE
    assert (found["by"][0] == "w") == (tried.ends(name)[1][0] > better.FITS)
    for each in tried.looked_at:
        most = better.FITS_IN_PART if is_in_part(each) else better.FITS
        assert not tried.ends(each)[1][0] > most, f"{each} recovers something"
        assert not tried.may_be_better(each), f"{each} may be better"


@clause(
    "probe",
    r"Layer (?P<layer>\d+) keeps attention in its standard path, where there is nothing to recover, and fits nothing else of "
    rf"(?P<tried>\d+) that were tried {SETTING}",
    compares="nothing",
)
def _keeps(found, data):
    tried = Tried(data)
    most = max(int(np.isfinite(tried.layer.shares(name)).sum()) for name in tried.names)
    assert most > 0 and found["texts"] == tried.layer.texts
    is_count(found["n"], most)
    assert int(found["layer"]) == tried.layer.layer and tried.layer.weights.semantics.attention == "standard"
    is_count(found["tried"], len(tried.names))
    none_is_better(tried)


@clause(
    "probe",
    r"Layer (?P<layer>\d+) keeps attention in its standard path, where there is nothing to recover, and (?P<tried>\d+) other ways have "
    rf"nothing, either {SETTING}",
    compares="nothing",
)
def _all_keep(found, data):
    tried = Tried(data)
    assert int(found["layer"]) == tried.layer.layer and tried.layer.weights.semantics.attention == "standard"
    is_count(found["tried"], len(tried.names)), is_count(found["n"], 0)
    assert found["texts"] == tried.layer.texts
    assert not any(np.isfinite(tried.layer.shares(name)).any() for name in tried.names)


# What is wrong with a layer: each finding's meaning.

WHERE = rf"(?P<n>{COUNT}) tokens of (?P<texts>.+?), sinks left out; local, positions as deployed"


def where(found: dict, data: dict) -> None:
    """n and text; mode and positions are those in which the checker computes."""
    is_count(found["n"], int((~data["layer"].is_sink).sum()))
    assert found["texts"] == data["layer"].texts


TARGETS = r"(?P<targets>(?:gate|up|down)(?: and (?:gate|up|down))*)"


def chosen(found: dict) -> list[str]:
    return re.findall("gate|up|down", found["targets"])


def sizes(layer, target: str) -> np.ndarray:
    """(token,) ‖s·v_b‖ / ‖the projection's own output‖."""
    added = layer.counted(lambda w: w.added[target])
    return (added.norm(dim=-1) / layer.counted(lambda w: w.plain[target]).norm(dim=-1)).numpy()


@clause(
    "health: nothing_loaded",
    rf"The modulation changes the MLP's output at none of (?P<all>{COUNT}) tokens of (?P<texts>.+?) \((?P<zero>\d+) tensors? of zeros "
    r"alone; local, positions as deployed\): this layer runs as if its attention had been dropped\.",
    compares="changes no",
)
def _nothing_loaded(found, data):
    layer = data["layer"]
    is_count(found["all"], len(layer.is_sink))
    assert found["texts"] == layer.texts
    change = layer.column(lambda w: (w.output - w.unmodulated).norm(dim=-1) / w.unmodulated.norm(dim=-1))
    assert change.max() < 1e-6
    zero = sum(
        int(not part.any())
        for each in layer.weights.tensors.values()
        for t in each.values()
        for part in parts(t)
    )
    is_count(found["zero"], zero)


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """A file has one tensor a component."""
    return [*tensor] if tensor.ndim == 3 else [tensor]


@clause(
    "health: vanishing",
    rf"The modulation of {TARGETS} moves (?:it by|(?P<most>each by at most)) (?P<size>[\d.e+-]+) of its size \(median of {WHERE}\), which "
    r"bfloat16 rounds away\.",
    compares="moves most",
)
def _vanishing(found, data):
    layer = data["layer"]
    medians = [float(np.median(sizes(layer, target))) for target in chosen(found)]
    where(found, data)
    assert max(medians) < 2.0**-9
    is_close(found["size"], max(medians))
    assert (found["most"] is not None) == (len(medians) > 1)


@clause(
    "health: scalar_constant",
    rf"The scalar of {TARGETS} is the same at every token within (?P<within>\d+\.\d)% \({WHERE}\): what the token's own z says no longer "
    r"matters, and the layer adds v_b\(a\), a change of bias and not of weight\.",
    compares="within no",
)
def _scalar_constant(found, data):
    layer, widest = data["layer"], 0.0
    where(found, data)
    kept = torch.tensor(~layer.is_sink)
    for target in chosen(found):
        columns = [
            layer.weights.scalars(target, w.a, w.intermediate if target == "down" else w.x)[0]
            for w in layer.own
        ]
        for component in zip(*columns, strict=True):
            s = torch.cat(component)[kept]
            widest = max(widest, float(s.std() / s.mean().abs()))
    assert widest < 2.0**-7
    assert abs(number(found["within"]) - 100 * widest) <= 0.051 + 1e-3 * 100 * widest


@clause(
    "health: direction_collapsed",
    rf"What is added to {TARGETS} lies along one direction at every token, one way or the other, and the layer (?:"
    rf"recovers (?P<own>{SHARE})|has nothing to recover) \((?:median of )?{WHERE}\)\.",
    compares="recovers nothing",
)
def _direction_collapsed(found, data):
    layer = data["layer"]
    shares = layer.shares()
    assert (found["own"] is not None) == np.isfinite(shares).any()
    if found["own"]:
        is_interval(found["own"], shares)
    where(found, data)
    for target in chosen(found):
        added = layer.counted(lambda w, t=target: w.added[t])
        energy = torch.linalg.svdvals(added) ** 2
        assert 1 - energy[0] / energy.sum() < 0.01
        assert interval(lost_on_one(layer, target))[2] < 0.01


def lost_on_one(layer, target: str) -> np.ndarray:
    """(token,) ‖ŷ₁ − ŷ‖² / ‖ŷ − MLP(z)‖² with what is added put onto its first principal axis."""
    added = layer.counted(lambda w: w.added[target])
    axis = torch.linalg.svd(added, full_matrices=False).Vh[0]
    kept, start, lost = torch.tensor(~layer.is_sink), 0, []
    for w in layer.own:
        n = len(w.a)
        on_one = {**w.added, target: torch.outer(w.added[target] @ axis, axis)}
        m = w.m(on_one)
        down = (
            layer.weights.added("down", w.a, m, m @ w.down_weight.T) if target != "down" else on_one["down"]
        )
        output = m @ w.down_weight.T + down
        change = (w.output - w.unmodulated).square().sum(-1)
        lost.append(((output - w.output).square().sum(-1) / change)[kept[start : start + n]])
        start += n
    return torch.cat(lost).numpy()


for rule in (
    "sign_flipped", "wrong_size", "swapped", "wrong_layer", "trained_without_rope", "objective_mismatch", "ambiguous",
    "recovers_nothing", "worse_than_nothing",
):  # fmt: skip

    @clause(f"health: {rule}", r"(?P<probe>Layer .+?\)\.)(?= Its squared error|$)")
    def _as_the_probe_says(found, data, rule=rule):
        check("probe", found["probe"], data)
        tried = Tried(data)
        kinds = {
            "sign_flipped": "sign", "wrong_size": "size", "swapped": "swapped", "wrong_layer": "layer",
            "trained_without_rope": "positions", "objective_mismatch": "reading",
        }  # fmt: skip
        if rule in kinds:
            assert kind_of(data["measured"].probe.fits[0].name) == kinds[rule]
        elif rule != "ambiguous":
            assert interval(tried.own)[2] < better.NO_SHARE


@clause(
    "health: worse_than_nothing",
    rf"Its squared error is (?P<times>{NUMBER}) times that of no modulation \(median\)\.",
    compares="times no",
)
def _worse_than_nothing(found, data):
    median, _, high, _ = interval(data["layer"].shares())
    assert high < -rules.HARMLESS
    assert math.isclose(number(found["times"]), 1 - median, rel_tol=2e-3, abs_tol=0.0051)


@clause(
    "health: parity",
    rf"(?P<share>{PERCENT}) of (?P<compared>{COUNT}) tokens have a partner with opposite attention\. They need opposite changes \(mean cosine "
    rf"(?P<needed>[+-]\d\.\d\d)\) and do not get them \((?P<given>[+-]\d\.\d\d)\), and recover (?P<recovered>{SHARE}) \({WHERE}\): an adapter "
    r"without bias adds the same for a and −a\.",
    compares="changes",
)
def _parity(found, data):
    layer = data["layer"]
    few = slice(0, 1024)
    a, target, output, plain, shares = (
        layer.counted(of)[few]
        for of in (
            lambda w: w.a, lambda w: w.target, lambda w: w.output, lambda w: w.unmodulated, lambda w: torch.tensor(w.recovered)
        )
    )  # fmt: skip
    pairs = cosines(a) < -0.5
    has = pairs.any(1)
    is_share(found["share"], float(has.double().mean()))
    is_count(found["compared"], len(a)), where(found, data)
    needed, given = (float(cosines(x - plain)[pairs].mean()) for x in (target, output))
    assert abs(float(found["needed"]) - needed) < 0.0055 and abs(float(found["given"]) - given) < 0.0055
    assert needed < -rules.OPPOSITE and given - needed > rules.OPPOSITE
    is_interval(found["recovered"], shares[has].numpy())


def cosines(x: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(x, dim=-1)
    return unit @ unit.T


@clause(
    "health: sink_dominates",
    rf"(?P<n_sinks>\d+) attention sinks? makes? up (?P<weight>{PERCENT}) of a mean squared error over all of (?P<all>{COUNT}) tokens of .+?, "
    rf"which says (?P<pooled>{PERCENT}) (?:is|are) recovered; the typical token has (?P<own>{SHARE}) \(median of {WHERE}\): the sinks were (?P<how>trained at the others' expense|left "
    r"behind)\.",
    compares="all",
)
def _sink_dominates(found, data):
    layer = data["layer"]
    error, nothing = (
        layer.column(of)
        for of in (
            lambda w: (w.output - w.target).square().sum(-1), lambda w: (w.unmodulated - w.target).square().sum(-1)
        )
    )  # fmt: skip
    sinks = torch.tensor(layer.is_sink)
    is_count(found["n_sinks"], int(sinks.sum())), is_count(found["all"], len(sinks)), where(found, data)
    weight, pooled = float(nothing[sinks].sum() / nothing.sum()), float(1 - error.sum() / nothing.sum())
    is_share(found["weight"], weight), is_share(found["pooled"], pooled)
    low, high = is_interval(found["own"], layer.shares())
    of_sinks = float(1 - error[sinks].sum() / nothing[sinks].sum())
    assert weight >= 0.5
    if found["how"] == "left behind":
        assert of_sinks < low, "the sinks recover as much as other tokens"
    else:
        assert of_sinks > high, "the sinks recover no more than other tokens"


FLOOR = (
    rf"A fresh fit of (?P<steps>\d+) steps of the same shape \((?P<shape>.+?)\) recovers (?P<fit>{PERCENT}), this layer (?P<own>{PERCENT}) "
    rf"\(of (?P<n>{COUNT}) held-out tokens, sinks left out; local, positions as (?P<positions>deployed|trained)\)(?P<seen> \(.+?\))?"
)


def fresh_fit(found, data):
    """The fit itself is believed here; tests/analysis/test_class_floor.py holds it against another one, by other means."""
    floor = data["measured"].floor
    is_count(found["steps"], floor.steps), is_count(found["n"], floor.n_heldout)
    is_share(found["fit"], floor.recovered), is_share(found["own"], floor.adapter_recovered)
    assert found["positions"] == floor.positions and (found["seen"] or "") == floor.seen_note
    layer = data["layer"]
    k = {
        len(t["W_down"]) if t.get("W_down", torch.zeros(1)).ndim == 3 else 1
        for t in layer.weights.tensors.values()
    }
    assert found["shape"].startswith("+".join(layer.weights.tensors) + ", rank ")
    assert floor.recovered > 0.05 and floor.recovered_train - floor.recovered <= 0.2 and k
    return floor


@clause(
    "health: rank_floor",
    rf"{FLOOR}: more of the same training is unlikely to help\.",
    compares="recovers more",
)
def _rank_floor(found, data):
    floor = fresh_fit(found, data)
    assert abs(floor.recovered - floor.adapter_recovered) <= rules.FLOOR_MARGIN


@clause("health: undertrained", rf"{FLOOR}\.", compares="recovers")
def _undertrained(found, data):
    floor = fresh_fit(found, data)
    assert floor.recovered - floor.adapter_recovered >= rules.WORTH


# What is wrong with a file.


@clause("health: wrong_base", r"(?P<sentence>.+)\.")
def _wrong_base(found, data):
    match = data["load"].base_match
    assert found["sentence"] == match.sentence and match.status == "mismatch"


@clause(
    "health: left_over",
    r"(?P<unused>\d+) of (?P<all>\d+) tensors belongs? to no NPT layer that was recognised, the first is (?P<first>\S+): a part of what "
    r"was trained may not run\.",
    compares="no",
)
def _left_over(found, data):
    load = data["load"]
    is_count(found["unused"], len(load.unused)), is_count(found["all"], load.tensors_total)
    assert found["first"] == load.unused[0]
    assert load.tensors_used + len(load.unused) == load.tensors_total


@clause(
    "health: not_finite",
    r"(?P<nan>[\d,]+) weights? (?:is|are) NaN and (?P<inf>[\d,]+) infinite; the layer cannot run\.",
    compares="cannot",
)
def _not_finite(found, data):
    tensors = [t for each in data["layer"].weights.tensors.values() for t in each.values()]
    is_count(found["nan"], sum(int(t.isnan().sum()) for t in tensors))
    is_count(found["inf"], sum(int(t.isinf().sum()) for t in tensors))


@clause(
    "health: untrained",
    r"(?P<n>\d+) of (?P<all>\d+) tensors looks? as training began, the first is (?P<first>\S+) \((?P<reason>.+)\)\.",
    compares="all",
)
def _untrained(found, data):
    weights = data["layer"].weights
    report = next(each for each in data["load"].layers if each.layer == weights.layer)
    is_count(found["all"], sum(len(parts(t)) for each in weights.tensors.values() for t in each.values()))
    assert report.at_initialisation[found["first"]] == found["reason"]
    assert 1 <= int(found["n"]) <= len(report.at_initialisation)


@clause(
    "health: broken_downstream",
    rf"[Ll]ayers? (?P<layers>\d+(?:, \d+)*) recovers? (?P<own>{PERCENT}) or more of attention locally \((?P<setting>.+?)\), but run for "
    rf"real the prediction is no better than with no modulation: KL (?P<median>{NUMBER}) against (?P<median_off>{NUMBER}) nats "
    rf"\(median\), (?P<mean>{NUMBER}) against (?P<mean_off>{NUMBER}) \(mean, over "
    rf"(?P<n>{COUNT}) tokens of (?P<texts>.+?), positions as deployed\)\.",
    compares="recovers more no better",
)
def _broken_downstream(found, data):
    """KL from logits computed anew: `kl(layers, modulated)` -> (token,)."""
    layers = tuple(map(int, found["layers"].split(", ")))
    lows = [interval(each.shares())[1] for each in data["all"] if each.layer in layers]
    is_share(found["own"], min(lows))
    npt, off = data["kl"](layers, True), data["kl"](layers, False)
    is_count(found["n"], len(npt))
    assert found["texts"] == data["all"][0].texts
    for name, value in {
        "median": np.median(npt), "median_off": np.median(off), "mean": np.mean(npt), "mean_off": np.mean(off)
    }.items():  # fmt: skip
        is_close(found[name], float(value))
    assert np.median(npt) >= np.median(off) or np.mean(npt) >= np.mean(off)


@clause(
    "health",
    rf"(?:No finding|(?P<counts>\d+ (?:error|warning|remark)s?(?: and \d+ (?:error|warning|remark)s?)*)) \((?P<layers>\d+) layers?, "
    rf"(?P<tokens>{COUNT}) tokens? in (?P<sequences>\d+) sequences? of (?P<texts>.+?), (?P<sinks>{COUNT}) sinks? of them; local, "
    r"positions as deployed unless said otherwise\)\.",
    compares="no",
)
def _findings(found, data):
    """data: severities, one a finding; layers run; lengths of the sequences; n_sinks."""
    severities(found, data)
    assert found["texts"] == data["texts"] and data["layers"]
    is_count(found["layers"], len(data["layers"])), is_count(found["tokens"], sum(data["lengths"]))
    is_count(found["sequences"], len(data["lengths"])), is_count(found["sinks"], data["n_sinks"])


@clause(
    "health",
    r"(?P<counts>\d+ (?:error|warning|remark)s?(?: and \d+ (?:error|warning|remark)s?)*) \(the file alone was judged: no layer was run\)\.",
    compares="no",
)
def _file_alone(found, data):
    severities(found, data)
    assert not data["layers"] and not data["lengths"]


def severities(found, data):
    counts = [
        (data["severities"].count(s), name)
        for s, name in (("error", "error"), ("warning", "warning"), ("info", "remark"))
    ]
    expected = " and ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts if n)
    assert (found["counts"] or "") == expected
