"""The library, the command and the page have the same settings; the page's half is tests/ui/train."""

import inspect
from dataclasses import fields

import typer

from npt_viz.commands import train as command
from npt_viz.training.data import corpus_of
from npt_viz.training.losses import Objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.saving import Stated
from npt_viz.training.settings import SETTINGS
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

NO_SETTINGS = {
    "model",
    "start",
    "resume",
    "out",
    "save_every",
    "overwrite",
    "dtype",
    "device",
    "as_json",
    "context",
}
"""Parameters of the command that say with what, from where and where to, not how."""


def names(of):
    return {each.name for each in fields(of)}


def of_home(home):
    return {name for name, setting in SETTINGS.items() if setting.home == home}


def parameters(function):
    return inspect.signature(function).parameters


def test_every_setting_of_the_library_is_listed_and_every_listed_one_is_there():
    assert of_home("Recipe") == names(Recipe)
    assert of_home("Objective") == names(Objective)
    assert of_home("saving") == names(Stated)
    assert of_home("AdapterSpec") == (names(AdapterSpec) - {"semantics"}) | {"variant", "attention", "scale"}
    beside = {"cls", "name", "sizes"}
    assert (set(parameters(AdapterSpec.of_variant)) - beside) <= of_home("AdapterSpec")
    assert of_home("text") - {"text", "samples"} <= set(parameters(corpus_of))
    assert (of_home("Recipe") | {"tokens", "window"}) <= set(parameters(train))


def test_the_command_has_every_setting_and_no_other():
    described = typer.main.get_command(_application()).params
    options = {option for parameter in described for option in parameter.opts}
    others = {
        "--model",
        "--from",
        "--resume",
        "--out",
        "--save-every",
        "--overwrite",
        "--dtype",
        "--device",
        "--json",
    }
    completion = {option for option in options if "completion" in option}
    assert options - others - completion == {setting.option for setting in SETTINGS.values()}
    assert set(command.PARAMETERS.values()) | NO_SETTINGS == set(parameters(command.run))


def test_the_defaults_of_the_command_are_those_of_the_library():
    defaults = {name: parameter.default for name, parameter in parameters(command.run).items()}
    for each in fields(Recipe):
        if each.name not in ("steps", "autocast"):  # None and 'auto' stand for them.
            assert defaults[each.name] == each.default, each.name
    assert defaults["steps"] is None and defaults["autocast"] == "auto"
    for each in fields(Objective):
        if each.name in defaults and each.name != "curriculum":
            assert defaults[each.name] == each.default, each.name
    for name in ("tokens", "window"):
        assert defaults[name] == parameters(corpus_of)[name].default == parameters(train)[name].default
    spec = {each.name: each.default for each in fields(AdapterSpec)}
    assert all(defaults[name] == spec[name] for name in ("rank", "components", "initialisation"))


def test_every_help_text_says_the_default():
    shown = {parameter.opts[0]: parameter for parameter in typer.main.get_command(_application()).params}
    for name, setting in SETTINGS.items():
        parameter = shown[setting.option]
        says = "efault" in (parameter.help or "") or (
            parameter.show_default and parameter.default is not None
        )
        required = name in ("layers", "targets", "attention", "samples")  # Nothing stands in their place.
        assert says or required, name


def _application():
    application = typer.Typer(add_completion=False)
    application.command("train")(command.run)
    return application
