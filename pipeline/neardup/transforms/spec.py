"""The parameters of a function as text, `sigma=2` or just `2`: typed and bounded by its signature.

A parameter is annotated `float`, `int`, `bool`, `str`, a `Literal` of texts, or `Annotated[float, Bounds(0, 1)]`, and
has a default. The function's first argument is what it works on; one named `rng` is given by the caller.
"""

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from neardup.errors import UsageError

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Bounds(NamedTuple):
    """The least and the greatest value a number may have."""

    least: float
    most: float


class Parameter(NamedTuple):
    """What a signature says of one parameter."""

    kind: type
    default: Any
    bounds: Bounds | None
    choices: tuple[str, ...]


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """What may be stated in text, in the order of the signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    known = list(inspect.signature(function).parameters.values())[1:]
    stated = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        each.name: _parameter(hints.get(each.name), each.default)
        for each in known
        if each.kind in stated and each.name != "rng"
    }


def parse_arguments(text: str, owner: str, known: dict[str, Parameter]) -> dict[str, Any]:
    """The arguments that `text` states: `name=value` with commas between; the first may go without its name."""
    if not known:
        raise UsageError(f"{owner} has no parameters; leave out {text!r}")
    values: dict[str, Any] = {}
    for place, item in enumerate(text.split(",")):
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals and name and place == 0:
            name, value = next(iter(known)), name
        elif not equals:
            raise UsageError(f"parameter {item.strip()!r} of {owner} has no value; write {name or 'name'}=VALUE")
        if name not in known:
            raise UsageError(f"unknown parameter {name!r} of {owner}; {suggestion(name, known)}")
        if name in values:
            raise UsageError(f"parameter {name!r} of {owner} is given twice")
        values[name] = _value(value, known[name], f"{name}={value} of {owner}")
    return values


def arguments_text(arguments: Iterable[tuple[str, Any]], known: dict[str, Parameter]) -> str:
    """The inverse of `parse_arguments`: every name stated, sorted, defaults left out."""
    return ",".join(
        f"{name}={_text(value)}"
        for name, value in sorted(arguments)
        if value != known[name].default or name not in known
    )


def full_text(arguments: Iterable[tuple[str, Any]], known: dict[str, Parameter]) -> str:
    """As `arguments_text`, but with the defaults: what a reader must know who does not know them."""
    values = {name: parameter.default for name, parameter in known.items()} | dict(arguments)
    stated = [(name, value) for name, value in sorted(values.items()) if value not in (None, inspect.Parameter.empty)]
    return ",".join(f"{name}={_text(value)}" for name, value in stated)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The way out after an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "it has no parameters"


def _parameter(hint: Any, default: Any) -> Parameter:
    bounds, choices = None, ()
    if typing.get_origin(hint) is typing.Annotated:
        bounds = next((extra for extra in typing.get_args(hint)[1:] if isinstance(extra, Bounds)), None)
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        choices, hint = typing.get_args(hint), str
    if not isinstance(hint, type):
        hint = str if default in (inspect.Parameter.empty, None) else type(default)
    return Parameter(hint, default, bounds, choices)


def _value(text: str, parameter: Parameter, item: str) -> Any:
    if parameter.choices and text not in parameter.choices:
        raise UsageError(f"{item} cannot be meant; {suggestion(text, parameter.choices)}")
    try:
        value = _BOOLEANS[text.lower()] if parameter.kind is bool else parameter.kind(text)
    except (KeyError, ValueError) as exc:
        raise UsageError(f"{item} cannot be meant: {text!r} is no {parameter.kind.__name__}") from exc
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{item} cannot be meant: give a finite number")
    bounds = parameter.bounds
    if bounds and not bounds.least <= value <= bounds.most:
        raise UsageError(f"{item} cannot be meant: it is outside {bounds.least:g} to {bounds.most:g}")
    return value


def _text(value: Any) -> str:
    return (
        f"{value:.12g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    )
