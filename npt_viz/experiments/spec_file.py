"""Read and write experiment.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import tomli_w

from npt_viz.adapter import Semantics
from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.experiments.plan import RECIPE_FIELDS, Arm, Experiment, arms_of
from npt_viz.experiments.typed import refuse_wrong_types
from npt_viz.identity import text_in
from npt_viz.places import typed_path
from npt_viz.training.losses import Curriculum, Objective, losses_text, objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.spec import AdapterSpec

_TOP = {field.name for field in fields(Experiment)} - {"arms", "start", "recipe"}
_START = {field.name for field in fields(AdapterSpec)} | {"variant", "attention", "scale"}
_OBJECTIVE = {field.name for field in fields(Objective)} - {"weights", "as_written"}


@dataclass
class _Top:
    """Keys of the file that are no fields of Experiment, with their types."""

    steps: int
    preset: str
    only: tuple[str, ...]
    checkpoint: str
    start: AdapterSpec
    recipe: Recipe
    arms: tuple[Arm, ...]


@dataclass
class _OfVariant:
    """Keys of [start] that are no fields of AdapterSpec, with their types."""

    variant: str
    attention: str
    scale: float


@checked
def read_experiment_spec(path: str | Path) -> Experiment:
    """An experiment from a .toml file.

    Raises NptVizError for a file that is missing or no TOML, a key that nothing reads, and values that cannot be.
    """
    path = typed_path(path)
    try:
        table = tomllib.loads(text_in(path, "an experiment as a .toml file"))
    except tomllib.TOMLDecodeError as error:
        raise NptVizError(f"{path} is no TOML file ({error}); see docs/how-to/run-an-experiment.md") from None
    try:
        return _located(experiment_from(table, path.stem), path.parent)
    except NptVizError as error:
        raise NptVizError(f"{path}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise NptVizError(
            f"{path}: a value has the wrong type ({error}); see docs/how-to/run-an-experiment.md"
        ) from None


def _located(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with paths that exist beside the file made absolute; other paths stay as they are."""

    def beside_file(path: str) -> str:
        return str((folder / path).absolute()) if (folder / path).exists() else path

    if experiment.text is not None:
        experiment = replace(experiment, text=beside_file(experiment.text))
    if isinstance(experiment.start, str):
        experiment = replace(experiment, start=beside_file(experiment.start))
    return experiment


def experiment_from(table: Mapping, name: str = "experiment") -> Experiment:
    """An experiment from the table of a .toml file."""
    table = dict(table)
    table.setdefault("name", name)
    _only(table, _TOP | {"steps", "preset", "only", "arms", "start", "checkpoint", "recipe"}, "the file")
    if ("start" in table) == ("checkpoint" in table):
        raise NptVizError(
            'give [start] for fresh adapters or checkpoint = "folder" to continue one, one of the two'
        )
    if "steps" not in table:
        raise NptVizError("steps is missing; say how many steps every arm takes, for example steps = 600")
    given = {key: table[key] for key in _TOP if key in table}
    refuse_wrong_types(table, _Top, "the file")
    refuse_wrong_types(given, Experiment, "the file")
    recipe = dict(table.get("recipe", {}))
    _only(recipe, set(RECIPE_FIELDS), "[recipe]")
    refuse_wrong_types(recipe, Recipe, "[recipe]")
    if "only" in table and "preset" not in table:
        raise NptVizError(
            "only goes with a preset: it says which of its arms; name the preset, or leave it out"
        )
    arms = arms_of(table["preset"], only=table.get("only")) if "preset" in table else ()
    arms += tuple(_arm(each) for each in table.get("arms", []))
    for key in ("layers", "semantics"):
        if key in table and "start" in table:
            raise NptVizError(f"{key} goes with a checkpoint; fresh adapters have theirs in [start]")
    for key in ("layers", "seeds"):
        if key in given:
            given[key] = tuple(given[key])
    return Experiment(
        arms=arms,
        start=table["checkpoint"] if "checkpoint" in table else _spec(table["start"]),
        recipe=Recipe(steps=table["steps"], **recipe),
        **given,
    )


def experiment_toml(experiment: Experiment) -> str:
    """The file that `read_experiment_spec` reads as this experiment."""
    table = {
        key: getattr(experiment, key)
        for key in ("name", "model", "dtype", "device", "prompt", "reference", "tokens", "window")
    }
    table |= {
        key: getattr(experiment, key) for key in ("text", "semantics") if getattr(experiment, key) is not None
    }
    table |= {"steps": experiment.recipe.steps, "seeds": list(experiment.seeds)}
    if isinstance(experiment.start, str):
        table["checkpoint"] = experiment.start
        if experiment.layers is not None:
            table["layers"] = list(experiment.layers)
    else:
        spec = asdict(experiment.start)
        table["start"] = _without_none(
            {**spec, "layers": list(spec["layers"]), "targets": list(spec["targets"])}
        )
    defaults = Recipe(steps=1)
    table["recipe"] = {
        key: getattr(experiment.recipe, key)
        for key in RECIPE_FIELDS
        if getattr(experiment.recipe, key) != getattr(defaults, key)
    }
    table["arms"] = [_arm_table(arm) for arm in experiment.arms]
    return tomli_w.dumps(table)


def _arm(table: Mapping) -> Arm:
    _only(table, {"name", "losses", "changes"} | _OBJECTIVE, f"arm {table.get('name', '?')!r}")
    if "losses" not in table or "name" not in table:
        raise NptVizError(
            'an arm needs a name and losses, for example name = "direct" and losses = "direct=1"'
        )
    where = f"arm {table['name']!r}"
    settings = {key: table[key] for key in _OBJECTIVE if key in table}
    refuse_wrong_types({key: table[key] for key in ("name", "changes") if key in table}, Arm, where)
    if not isinstance(table["losses"], str | list | Mapping):
        raise NptVizError(f'{where}: losses must be text such as "direct=1", got {table["losses"]!r}')
    refuse_wrong_types(settings, Objective, where)
    refuse_wrong_types(table.get("changes", {}), Recipe, f"{where}, changes")
    if "curriculum" in settings:
        curriculum = settings["curriculum"]
        _only(curriculum, {field.name for field in fields(Curriculum)}, f"{where}, curriculum")
        refuse_wrong_types(curriculum, Curriculum, f"{where}, curriculum")
        settings["curriculum"] = Curriculum(**{key: tuple(value) for key, value in curriculum.items()})
    try:
        losses = objective(table["losses"], **settings)
    except NptVizError as error:
        raise NptVizError(f"{where}: {error}") from None
    return Arm(name=table["name"], losses=losses, changes=dict(table.get("changes", {})))


def _arm_table(arm: Arm) -> dict:
    losses = arm.losses
    table = {
        "name": arm.name,
        "losses": losses_text(losses),
        "adaptive": losses.adaptive,
        "gradient_scale": losses.gradient_scale,
    }
    if losses.stage_steps is not None:
        table["stage_steps"] = losses.stage_steps
    if losses.curriculum is not None:
        table["curriculum"] = {key: list(value) for key, value in asdict(losses.curriculum).items()}
    if arm.changes:
        table["changes"] = dict(arm.changes)
    return table


def _spec(table: Mapping) -> AdapterSpec:
    table = dict(table)
    _only(table, _START, "[start]")
    refuse_wrong_types(table, AdapterSpec, "[start]")
    refuse_wrong_types(table, _OfVariant, "[start]")
    if "layers" not in table:
        raise NptVizError("[start] has no layers; name at least one, for example layers = [15]")
    if "semantics" not in table:
        return AdapterSpec.of_variant(table.pop("variant", None), table.pop("layers"), **table)
    if beside := [key for key in ("variant", "attention", "scale") if key in table]:
        raise NptVizError(
            f"[start] has semantics and {beside[0]}, which semantics decides; leave one of them out"
        )
    _only(table["semantics"], {field.name for field in fields(Semantics)}, "[start] semantics")
    refuse_wrong_types(table["semantics"], Semantics, "[start] semantics")
    table["semantics"] = Semantics(**table["semantics"])
    for key in ("layers", "targets"):
        if key in table:
            table[key] = tuple(table[key])
    return AdapterSpec(**table)


def _only(table: Mapping, known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise NptVizError(
                f"{where} says {key!r}, which nothing reads; it may say {', '.join(sorted(known))}"
            )


def _without_none(value):
    """The value without None, which TOML does not have."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
