"""Settings of an experiment: arms that differ in what they minimise and in nothing else."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from npt_viz.errors import NptVizError
from npt_viz.training.data import MIN_TOKENS
from npt_viz.training.losses import Objective
from npt_viz.training.losses.presets import PRESETS, as_written_and_corrected, each_alone, leave_one_out
from npt_viz.training.losses.terms import TERMS
from npt_viz.training.recipe import TOKENS, WINDOW, Recipe
from npt_viz.training.spec import AdapterSpec

PROMPT = "The capital of France is Paris. The capital of Italy is"
"""Default prompt on which the arms are compared token by token."""

TUNABLE = ("learning_rate", "warmup", "schedule", "weight_decay", "clip")
"""Settings of the recipe that one arm may have for itself: they change neither the start nor the batches."""


LONGEST = 60
"""Characters of a folder's name."""


def slug(name: str) -> str:
    """Folder name made of a name: lower case, digits and dashes; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train: a name, its losses, and settings of its own."""

    name: str
    losses: Objective
    changes: Mapping[str, float | int | str] = field(default_factory=dict)
    """Fields of Recipe that differ from the experiment's; see TUNABLE."""

    def __post_init__(self):
        if not self.name.strip():
            raise NptVizError("an arm has no name; give every arm a name of its own")
        for key in self.changes:
            if key not in TUNABLE:
                raise NptVizError(
                    f"arm {self.name!r}: {key} cannot differ between arms; these can: {', '.join(TUNABLE)}"
                )

    @property
    def slug(self) -> str:
        """Name of its folder; with a digest of the name where letters would be lost."""
        plain = slug(self.name)
        is_whole = self.name.isascii() and len(self.name) <= LONGEST and plain
        digest = hashlib.sha256(self.name.encode("utf-8", "replace")).hexdigest()[:8]
        return plain if is_whole else f"{plain[: LONGEST - 9] or 'arm'}-{digest}"

    @property
    def sentence(self) -> str:
        """Losses with their weights, and what else differs."""
        losses = self.losses
        terms = [
            f"{weight:g} {name}" + (" (as written)" if name in losses.as_written else "")
            for name, weight in losses.active.items()
        ]
        extras = {
            f"stages of {losses.stage_steps} steps": losses.stage_steps,
            f"adaptive: {losses.adaptive}": losses.adaptive != "off",
            "curriculum": losses.curriculum,
            f"gradient × {losses.gradient_scale:g}": losses.gradient_scale != 1,
        }
        differs = [f"{key} {value}" for key, value in self.changes.items()]
        return " · ".join([" + ".join(terms), *(text for text, there in extras.items() if there), *differs])


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Arms × seeds. The arms of a seed begin with the same weights and see the same batches."""

    name: str
    arms: tuple[Arm, ...]
    start: AdapterSpec | str
    """Fresh adapters, or the path of a checkpoint that every arm continues."""
    layers: tuple[int, ...] | None = None
    """Of a checkpoint: which of its layers are trained; all by default."""
    semantics: str | None = None
    """Of a checkpoint: how to read it, as open_checkpoint takes it."""
    recipe: Recipe
    """Its seed is not used: `seeds` are."""
    seeds: tuple[int, ...] = (0,)
    """Of the initial weights and the order of the text; the split of the text is the same for all."""
    reference: str = ""
    """The arm that the others are compared with; the first by default."""
    model: str = "smollm2-135m"
    dtype: str = "auto"
    device: str = "auto"
    text: str | None = None
    """A .txt or .jsonl file; the bundled sample by default."""
    tokens: int = TOKENS
    """About how many tokens of the text to use at most; 0 uses all."""
    window: int = WINDOW
    """Tokens of a sequence; longer texts are cut into several."""
    prompt: str = PROMPT
    """Text on which the finished arms are shown token by token."""

    def __post_init__(self):
        if len(self.arms) < 2:
            raise NptVizError(f"experiment {self.name!r} has {len(self.arms)} arms; it takes two to compare")
        folders: dict[str, str] = {}
        for arm in self.arms:
            if arm.slug in folders:
                raise NptVizError(
                    f"experiment {self.name!r}: arms {folders[arm.slug]!r} and {arm.name!r} would share the folder {arm.slug}; "
                    "give them names that differ in letters or digits"
                )
            folders[arm.slug] = arm.name
        if not self.seeds:
            raise NptVizError(
                f"experiment {self.name!r} has no seed; give at least one, for example seeds = [0]"
            )
        if not self.name.strip():
            raise NptVizError("the experiment has no name; give it one")
        for seed in self.seeds:
            if not isinstance(seed, int) or not 0 <= seed < 2**32:
                raise NptVizError(
                    f"experiment {self.name!r}: seed {seed!r} must be a whole number from 0 to 2**32 − 1"
                )
            if self.seeds.count(seed) > 1:
                raise NptVizError(f"experiment {self.name!r}: seed {seed} is there twice; name each once")
        if self.tokens and self.tokens < MIN_TOKENS:
            raise NptVizError(f"tokens must be at least {MIN_TOKENS}, or 0 for all, got {self.tokens}")
        if self.window < MIN_TOKENS:
            raise NptVizError(f"window must be at least {MIN_TOKENS} tokens, got {self.window}")
        if not self.reference:
            object.__setattr__(self, "reference", self.arms[0].name)
        self.arm(self.reference)
        for arm in self.arms:
            try:
                self.recipe_of(arm, self.seeds[0])
            except NptVizError as error:
                raise NptVizError(f"arm {arm.name!r}: {error}") from None

    def arm(self, name: str) -> Arm:
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise NptVizError(
            f"experiment {self.name!r} has no arm {name!r}; its arms are {', '.join(arm.name for arm in self.arms)}"
        )

    @property
    def setup(self) -> str:
        """What all arms have in common, in a line."""
        start = self.start
        if isinstance(start, str):
            which = f"layers {', '.join(map(str, self.layers))} of " if self.layers else ""
            begins = f"{which}checkpoint {start}"
        else:
            begins = (
                f"fresh {start.variant} adapters on layers {', '.join(map(str, start.layers))}, {' + '.join(start.targets)}, "
                f"r = {start.rank}, k = {start.components}"
            )
        text = self.text or "the bundled sample"
        return (
            f"{self.model}; {begins}; {self.recipe.steps:,} steps of {self.recipe.batch_tokens:,} tokens, peak learning "
            f"rate {self.recipe.learning_rate:g}, {self.recipe.warmup} steps of warm-up; text: {text}"
            + (f", at most {self.tokens:,} tokens" if self.tokens else "")
        )

    def recipe_of(self, arm: Arm, seed: int) -> Recipe:
        """Recipe of one training. Where one arm needs whole sequences all arms get them, so that batches are equal."""
        return replace(
            self.recipe,
            seed=seed,
            whole_sequences=any(each.losses.needs_logits for each in self.arms),
            **arm.changes,
        )


def _composite() -> dict[str, Objective]:
    return {"published composite": PRESETS["published composite"]}


ARM_PRESETS = {
    "each loss alone": lambda: each_alone(),
    "leave one out": lambda: _composite() | leave_one_out(PRESETS["published composite"]),
    "as written vs corrected": lambda: {
        name: objective
        for term in TERMS
        if TERMS[term].as_written is not None
        for name, objective in as_written_and_corrected(term).items()
    },
    "published phases 1–4": lambda: {
        "direct alone": PRESETS["direct alone"],
        **{name: PRESETS[name] for name in PRESETS if name.startswith("published phase")},
    },
}
"""Name -> what makes arm name -> objective."""


def arms_of(preset: str, *, only: Sequence[str] | None = None) -> tuple[Arm, ...]:
    """The arms of a preset; `only` some of them, by name.

    Raises NptVizError for a preset or an arm that does not exist.
    """
    # A dash is typed more easily than what typographers put between numbers.
    known = {name.replace("–", "-"): make for name, make in ARM_PRESETS.items()}
    make = known.get(preset.replace("–", "-"))
    if make is None:
        raise NptVizError(f"preset {preset!r} does not exist; choose among {', '.join(known)}")
    arms = make()
    missing = set(only or ()) - set(arms)
    if missing:
        raise NptVizError(
            f"preset {preset!r} has no arm {sorted(missing)[0]!r}; its arms are {', '.join(arms)}"
        )
    return tuple(
        Arm(name=name, losses=losses) for name, losses in arms.items() if only is None or name in only
    )


RECIPE_FIELDS = tuple(
    field.name for field in fields(Recipe) if field.name not in ("steps", "seed", "whole_sequences")
)
"""What the [recipe] of a spec may say."""
