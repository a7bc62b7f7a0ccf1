"""Who watches the work: told what is begun, so that whoever kills it knows what to blame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

DECODING = 0  # the stage of decoding; stage k is hasher k - 1


def _ignore(*_: int) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """`enter` is told each stage before it begins, `tick` that work goes on; `skipped`: hashers left out, and why."""

    enter: Callable[[int], None] = _ignore
    tick: Callable[[], None] = _ignore
    skipped: Mapping[int, str] = field(default_factory=dict)
