"""Frames of a video, however it is given: path, URL or seekable file; read ahead by a thread."""

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt

from neardup.errors import MediaError, MissingError, TransientError, UsageError
from neardup.media.video import Frame, Rate, Video, VideoPolicy, check_rate, open_video, sampled_frames

T = TypeVar("T")
Errors = Literal["raise", "warn", "ignore"]
# Anything `read_video` takes: a path, a URL, bytes, or a seekable binary file such as fsspec's.
VideoInput = str | os.PathLike[str] | bytes | BinaryIO

ASSUMED_FPS = 10.0  # what the reference assumes of a container that states no rate
QUEUE_BYTES = 128 * 1024 * 1024
DEFAULT_POLICY = VideoPolicy()


def read_video(
    filepath: VideoInput,
    frames_per_second: Rate = None,
    max_queue_size: int = 128,
    use_queue: bool = True,
    errors: Errors = "raise",
    max_duration: float | None = None,
    max_size: int | None = None,
    policy: VideoPolicy = DEFAULT_POLICY,
) -> Iterator[tuple[npt.NDArray[np.uint8], int, float]]:
    """RGB frames, shape (H, W, 3), uint8, with their index in the source and their timestamp in seconds.

    `frames_per_second` is a number, None (every frame) or "keyframes" (others are not even decoded). `use_queue`
    decodes in a thread, at most `max_queue_size` frames (and `QUEUE_BYTES`) ahead. Nothing follows the first frame past
    `max_duration` seconds; frames whose longer side is over `max_size` pixels are made smaller.

    Frames that can be decoded come first. Then `errors` says what happens when some cannot, or none: "raise" a
    MediaError, "warn" or "ignore". A file that is not there always raises MissingError (a FileNotFoundError).
    """
    check_rate(frames_per_second)
    check_errors(errors)
    if max_queue_size < 1:
        raise UsageError(f"max_queue_size is {max_queue_size}; it must be at least 1")
    if max_size is not None:
        policy = replace(policy, max_side=max_size)

    def frames() -> Generator[Frame]:
        with opened(filepath, errors, policy) as video, closing(sampled_frames(video, frames_per_second)) as sampled:
            for frame in sampled:
                yield frame
                if max_duration is not None and frame.timestamp_s > max_duration:
                    return

    def triples() -> Iterator[tuple[npt.NDArray[np.uint8], int, float]]:
        ahead = read_ahead(frames(), max_queue_size, lambda frame: frame.pixels.nbytes) if use_queue else frames()
        with closing(ahead):
            for frame in ahead:
                yield frame.pixels, frame.frame_index, frame.timestamp_s

    return reported(triples(), filepath, errors)


def check_errors(errors: str) -> None:
    """Raises UsageError for what is no way to treat errors."""
    if errors not in get_args(Errors):
        raise UsageError(f"errors is {errors!r}; choose 'raise', 'warn' or 'ignore'")


def reported(items: Iterable[T], filepath: VideoInput, errors: Errors) -> Generator[T]:
    """The items; a MediaError behind them names the file and is raised, warned of or dropped."""
    try:
        yield from items
    except MissingError:
        raise
    except MediaError as exc:
        message = f"An error occurred while reading {_name(filepath)}: {exc}"
        if errors == "raise":
            raise type(exc)(message) from exc
        if errors == "warn":
            warnings.warn(message, UserWarning, stacklevel=2)


@contextmanager
def opened(filepath: VideoInput, errors: Errors, policy: VideoPolicy) -> Iterator[Video]:
    """The video behind a path, URL or file; a container without a frame rate counts as 10 fps, unless errors raise."""
    policy = policy if errors == "raise" else replace(policy, assumed_fps=policy.assumed_fps or ASSUMED_FPS)
    with _source(filepath) as source, open_video(source, policy) as video:
        if errors == "warn" and not video.header.fps and video.header.frame_count != 1:
            warnings.warn(
                f"{_name(filepath)} states no frame rate; assuming {video.fps} fps", UserWarning, stacklevel=2
            )
        yield video


@contextmanager
def _source(filepath: VideoInput) -> Iterator[bytes | BinaryIO]:
    """What is given itself, or the file that it names, which is then closed."""
    if isinstance(filepath, bytes) or hasattr(filepath, "read"):
        yield cast("bytes | BinaryIO", filepath)
        return
    if not isinstance(filepath, (str, os.PathLike)):
        raise UsageError(f"a video is given as a path, a URL, bytes or a file, not {type(filepath).__name__}")
    with _open_url(filepath) if isinstance(filepath, str) and "://" in filepath else _open_path(filepath) as file:
        yield file


def _open_path(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as exc:
        raise MissingError(f"Could not find video at path: {path}") from exc
    except PermissionError as exc:
        raise MissingError(f"Could not read video at path: {path} ({exc.strerror})") from exc
    except OSError as exc:
        raise TransientError(f"Could not read video at path: {path} ({exc})") from exc


def _open_url(url: str) -> BinaryIO:
    """A seekable file over any store that fsspec knows; only the ranges that are needed are fetched."""
    from neardup import storage  # here: whoever hashes bytes, as the child process does, needs no stores

    try:
        return storage.open_object(url)
    except (MissingError, TransientError) as exc:
        raise type(exc)(f"Could not read video at {url}: {exc}") from exc


def _name(filepath: VideoInput) -> str:
    return os.fspath(filepath) if isinstance(filepath, (str, os.PathLike)) else f"a {type(filepath).__name__}"


# --- reading ahead ----------------------------------------------------------------------------------------------------


def read_ahead(items: Iterator[T], max_items: int, size: Callable[[T], int]) -> Generator[T]:
    """The items, made by a thread at most `max_items` and about `QUEUE_BYTES` ahead.

    What the thread raises is raised here, behind the items before it. The thread starts with the first item asked for
    and has ended when this generator is closed.
    """
    shelf: _Shelf[T] = _Shelf(max_items, size)
    producer = threading.Thread(target=shelf.fill, args=(items,), name="read-ahead", daemon=True)
    producer.start()
    try:
        yield from shelf.take()
    finally:
        shelf.close()
        producer.join()


class _Shelf(Generic[T]):
    """Items between two threads, bounded by number and bytes; one item always fits."""

    def __init__(self, max_items: int, size: Callable[[T], int]) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._max_items, self._size = max_items, size
        self._bytes = 0
        self._is_done = self._is_closed = False
        self._error: BaseException | None = None

    def fill(self, items: Iterator[T]) -> None:
        """The producer: puts items on the shelf until they end or nobody wants more."""
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as exc:  # whatever it is, it belongs to the consumer
            self._error = exc
        finally:
            cast("Any", items).close()
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def take(self) -> Iterator[T]:
        """The consumer: items until the producer is done, then its error."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_done)
                if not self._items:
                    break
                item = self._items.popleft()
                self._bytes -= self._size(item)
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Lets the producer go."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(item))
            if not self._is_closed:
                self._items.append(item)
                self._bytes += self._size(item)
                self._changed.notify_all()
            return not self._is_closed

    def _has_room(self, item: T) -> bool:
        fits = len(self._items) < self._max_items and self._bytes + self._size(item) <= QUEUE_BYTES
        return fits or not self._items
