"""The parameters of a class as text, `a=1,b=true`: typed by its constructor, sorted, defaults left out."""

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from neardup.errors import UsageError

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_parameters(text: str, cls: type, parse_part: Callable[[str], Any]) -> dict[str, Any]:
    """The constructor arguments that `text` states. Raises `UsageError` for an unknown name or an impossible value.

    A value that is an object of its own is written `name(a=1,b=2)`; `parse_part` makes it of `name:a=1,b=2`.
    """
    known = _parameters(cls)
    values: dict[str, Any] = {}
    for item in re.split(r",(?![^(]*\))", text):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(f"parameter {item.strip()!r} has no value; write {item.strip() or 'name'}=VALUE")
        if name not in known:
            raise UsageError(f"unknown parameter {name!r} of {cls.__name__}; {suggestion(name, known)}")
        if name in values:
            raise UsageError(f"parameter {name!r} of {cls.__name__} is given twice")
        values[name] = _value(value, known[name], f"{name}={value}", parse_part)
    return values


def parameters_text(instance: object, text_of: Callable[[Any], str]) -> str:
    """The parameters of an instance that differ from the defaults, read from the attributes of their names.

    `text_of` gives the text of a value that is an object of its own: the inverse of `parse_part`.
    """
    items = []
    parameters = _parameters(type(instance))
    usual = _with_defaults(type(instance), parameters)
    for name, parameter in sorted(parameters.items()):
        if not hasattr(instance, name):
            raise UsageError(f"{type(instance).__name__} does not keep its parameter {name!r} as an attribute")
        value = _text(getattr(instance, name), text_of)
        if value not in {_text(parameter.default, text_of), _text(getattr(usual, name, parameter.default), text_of)}:
            items.append(f"{name}={value}")
    return ",".join(items)


def _with_defaults(cls: type, parameters: Mapping[str, inspect.Parameter]) -> object | None:
    """An instance with all defaults, where there is one: a default of None may stand for an object."""
    if any(parameter.default is parameter.empty for parameter in parameters.values()):
        return None
    made: object = cls()
    return made


def _text(value: Any, text_of: Callable[[Any], str]) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float | str | type):
        return str(value)
    name, colon, parameters = text_of(value).partition(":")
    return f"{name}({parameters})" if colon else name


def suggestion(word: str, known: Iterable[str]) -> str:
    """The way out after an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "it has no parameters"


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    constructor = cls.__init__ if cls.__init__ is not object.__init__ else None  # type: ignore[misc]
    if constructor is None:
        return {}
    hints = typing.get_type_hints(constructor)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.replace(annotation=hints.get(name, parameter.empty))
        for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]
        if parameter.kind in named
    }


def _value(text: str, parameter: inspect.Parameter, item: str, parse_part: Callable[[str], Any]) -> Any:
    kinds = _kinds(parameter)
    objects = [kind for kind in kinds if kind not in (bool, int, float, str, type(None))]
    if objects and text.lower() not in ("none", "null"):
        made = parse_part(re.sub(r"^([^(]*)\((.*)\)$", r"\1:\2", text).removesuffix(":"))
        if not isinstance(made, tuple(objects)):
            raise UsageError(f"{item} cannot be meant: {text!r} is no {objects[0].__name__}")
        return made
    if type(None) in kinds and text.lower() in ("none", "null"):
        return None
    for kind in (bool, int, float):
        if kind in kinds:
            try:
                return _BOOLEANS[text.lower()] if kind is bool else kind(text)
            except (KeyError, ValueError):
                continue
    if str in kinds or not kinds:
        return text
    wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise UsageError(f"{item} cannot be meant: {text!r} is no {wanted}")


def _kinds(parameter: inspect.Parameter) -> tuple[type, ...]:
    """The types a parameter takes, by its annotation, else by its default; empty where neither says."""
    if kinds := _annotated(parameter.annotation):
        return kinds
    return () if parameter.default in (parameter.empty, None) else (type(parameter.default),)


def _annotated(annotation: Any) -> tuple[type, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(kind for one in typing.get_args(annotation) for kind in _annotated(one))
    if typing.get_origin(annotation) is typing.Literal:
        return tuple({type(choice) for choice in typing.get_args(annotation)})
    return (annotation,) if isinstance(annotation, type) and annotation is not inspect.Parameter.empty else ()
