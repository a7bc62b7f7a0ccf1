"""The parameters of a class as text, `a=1,b=true`: typed by its constructor, sorted, defaults left out."""

import difflib
import inspect
import types
import typing
from collections.abc import Iterable
from typing import Any

from pipeline.errors import UsageError

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_parameters(text: str, cls: type) -> dict[str, Any]:
    """The constructor arguments that `text` states. Raises `UsageError` for an unknown name or an impossible value."""
    known = _parameters(cls)
    values: dict[str, Any] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(f"parameter {item.strip()!r} has no value; write {item.strip() or 'name'}=VALUE")
        if name not in known:
            raise UsageError(f"unknown parameter {name!r} of {cls.__name__}; {suggestion(name, known)}")
        if name in values:
            raise UsageError(f"parameter {name!r} of {cls.__name__} is given twice")
        values[name] = _value(value, known[name], f"{name}={value}")
    return values


def parameters_text(instance: object) -> str:
    """The parameters of an instance that differ from the defaults, read from the attributes of their names."""
    items = []
    for name, parameter in sorted(_parameters(type(instance)).items()):
        if not hasattr(instance, name):
            raise UsageError(f"{type(instance).__name__} does not keep its parameter {name!r} as an attribute")
        value = getattr(instance, name)
        if value != parameter.default:
            items.append(f"{name}={str(value).lower() if value is None or isinstance(value, bool) else value}")
    return ",".join(items)


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


def _value(text: str, parameter: inspect.Parameter, item: str) -> Any:
    kinds = _kinds(parameter)
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
    annotation = parameter.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(kind for kind in typing.get_args(annotation) if isinstance(kind, type))
    if typing.get_origin(annotation) is typing.Literal:
        return tuple({type(choice) for choice in typing.get_args(annotation)})
    if isinstance(annotation, type) and annotation is not parameter.empty:
        return (annotation,)
    return () if parameter.default in (parameter.empty, None) else (type(parameter.default),)
