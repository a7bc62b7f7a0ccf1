"""Progress of a stage: a bar on a terminal, plain lines elsewhere, nothing when silent. Always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Style = Literal["bar", "lines", "none"]
Advance = Callable[[int, int, int], None]  # items, bytes, errors since the last call
_LINE_EVERY_S = 10.0


def style_for(quiet: bool) -> Style:
    """A bar when a person watches, lines when a file does."""
    return "none" if quiet else "bar" if sys.stderr.isatty() else "lines"


@contextmanager
def stage(style: Style, title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show one stage while it runs; call what is yielded whenever more of `total` is done."""
    if style == "bar":
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        with _lines(title, total, unit, silent=style == "none") as advance:
            yield advance


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:>5}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeRemainingColumn(),
    )
    counter = _Counter(unit)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, rates="")

        def advance(items: int, size: int, errors: int) -> None:
            counter.add(items, size, errors)
            progress.update(task, advance=items, rates=counter.rates())

        yield advance


@contextmanager
def _lines(title: str, total: int, unit: str, silent: bool) -> Iterator[Advance]:
    counter = _Counter(unit)
    last = time.monotonic()

    def show() -> None:
        if not silent:
            left_s = (total - counter.items) * counter.seconds() / counter.items if counter.items else 0.0
            more = f", about {left_s:,.0f} s left" if counter.items < total else ""
            print(f"{title}: {counter.items:,} of {total:,} {counter.rates()}{more}", file=sys.stderr, flush=True)

    def advance(items: int, size: int, errors: int) -> None:
        nonlocal last
        counter.add(items, size, errors)
        if time.monotonic() - last > _LINE_EVERY_S:
            last = time.monotonic()
            show()

    yield advance
    show()


class _Counter:
    def __init__(self, unit: str) -> None:
        self.items = self.size = self.errors = 0
        self._unit = unit
        self._begun = time.monotonic()

    def add(self, items: int, size: int, errors: int) -> None:
        self.items += items
        self.size += size
        self.errors += errors

    def seconds(self) -> float:
        return max(time.monotonic() - self._begun, 1e-3)

    def rates(self) -> str:
        parts = [f"{self.items / self.seconds():,.0f} {self._unit}/s"]
        if self.size:
            parts.append(f"{decimal(int(self.size / self.seconds()))}/s")
        if self.errors:
            parts.append(f"{self.errors:,} errors")
        return ", ".join(parts)
