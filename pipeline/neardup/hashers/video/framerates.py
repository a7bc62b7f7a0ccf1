"""Several video hashers on one decode."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from math import lcm
from typing import Any, Final, NamedTuple, TypeVar

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import Hash
from neardup.hashers.video.base import State, VideoHasher
from neardup.hashers.video.reading import DEFAULT_POLICY, VideoInput, opened, read_ahead, reported
from neardup.media.video import Rate, check_rate, make_sampler, shown_frames, shown_keyframes

Id = TypeVar("Id", bound=Hashable)

_TICKS: Final = 8_316_000  # per second: every rate a / b of small a and b is a whole number of them
_MOST_RATES: Final = 10  # all ways to group them are tried: 115,975 ways at 10
_AHEAD: Final = 128


def get_common_framerates(id_rates: Mapping[Id, Rate]) -> dict[float, tuple[Id, ...]]:
    """The few rates at which a video can be read so that each id's rate divides one of them; their sum is smallest.

    `{"a": 3, "b": 5, "c": 1, "d": 0.5}` gives `{3.0: ("a", "c", "d"), 5.0: ("b",)}`.
    """
    rates: set[float] = set()
    for name, rate in id_rates.items():
        if rate is None or isinstance(rate, str) or not 1 / _TICKS <= rate < float("inf"):
            raise UsageError(f"the frame rate of {name!r} is {rate!r}; common rates exist for positive numbers only")
        rates.add(rate)
    if len(rates) > _MOST_RATES:
        raise UsageError(f"{len(rates)} different frame rates; at most {_MOST_RATES} can be combined")
    if not rates:
        return {}
    best = min(_partitions(sorted(rates)), key=lambda groups: sum(map(_common_rate, groups)))
    by_rate = {_common_rate(group): group for group in best}
    return {rate: tuple(name for name in id_rates if id_rates[name] in by_rate[rate]) for rate in sorted(by_rate)}


def compute_synchronized_video_hashes(
    filepath: VideoInput,
    hashers: Mapping[str, VideoHasher],
    framerates: Mapping[float, Iterable[str]] | None = None,
    hash_format: str = "base64",
    use_queue: bool = True,
) -> dict[str, Hash]:
    """The hash of a video by each hasher, from one decode for all (and one for those that want keyframes).

    Each hash equals what the hasher's own `compute` gives: every hasher samples the decoded frames for itself, whatever
    the rates. So `framerates` (see `get_common_framerates`) decides nothing here; if given, it must cover all hashers.
    """
    if framerates is not None:
        missing = set(hashers) - {name for names in framerates.values() for name in names}
        if missing:
            raise UsageError(f"framerates do not cover {', '.join(sorted(missing))}; leave framerates out")
    for hasher in hashers.values():
        check_rate(hasher.frames_per_second)
    states: dict[str, State] = {}
    for keyframes in (False, True):
        group = {name: h for name, h in hashers.items() if (h.frames_per_second == "keyframes") == keyframes}
        if group:
            _process(filepath, group, states, keyframes, use_queue)
    return {name: hasher.hash_of_state(states.get(name), hash_format) for name, hasher in hashers.items()}


class _Sample(NamedTuple):
    """A frame and who wants it, at which timestamps."""

    pixels: Pixels
    frame_index: int
    wanted: list[tuple[str, float]]


def _process(
    filepath: VideoInput, hashers: Mapping[str, VideoHasher], states: dict[str, State], keyframes: bool, use_queue: bool
) -> None:
    samples = _samples(filepath, hashers, keyframes)
    if use_queue:
        samples = read_ahead(samples, _AHEAD, lambda sample: sample.pixels.nbytes)
    for sample in reported(samples, filepath, "raise"):
        for name, timestamp_s in sample.wanted:
            state = hashers[name].process_frame(sample.pixels, sample.frame_index, timestamp_s, states.get(name))
            states[name] = state
            state["end"] = timestamp_s


def _samples(filepath: VideoInput, hashers: Mapping[str, VideoHasher], keyframes: bool) -> Iterator[_Sample]:
    with opened(filepath, "raise", DEFAULT_POLICY) as video:
        samplers = {name: make_sampler(video, hasher.frames_per_second) for name, hasher in hashers.items()}
        with closing(shown_keyframes(video) if keyframes else shown_frames(video)) as frames:
            for shown in frames:
                wanted = [(name, time_s) for name, sampler in samplers.items() for time_s in sampler(shown)]
                if wanted:
                    yield _Sample(shown.pixels(), shown.index, wanted)


def _common_rate(rates: Sequence[float]) -> float:
    """The smallest rate that all of these divide."""
    return lcm(*(round(rate * _TICKS) for rate in rates)) / _TICKS


def _partitions(items: Sequence[Any]) -> Iterator[list[list[Any]]]:
    """Every way to put the items into groups."""
    if len(items) == 1:
        yield [[items[0]]]
        return
    first, rest = items[0], items[1:]
    for groups in _partitions(rest):
        for position, group in enumerate(groups):
            yield [*groups[:position], [first, *group], *groups[position + 1 :]]
        yield [[first], *groups]
