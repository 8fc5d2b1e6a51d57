"""Rules that turn the steps of a training into alarms, and say where nothing more can come of it (Ending).

The one home of both for library, command, page and experiments. NaN is no rule: the trainer stops at once (Diverged).
"""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple, cast

import numpy as np

from npt_viz.results.training import Alarm, LayerStep, Severity, Step
from npt_viz.training.causes import STRONG_DECAY, decay_a_step, shrinking, smallest_factor, steadier
from npt_viz.training.losses.objective import Objective
from npt_viz.training.recipe import Recipe

SETTLED = 20
"""Steps before any rule looks, and whose median of the total counts: one batch with an outlier token says little."""

SMOOTHING = 0.95
"""Of the running means: a step counts for about twenty."""

COLLAPSED_NORM = 1e-6
"""‖v_a‖ and ‖v_b‖ both below this: the check in public use (docs/mathematics.md §11)."""

COLLAPSED_VARIANCE = 1e-4
"""Of the scalar's variance when the watch began."""

EXPLOSION_RULE = "explosion"
EXPLODED = 10.0
"""Times the best median of the total, and above where the total began."""

DOMINANT = 0.95
"""Share of the sum of the weighted gradient norms."""

CONFLICT = -0.5
"""Cosine between two terms' gradients."""

PATIENCE = 300
"""Steps without progress."""

HELDOUT_RULE = "held-out worse"
HELDOUT_DROP = 0.02
"""Share recovered below its best."""

WORSE_RULE = "worse than none"
WORSE = 0.02
"""Share recovered below 0, which is what no modulation recovers; less is chance between tokens."""

BEGINNING = 400
"""Steps with the final weights and tokens before the held-out share may end a training: a slow start is none."""

EXPLODED_FOR = 100
"""Steps in a row with an exploded loss that end a training."""

IDLE_FOR = 20
"""Steps in a row without any gradient that end a training."""


EndingKind = Literal["diverged", "nothing learned", "nothing left"]
"""nothing learned: there never was a gradient. nothing left: there was one, and it is gone."""


@dataclass
class LayerWatch:
    """Memory of the rules for one layer, in plain values that can be saved."""

    n: int = 0
    totals: list[float] = field(default_factory=list)
    """Of the last steps."""
    first_total: float = float("nan")
    best_total: float = float("inf")
    best_step: int = 0
    weights: dict[str, float] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)
    """Target -> variance of its scalar when the watch began."""
    gradient_shares: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)
    best_heldout: float = float("-inf")
    sounding: list[list[str]] = field(default_factory=list)
    """[rule, about] of the alarms that hold now; each is told once until it has ceased."""
    steps: int = 0
    """Of this layer."""
    shares: list[list[float]] = field(default_factory=list)
    """[step of this layer, share recovered on held-out text] of the last two evaluations."""
    before: list[list[float]] = field(default_factory=list)
    """The last of them before a training that had ended went on."""
    exploded: int = 0
    """Steps in a row with an exploded loss."""
    idle: int = 0
    """Steps in a row without any gradient."""
    lost: str = ""
    """Why the last evaluation says that nothing more can come of this layer."""
    ended: list[str] = field(default_factory=list)
    """The fields of its Ending, or nothing."""


_HIGHER = 1.2
"""Times its best median from which a loss on training text counts as risen."""


class _Symptom(NamedTuple):
    rule: str
    about: str
    """The target, term or pair; empty for the layer as a whole."""
    severity: Severity
    sentence: str


class Ending(NamedTuple):
    """Why nothing more can come of a layer's training."""

    kind: EndingKind
    sentence: str
    """With the numbers that say so."""

    @property
    def diverged(self) -> bool:
        """Whether it got worse, rather than having nothing to learn."""
        return self.kind == "diverged"

    @property
    def failed(self) -> bool:
        """False where something was learned and nothing is left."""
        return self.kind != "nothing left"


class Watch:
    """Watches every step of a training and returns the alarms that are new.

    steps: that each layer takes in all.
    objective: its `settled` and `supervising` say from when and whether a bad held-out share is a divergence.
    recipe: what it says of step sizes and decay tells causes apart.
    """

    def __init__(
        self,
        state: dict | None = None,
        *,
        steps: int = 0,
        objective: Objective | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self._layers = {int(layer): LayerWatch(**fields) for layer, fields in (state or {}).items()}
        self._steps, self._objective, self._recipe = steps, objective, recipe

    @property
    def endings(self) -> dict[int, Ending]:
        """Layer -> why nothing more can come of it; other layers may go on."""
        return {
            layer: Ending(cast(EndingKind, watch.ended[0]), watch.ended[1])
            for layer, watch in self._layers.items()
            if watch.ended
        }

    def begin_again(self) -> None:
        """Let a training that is resumed go on, whatever ended it, and tell again every alarm that still holds."""
        for watch in self._layers.values():
            watch.sounding = []
            if watch.ended:
                watch.before, watch.shares = watch.shares[-1:], []
                watch.exploded, watch.idle, watch.lost, watch.ended = 0, 0, "", []

    def end(self, layer: int, sentence: str) -> None:
        """Record that a layer has taken all of its steps and learned nothing."""
        self._layers[layer].ended = ["nothing learned", sentence]

    @property
    def state(self) -> dict:
        """Plain values to be saved; Watch(state) continues."""
        return {str(layer): asdict(watch) for layer, watch in self._layers.items()}

    def alarms(self, step: Step) -> tuple[Alarm, ...]:
        """Alarms that begin at this step."""
        alarms = []
        for layer, layer_step in step.layers.items():
            watch = self._layers.setdefault(layer, LayerWatch())
            recovered = step.heldout[layer].recovered if step.heldout and layer in step.heldout else None
            _remember(watch, layer_step, step.number, recovered)
            left = max(0, self._steps - watch.steps)
            holding = {
                (f.rule, f.about): f
                for f in _holding(watch, layer_step, step.number, recovered, left, self._recipe)
            }
            watch.exploded = watch.exploded + 1 if (EXPLOSION_RULE, "") in holding else 0
            if recovered is not None and self._objective is not None:
                # Between evaluations what the last one said still holds.
                watch.lost = _lost(watch, layer, left, self._objective, self._recipe)
            watch.ended = list(_ending(watch, layer_step, layer, self._objective, self._recipe) or ())
            for key, new in holding.items():
                if list(key) not in watch.sounding:
                    alarms.append(
                        Alarm(
                            rule=new.rule,
                            severity=new.severity,
                            step=step.number,
                            layer=layer,
                            sentence=new.sentence,
                        )
                    )
            # What was not looked at now (held-out text between evaluations) keeps sounding.
            unseen = [
                key for key in watch.sounding if key[0] in (HELDOUT_RULE, WORSE_RULE) and recovered is None
            ]
            watch.sounding = [*map(list, holding), *unseen]
        return tuple(alarms)


def _remember(watch: LayerWatch, layer_step: LayerStep, number: int, recovered: float | None) -> None:
    watch.steps += 1
    watch.idle = watch.idle + 1 if layer_step.grad_norm == 0 else 0
    if recovered is not None and math.isfinite(recovered):
        watch.shares = [*watch.shares[-1:], [float(watch.steps), recovered]]
    if set(layer_step.weights) != set(watch.weights) or _jumped(watch.weights, layer_step.weights):
        # Another stage minimises another total: what was best before says nothing.
        watch.n, watch.totals, watch.best_total, watch.best_step = 0, [], float("inf"), number
    watch.weights = dict(layer_step.weights)
    watch.n += 1
    watch.totals = [*watch.totals[1 - SETTLED :], layer_step.total]
    if watch.n == SETTLED:
        watch.first_total = statistics.median(watch.totals)
    pulls = {name: layer_step.weights[name] * norm for name, norm in layer_step.grad_norms.items()}
    whole = sum(pulls.values())
    if whole > 0:
        for name, pull in pulls.items():
            watch.gradient_shares[name] = _mixed(watch.gradient_shares.get(name, pull / whole), pull / whole)
    if layer_step.cosines is not None:
        names = list(layer_step.terms)
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            pair, cosine = f"{names[i]} and {names[j]}", float(layer_step.cosines[i, j])
            if math.isfinite(cosine):
                watch.cosines[pair] = 0.5 * (watch.cosines.get(pair, cosine) + cosine)
    for target, measured in layer_step.targets.items():
        if math.isfinite(measured.scalar_variance):
            watch.variances.setdefault(target, measured.scalar_variance)


def _jumped(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether some weight doubled or halved at once: a stage began (adaptive weights drift)."""
    return any(not 0.5 <= after[name] / before[name] <= 2 for name in after if before.get(name))


def _mixed(before: float, value: float) -> float:
    return SMOOTHING * before + (1 - SMOOTHING) * value


def _holding(
    watch: LayerWatch,
    layer_step: LayerStep,
    number: int,
    recovered: float | None,
    left: int,
    recipe: Recipe | None,
) -> Iterator[_Symptom]:
    """Every alarm that holds at this step."""
    if watch.n > SETTLED:
        yield from _collapse(watch, layer_step, recipe)
        yield from _total(watch, number, recipe)
        yield from _balance(watch, layer_step)
    if recovered is not None:
        if recovered < watch.best_heldout - HELDOUT_DROP:
            # With several losses it may be one of the others that pulls the output away, on training text as well.
            why = "it fits its training tokens; use more text, or stop earlier"
            if (
                math.isfinite(watch.best_total)
                and statistics.median(watch.totals) > _HIGHER * watch.best_total
            ):
                why = (
                    f"its loss on training text rose too, to {statistics.median(watch.totals):.3g} after "
                    f"{watch.best_total:.3g}; {steadier(recipe)}"
                )
            elif len(layer_step.terms) > 1:
                why = f"{why}. Or, where the loss of the output rises too, another loss pulls it away: lower its weight"
            yield _Symptom(
                HELDOUT_RULE,
                "",
                "warning",
                f"on held-out text the layer recovers {recovered:.3f}, after {watch.best_heldout:.3f} at its best: "
                f"{why}",
            )
        watch.best_heldout = max(watch.best_heldout, recovered)
        # One that is on its way up from a start below 0 is worse only where it ends there.
        if recovered < -WORSE and (left == 0 or not _rises(watch)):
            yield _Symptom(
                WORSE_RULE,
                "",
                "warning",
                f"on held-out text the layer is worse than no modulation at all: it recovers {recovered:.3f} of what "
                f"attention does, where none recovers 0 (its squared error is {1 - recovered:.2f} times that of no "
                "modulation, the median over tokens)",
            )


def _rises(watch: LayerWatch) -> bool:
    """Whether the held-out share rose between the last two evaluations; after one, whether the loss has not risen."""
    if len(watch.shares) < 2:
        return not statistics.median(watch.totals) > watch.first_total
    return watch.shares[-1][1] > watch.shares[0][1]


def _ending(
    watch: LayerWatch, layer_step: LayerStep, layer: int, objective: Objective | None, recipe: Recipe | None
) -> Ending | None:
    """Why nothing more can come of this layer's training; None as long as something may."""
    if watch.exploded >= EXPLODED_FOR:
        now = statistics.median(watch.totals)
        return Ending(
            "diverged",
            f"layer {layer} diverged: for {EXPLODED_FOR} steps its loss has been more than {EXPLODED:g} times its best "
            f"({now:.3g} now, {watch.best_total:.3g} at its best, {watch.first_total:.3g} at the start); "
            f"{steadier(recipe)}, or use direct_robust where a few tokens drown the others",
        )
    if watch.lost:
        return Ending("diverged", watch.lost)
    if watch.idle >= IDLE_FOR:
        never = watch.idle == watch.steps
        pull = max((layer_step.weights[n] * norm for n, norm in layer_step.grad_norms.items()), default=0.0)
        if pull > 0 and objective is not None:
            factor = smallest_factor(layer_step.weights, objective.gradient_scale)
            return Ending(
                "nothing learned" if never else "nothing left",
                f"layer {layer} learns nothing: for {IDLE_FOR} steps its gradient has rounded to exactly 0, of losses whose "
                f"own is not ({pull:.1g} with their weights); raise the {factor}",
            )
        return Ending(
            "nothing learned" if never else "nothing left",
            f"layer {layer} has nothing {'' if never else 'left '}to learn: for {IDLE_FOR} steps the gradient of every "
            f"loss has been exactly 0 (the loss is {layer_step.total:.3g}); choose other losses or another start",
        )
    return None


def _lost(watch: LayerWatch, layer: int, left: int, objective: Objective, recipe: Recipe | None) -> str:
    """Sentence where a training ends worse than it began, or where two evaluations in a row lie below what no modulation
    recovers, with no way back in the steps left.

    Empty where that is not so, in the first BEGINNING steps with the final weights and tokens, and where losses that do
    not ask for the target make most of the gradient.
    """
    settled = objective.settled
    supervised = sum(watch.gradient_shares.get(name, 0.0) for name in objective.supervising) >= 0.5
    if supervised and left == 0 and (ended := _ended_worse(watch, layer, recipe)):
        return ended
    # Resumed for less than two evaluations, it is judged by the one before as well.
    shares = watch.shares if left else [*watch.before, *watch.shares][-2:]
    if len(shares) < 2 or watch.steps < settled + BEGINNING:
        return ""
    (before, earlier), (now, last) = shares
    comes_back = last + left * (last - earlier) / (now - before) > 0
    if before < settled or max(earlier, last) > -WORSE or comes_back or not supervised:
        return ""
    loss = statistics.median(watch.totals)
    fell = loss < 0.9 * watch.first_total
    why = (
        f"fell to {loss:.3g}, from {watch.first_total:.3g}, so it fits its training text alone, or a few tokens are far "
        "off: use more text, direct_robust, or a lower learning rate"
        if fell
        else f"is {loss:.3g}, {watch.first_total:.3g} at the start: {steadier(recipe)}, clip the gradient lower, or "
        "use direct_robust where a few tokens drown the others"
    )
    return (
        f"layer {layer} diverged: on held-out text it recovers {earlier:.3f} at its step {before:,.0f} and {last:.3f} at "
        f"{now:,.0f}, worse than no modulation (0) and not on its way back; the loss on training text {why}"
    )


def _ended_worse(watch: LayerWatch, layer: int, recipe: Recipe | None) -> str:
    """Sentence where all steps are taken, held-out text says worse than none, and the loss is above where it began."""
    loss, last = statistics.median(watch.totals), watch.shares[-1][1]
    if last > -WORSE or not loss > watch.first_total:
        return ""
    return (
        f"layer {layer} diverged: it ends at {last:.3f} on held-out text, worse than no modulation (0), with its loss at "
        f"{loss:.3g}, above the {watch.first_total:.3g} of its first {SETTLED} steps; {steadier(recipe)}, or use "
        "direct_robust where a few tokens drown the others"
    )


def _collapse(watch: LayerWatch, layer_step: LayerStep, recipe: Recipe | None) -> Iterator[_Symptom]:
    for target, measured in layer_step.targets.items():
        if measured.v_a_norm < COLLAPSED_NORM and measured.v_b_norm < COLLAPSED_NORM:
            yield _Symptom(
                "collapse",
                target,
                "error",
                f"‖v_a‖ and ‖v_b‖ of {target} are both below {COLLAPSED_NORM:g}: the modulation is gone; "
                f"{shrinking(recipe, layer_step.weights)}",
            )
        elif measured.scalar_variance < COLLAPSED_VARIANCE * watch.variances.get(target, 0.0):
            decays = decay_a_step(recipe) > STRONG_DECAY
            yield _Symptom(
                "scalar collapse",
                target,
                "warning",
                f"the scalar of {target} no longer varies over tokens (variance {measured.scalar_variance:.2g}, "
                f"{watch.variances[target]:.2g} at the start): "
                + (
                    shrinking(recipe, {}) if decays else "v_b alone carries the signal; see the guidance loss"
                ),
            )


def _total(watch: LayerWatch, number: int, recipe: Recipe | None) -> Iterator[_Symptom]:
    total, size = statistics.median(watch.totals), abs(watch.best_total)
    risen = total - watch.best_total > (EXPLODED - 1) * size and total > watch.first_total
    if math.isfinite(size) and risen:
        yield _Symptom(
            EXPLOSION_RULE,
            "",
            "error",
            f"the loss rose to {total:.3g}, from {watch.best_total:.3g} at its best: {steadier(recipe)}, "
            "or use direct_robust where a few tokens drown the others",
        )
    if watch.best_total - total > 1e-3 * size or not math.isfinite(size):
        watch.best_total, watch.best_step = total, number
    elif number - watch.best_step >= PATIENCE:
        yield _Symptom(
            "no progress",
            "",
            "info",
            f"for {PATIENCE} steps the loss has not fallen by 0.1 % below its best, {watch.best_total:.3g} (it is "
            f"{total:.3g}): {'it has converged, or' if total - watch.best_total <= 0.1 * size else 'it'} cannot go on "
            "from here",
        )


def _balance(watch: LayerWatch, layer_step: LayerStep) -> Iterator[_Symptom]:
    if len(layer_step.terms) < 2:
        return
    for name, share in watch.gradient_shares.items():
        if name in layer_step.terms and share > DOMINANT:
            yield _Symptom(
                "one term dominates",
                name,
                "warning",
                f"{name} makes {share:.0%} of the weighted gradient: the other terms hardly count; lower its weight "
                "or use adaptive weights",
            )
    for pair, cosine in watch.cosines.items():
        if cosine < CONFLICT:
            yield _Symptom(
                "terms in conflict",
                pair,
                "warning",
                f"the gradients of {pair} point against each other (cosine {cosine:.2f}): one undoes the other",
            )
