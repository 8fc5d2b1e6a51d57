"""Arguments of public functions, held against their annotations: a wrong one is a sentence and no Python error."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from npt_viz.errors import NptVizError

_P = ParamSpec("_P")
_R = TypeVar("_R")

MADE_BY = {
    "BaseModel": "the model that npt_viz.open_model gives",
    "Checkpoint": "what npt_viz.open_checkpoint gives",
    "Inspection": "the result of npt_viz.inspect",
    "Question": "an npt_viz.Question",
    "Quantity": "an npt_viz.Quantity",
    "AdapterSpec": "an npt_viz.AdapterSpec",
    "UpdateRule": "an npt_viz.UpdateRule",
    "Experiment": "the result of npt_viz.read_experiment_spec",
    "Module": "a torch module",
    "Pass": "the pass that npt_viz.inspect hands to `keep`",
    "Edits": "an npt_viz.Ledger",
    "UpdateStore": "an npt_viz.Ledger",
}
"""Class -> what to give for it."""

_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    str: ("text", "texts"),
    bytes: ("bytes", "bytes"),
    Path: ("a path", "paths"),
    type(None): ("None", "None"),
}
"""Class -> one of it, several of it."""


def checked(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function, which raises NptVizError for an argument that is not what its annotation says.

    A list stands for any sequence that is no text, and a number of NumPy or torch for one of Python. What an annotation
    does not name is left to the function: the range of a number, a shape.
    """
    parameters, where = signature(function), function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checking(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            check(where, name, value, parameters.parameters[name])
        return function(*args, **kwargs)

    return checking


def checked_fields(cls: type[_R]) -> type[_R]:
    """A dataclass whose fields are held against their annotations when it is made; its own rules speak first."""
    made, parameters = cls.__init__, signature(cls).parameters

    @wraps(made)
    def checking(self: Any, *args: Any, **kwargs: Any) -> None:
        failed = None
        try:
            made(self, *args, **kwargs)
        except NptVizError:
            raise
        except Exception as error:  # Whatever a value of the wrong kind leads to.
            failed = error
        for name in kwargs.keys() & parameters.keys():
            check(cls.__name__, name, kwargs[name], parameters[name])
        if failed is not None:
            raise failed

    cls.__init__ = checking
    return cls


def check(where: str, name: str, value: object, parameter: Parameter) -> None:
    """Raise NptVizError where a value is not what the parameter is annotated with, nor its default."""
    wanted = parameter.annotation
    if wanted is Parameter.empty or value is parameter.default or _fits(value, wanted):
        return
    choices = [each for each in _alternatives(wanted) if get_origin(each) is Literal]
    if isinstance(value, str) and choices:
        known = " or ".join(map(str, get_args(choices[0])))
        does = "do" if name.endswith("s") else "does"
        raise NptVizError(f"{where}: {name} {value!r:.60} {does} not exist; choose {known}")
    is_plain = isinstance(value, str | bytes | int | float | tuple | list)
    shown = f"{repr(value)[:60]} ({type(value).__name__})" if is_plain else type(value).__name__
    shown = "None" if value is None else shown
    raise NptVizError(f"{where}: {name} is {shown}; give {' or '.join(_words(wanted))}")


def _alternatives(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _fits(value: Any, wanted: Any) -> bool:
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        return any(value is each or (isinstance(value, str) and value == each) for each in args)
    if wanted is None:
        return value is None
    if wanted is bool:
        return isinstance(value, bool) or type(value).__name__ == "bool_"
    if wanted is int:
        return not isinstance(value, bool) and (isinstance(value, Integral) or _is_scalar(value))
    if wanted is float:
        return not isinstance(value, bool) and (isinstance(value, Real) or _is_scalar(value))
    if origin is tuple and Ellipsis not in args:
        return isinstance(value, Sequence) and len(value) == len(args) and all(map(_fits, value, args))
    if origin in (tuple, Sequence):
        is_some = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        return is_some and hasattr(value, "__len__") and all(_fits(each, args[0]) for each in value)
    if not _is_instance(value, origin or wanted):
        return False
    if origin is Mapping and args:
        return all(_fits(key, args[0]) and _fits(each, args[1]) for key, each in value.items())
    return True


def _is_scalar(value: Any) -> bool:
    """Whether a value is a single number of torch or NumPy."""
    return getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def _is_instance(value: object, kind: Any) -> bool:
    if getattr(kind, "_is_protocol", False):
        return all(hasattr(value, member) for member in dir(kind) if not member.startswith("_"))
    if kind is Callable or getattr(kind, "__name__", "") == "Callable":
        return callable(value)
    # An annotation that is no class, such as Any, a name in quotes or a shape, says nothing here.
    if kind is Any or not isinstance(kind, type) or kind.__module__.startswith("jaxtyping"):
        return True
    return isinstance(value, kind)


@cache
def _words(wanted: Any) -> tuple[str, ...]:
    """What an annotation takes, one after the other."""
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return tuple(dict.fromkeys(words for each in args for words in _words(each)))
    if origin is Literal:
        return tuple(map(repr, args))
    if origin in (tuple, Sequence):
        if origin is tuple and Ellipsis not in args:
            return (f"({', '.join(_words(each)[0] for each in args)})",)
        return (f"a list of {_WORDS.get(args[0], ('', 'items'))[1]}",)
    if wanted in _WORDS:
        return (_WORDS[wanted][0],)
    kind = origin or wanted
    name = getattr(kind, "__name__", str(kind))
    return (MADE_BY.get(name) or {"Mapping": "a mapping", "Callable": "a function"}.get(name, f"a {name}"),)
