"""Objective of a training: which losses, in which form, with which weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from npt_viz.errors import NptVizError
from npt_viz.training.losses.terms import TERMS, Form
from npt_viz.training.losses.weighting import COMPOSITE, STAGE_STEPS, Curriculum, staged_weights


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The losses of one training."""

    weights: Mapping[str, float | int]
    """Loss -> weight; those of weight 0 are left out."""

    as_written: frozenset[str] = frozenset()
    """Losses that run in their published form; the others run corrected."""

    stage_steps: int | None = None
    """S of the published three stages; None keeps the weights constant."""

    adaptive: str = "off"
    """off, as_written (uniform weights, whatever was asked for) or gradient_norms (weights over gradient norms)."""

    curriculum: Curriculum | None = None
    """Tokens in order of difficulty; None uses every token from the start."""

    gradient_scale: float = 1.0
    """Factor on the gradient. AdamW divides by the gradient's own size, so it undoes this up to its epsilon; what is
    left is that clipping, which comes after, sets in earlier or later."""

    def __post_init__(self):
        for name, weight in self.weights.items():
            if name not in TERMS:
                close = get_close_matches(name, TERMS, n=2)
                meant = f"did you mean {' or '.join(close)}? The losses are" if close else "choose among"
                raise NptVizError(f"loss {name!r} does not exist; {meant} {', '.join(TERMS)}")
            if (
                not isinstance(weight, int | float)
                or isinstance(weight, bool)
                or not 0 <= weight < float("inf")
            ):
                raise NptVizError(f"the weight of loss {name!r} must be 0 or more and finite, got {weight!r}")
        for name in sorted(self.as_written):
            if name not in TERMS or TERMS[name].as_written is None:
                two = ", ".join(name for name, term in TERMS.items() if term.as_written)
                raise NptVizError(
                    f"loss {name!r} has no as_written form; the losses with two forms are {two}"
                )
        if not any(self.weights.values()):
            raise NptVizError("no loss is active: give at least one a weight above 0, for example direct=1")
        if self.adaptive not in ("off", "as_written", "gradient_norms"):
            raise NptVizError(f"adaptive {self.adaptive!r} must be off, as_written or gradient_norms")
        if self.stage_steps is not None and self.stage_steps < 1:
            raise NptVizError(
                f"stage_steps must be at least 1, got {self.stage_steps}; or None for no stages"
            )
        if not 0 < self.gradient_scale < float("inf"):
            raise NptVizError(f"gradient_scale must be above 0 and finite, got {self.gradient_scale}")

    @property
    def active(self) -> dict[str, float]:
        """Losses with a weight above 0."""
        return {name: float(weight) for name, weight in self.weights.items() if weight > 0}

    @property
    def needs_logits(self) -> bool:
        return any(TERMS[name].needs == "logits" for name in self.active)

    @property
    def settled(self) -> int:
        """After how many steps the weights and the tokens that count are those of the end."""
        stages = 0 if self.stage_steps is None or self.adaptive == "as_written" else 3 * self.stage_steps
        return max(stages, 0 if self.curriculum is None else self.curriculum.steps[-1])

    @property
    def supervising(self) -> frozenset[str]:
        """Active losses that fall as the output nears its target."""
        return frozenset(name for name in self.active if self.form(name) in TERMS[name].supervises)

    def form(self, name: str) -> Form:
        return "as_written" if name in self.as_written else "corrected"

    def weights_after(self, step: int) -> dict[str, float]:
        """Every active loss's weight for the step that follows `step` finished ones, adaptive factors left out."""
        if self.adaptive == "as_written":
            return dict.fromkeys(self.active, 1 / len(self.active))
        if self.stage_steps is None:
            return dict(self.active)
        return staged_weights(self.active, step, self.stage_steps)


def composite(**changes) -> Objective:
    """The published 'improved single-layer loss' with its three stages; `changes` replace fields of Objective."""
    return replace(Objective(weights=COMPOSITE, stage_steps=STAGE_STEPS), **changes)


Losses = Objective | Mapping[str, float | int] | Sequence[str] | str
"""Types that `objective` reads."""


def objective(losses: Losses, **settings) -> Objective:
    """Read an Objective from text, names or weights; the one parser of the library, the commands and the pages.

    losses: an Objective as it is; loss -> weight; names that all weigh 1; or text, `direct=1,orthogonality=0.01`.
        A name may end in `:as_written` to run the published form.
    settings: the other fields of Objective.

    Raises NptVizError for a loss that does not exist or is named twice, and a weight that is no number of 0 or more.
    """
    if isinstance(losses, Objective):
        return replace(losses, **settings) if settings else losses
    if isinstance(losses, str):
        pairs = [_pair(item) for item in losses.split(",") if item.strip()]
    elif isinstance(losses, Mapping):
        pairs = list(losses.items())
    else:
        pairs = [(name, 1.0) for name in losses]
    weights, as_written = {}, set()
    for key, weight in pairs:
        name, _, form = key.partition(":")
        if form not in ("", "corrected", "as_written"):
            raise NptVizError(f"loss {key!r}: the form after the colon must be corrected or as_written")
        if name in weights:
            raise NptVizError(f"loss {name!r} is named twice; name each loss once")
        if form == "as_written":
            as_written.add(name)
        weights[name] = weight
    return Objective(weights=weights, as_written=frozenset(as_written), **settings)


def losses_text(losses: Objective) -> str:
    """The losses with their weights as text that `objective` reads: `direct=1,guidance:as_written=2`."""
    items = []
    for name, weight in losses.active.items():
        form = ":as_written" if name in losses.as_written else ""
        items.append(f"{name}{form}={repr(weight).removesuffix('.0')}")
    return ",".join(items)


def _pair(item: str) -> tuple[str, float]:
    """(loss, weight) from `direct=1`; a name alone weighs 1."""
    name, equals, weight = item.partition("=")
    try:
        return name.strip(), float(weight) if equals else 1.0
    except ValueError:
        raise NptVizError(f"losses: {item.strip()!r} must be NAME=WEIGHT, for example direct=1") from None
