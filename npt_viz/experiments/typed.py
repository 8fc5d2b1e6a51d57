"""Check the types of the values of a .toml file."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from npt_viz.errors import NptVizError

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def refuse_wrong_types(table: Mapping, of: type, where: str) -> None:
    """Raises NptVizError for the first value that the field of its name in the dataclass `of` cannot have."""
    wanted = get_type_hints(of)
    for key, value in table.items():
        if key in wanted and not _fits(value, wanted[key]):
            raise NptVizError(f"{where}: {key} must be {_in_words(wanted[key])}, got {value!r}")


def _fits(value: object, wanted) -> bool:
    if wanted in (
        int,
        float,
    ):  # Every whole number is a number; true and false, which Python counts as 1 and 0, are none.
        return isinstance(value, int if wanted is int else int | float) and not isinstance(value, bool)
    origin, options = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return value in options
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in options)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, options[0]) for item in value)
    return isinstance(value, Mapping if _is_table(wanted) else wanted)


def _in_words(wanted) -> str:
    origin, options = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return f"one of {', '.join(map(repr, options))}"
    if origin in (Union, UnionType):
        return " or ".join(_in_words(option) for option in options if option is not NoneType)
    if origin is tuple:
        return f"a list, each of its items {_in_words(options[0])}"
    return "a table" if _is_table(wanted) else _WORDS[wanted]


def _is_table(wanted) -> bool:
    return is_dataclass(wanted) or get_origin(wanted) is Mapping
