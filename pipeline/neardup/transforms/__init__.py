"""Pixels to changed pixels: what happens to pictures on the web, by name.

`TRANSFORMS` names every transform; `parse` makes one of a text such as `jpeg:quality=60`, `blur:2` (the first parameter
may go without its name) or a chain, `crop:0.05+jpeg:60`. A name with dots that is not in the catalogue, such as
`my_package.my_transform`, is imported: a callable that takes `image=` and returns pixels (or a dict with an "image").

    transform = parse("noise:0.2")
    changed = transform(image, seed_of(uri))    # the same picture for the same seed; also transform(image=image)
    transform.spec                              # "noise": canonical, sorted names, no defaults

A transform never writes into its input.
"""

import functools
import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from neardup.errors import UsageError
from neardup.transforms import colour, detail, drawing, geometry
from neardup.transforms.pixels import Pixels, as_pixels, check_pixels
from neardup.transforms.spec import arguments_text, full_text, parameters, parse_arguments, suggestion

__all__ = ["TRANSFORMS", "Pixels", "Transform", "call", "encoded_png", "parse", "seed_of"]

TRANSFORMS: dict[str, Callable[..., Pixels]] = {
    "noop": geometry.noop,
    "resize": geometry.resize,
    "downscale": geometry.downscale,
    "aspect": geometry.aspect,
    "crop": geometry.crop,
    "pad": geometry.pad,
    "border": geometry.border,
    "shift": geometry.shift,
    "mirror-tile": geometry.mirror_tile,
    "flip": geometry.flip,
    "rotate90": geometry.rotate90,
    "rotate": geometry.rotate,
    "shear": geometry.shear,
    "perspective": geometry.perspective,
    "gamma": colour.gamma,
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "saturation": colour.saturation,
    "hue": colour.hue,
    "grayscale": colour.grayscale,
    "invert": colour.invert,
    "equalize": colour.equalize,
    "posterize": colour.posterize,
    "palette": colour.palette,
    "blur": detail.blur,
    "median": detail.median,
    "motion-blur": detail.motion_blur,
    "sharpen": detail.sharpen,
    "pixelate": detail.pixelate,
    "noise": detail.noise,
    "salt-pepper": detail.salt_pepper,
    "jpeg": detail.jpeg,
    "webp": detail.webp,
    "watermark": drawing.watermark,
    "text": drawing.text,
    "vignette": drawing.vignette,
    "overlay": drawing.overlay,
    "cutout": drawing.cutout,
    "screenshot": drawing.screenshot,
}


@dataclass(frozen=True)
class Step:
    """One transform of the catalogue and the arguments stated for it."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def spec(self) -> str:
        """The text that stands for the step."""
        stated = arguments_text(self.arguments, parameters(_function(self.name)))
        return f"{self.name}:{stated}" if stated else self.name

    @property
    def described(self) -> str:
        """The text with every parameter, and what the function says that it does."""
        function = _function(self.name)
        stated = full_text(self.arguments, parameters(function))
        about = (inspect.getdoc(function) or "").partition("\n")[0]
        return f"{self.name}{':' if stated else ''}{stated}{': ' if about else ''}{about}"


@dataclass(frozen=True)
class Transform:
    """One step or a chain of them: call it with pixels and a seed."""

    steps: tuple[Step, ...]

    @property
    def spec(self) -> str:
        """The canonical text: `parse` makes an equal transform of it."""
        return "+".join(step.spec for step in self.steps)

    def __call__(self, image: Pixels, seed: int = 0) -> Pixels:
        """The changed pixels, shape (H, W, 3), uint8, contiguous. Raises `UsageError` where `image` is no picture.

        What a transform draws at random depends on the seed (0 or more) alone.
        """
        pixels = check_pixels(image)
        for place, step in enumerate(self.steps):
            function = _function(step.name)
            arguments = dict(step.arguments)
            if "rng" in inspect.signature(function).parameters:
                arguments["rng"] = np.random.default_rng([seed, place])
            pixels = call(functools.partial(function, **arguments), pixels)
        return pixels


def parse(spec: str) -> Transform:
    """The transform that a text names. Raises `UsageError`."""
    return Transform(tuple(_step(text.strip()) for text in spec.split("+")))


def seed_of(uri: str) -> int:
    """The seed of an item, from its uri alone."""
    return int.from_bytes(hashlib.sha256(uri.encode("utf-8", "surrogateescape")).digest()[:8])


def encoded_png(image: Pixels) -> bytes:
    """The picture as a PNG file, without loss."""
    return detail.encoded(check_pixels(image), ".png", cv2.IMWRITE_PNG_COMPRESSION, 3)


def call(function: Callable[..., Any], image: Pixels) -> Pixels:
    """What any callable makes of `image=`: an array, or a dict with an "image" as albumentations gives."""
    result = function(image=image)
    return as_pixels(check_pixels(result["image"] if isinstance(result, dict) and "image" in result else result))


def _step(text: str) -> Step:
    name, colon, arguments = (piece.strip() for piece in text.partition(":"))
    known = parameters(_function(name))
    values = parse_arguments(arguments, name, known) if colon else {}
    return Step(name, tuple(sorted(values.items())))


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    """The function that a name stands for: of the catalogue, or imported by its dotted path."""
    if name in TRANSFORMS:
        return TRANSFORMS[name]
    if "." not in name:
        raise UsageError(f"unknown transform {name!r}; {suggestion(name, TRANSFORMS)}")
    module, _, attribute = name.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, ValueError) as exc:
        raise UsageError(
            f"cannot import transform {name!r} ({exc}); is its module installed or on PYTHONPATH?"
        ) from exc
    if not callable(function):
        raise UsageError(f"{name!r} is no function that takes image=")
    return function  # type: ignore[no-any-return]
