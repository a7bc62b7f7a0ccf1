"""Are copies of videos found, how fast are videos hashed, and in how much memory?

    python benchmarks/video.py FOLDER [--hasher SPEC@T]… [--set KEY=VALUE]… [--speed] [--memory] [--oracle PYTHON]

FOLDER holds clips. Of each that is not a copy of another, what happens to videos on the web is planted beside it, and
`neardup dedup` runs over all: found and planted per kind, false pairs, by how much the offset of a pair is wrong, and
why a copy was missed. `--speed` compares with ffmpeg (`--ffmpeg FILE`, that of imageio-ffmpeg in PYTHON, or on PATH)
and with perception in PYTHON, in processor seconds. `--memory` hashes a clip of an hour.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import psutil
import pyarrow.dataset as ds

from neardup import hashers
from neardup.hashers.video import TMKL1, FramewiseHasher
from neardup.media.video import VideoHeader, VideoPolicy, decode_frames, open_video, probe_video, shown_frames
from neardup.media.video.encode import Encoding, write_video
from neardup.transforms.video import parse_video

LEFT_OUT = {
    "movie-hello.avi": "movie-hello.mp4 again",
    "movie-hello.mpeg": "movie-hello.mp4 again",
    "minions.ogv": "minions.mp4 again",
    "Megamind_bugy.avi": "Megamind.avi again",
    "extra_channel_attached_pic_audio.mp4": "extra_channel_attached_pic.mp4 again",
    "v1.m4v": "v2.m4v goes on where it ends, with the same view",
    "v2s.mov": "a part of v2.m4v",
    "carphone_distorted.mp4": "carphone_pristine.mp4 again",
    "test.mp4": "0.7 s of it are test1.mp4, and a third of it is shorter than a frame of a slow sampling",
    "test1.mp4": "shorter than a second",
    "rgb.m4v": "flat colours, which have no hash",
}
HALF = "reencode:codec=vp9,share=0.5"
KINDS = {
    "vp9 at half bitrate": HALF,
    "half size": "resize:0.5",
    "middle third": "clip:start=0.3333333333,end=0.6666666667",
    "25 to 30 fps": "fps:25+fps:30",
    "5 % cropped": "crop:0.025",
    "10 % cropped": "crop:0.05",
    "letterbox": "pad:0.12",
    "logo": "overlay:0.2",
    "flipped": "flip",
    "2 s of black before": "black:2",
}
TURNED = "flipped"
SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpeg", ".mpg", ".ogv", ".wmv", ".flv"}
SPEC = "phash:hash_size=16"


class Pair(NamedTuple):
    """A pair of `neardup dedup`: kind and clip of both, and the offset of the second where it is known."""

    one: tuple[str, str]
    other: tuple[str, str]
    offset_s: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of clips")
    parser.add_argument("--limit", type=int, default=99, help="so many clips at most")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of neardup dedup")
    parser.add_argument("--hasher", action="append", default=[], metavar="SPEC@T", help="hashers of neardup dedup")
    parser.add_argument("--planted", type=Path, help="keep the planted copies here, or take those that are here")
    parser.add_argument("--speed", action="store_true", help="measure speed")
    parser.add_argument("--memory", action="store_true", help="measure the memory for an hour of 1080p")
    parser.add_argument("--found", action="store_true", help="look for planted copies (default: alone)")
    parser.add_argument(
        "--oracle", help="a Python with perception, and with imageio-ffmpeg where ffmpeg is not on PATH"
    )
    parser.add_argument("--ffmpeg", help="ffmpeg's binary")
    parser.add_argument("--seconds", type=float, default=20, help="length of the clips whose hashing is timed")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many counts")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},", end=" ")
    print(", ".join(f"{name} {version(name)}" for name in ("neardup", "av", "opencv-python-headless")))
    clips = distinct_clips(arguments.folder)[: arguments.limit]
    if arguments.found or not (arguments.speed or arguments.memory):
        given = [("--set", each) for each in arguments.set] + [("--hasher", each) for each in arguments.hasher]
        find_copies(clips, [each for pair in given for each in pair], arguments.planted)
    if arguments.speed:
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(clips, Path(folder), arguments)
    if arguments.memory:
        with tempfile.TemporaryDirectory() as folder:
            measure_memory(Path(folder))


def distinct_clips(folder: Path) -> list[Path]:
    """The clips of a folder without those known to be copies of others; says which and why."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = [path for path in files if path.name not in LEFT_OUT]
    print(f"{len(chosen)} clips, chosen by looking at them: {', '.join(path.name for path in chosen)}")
    for path in files:
        if path.name in LEFT_OUT:
            print(f"  not {path.name}: {LEFT_OUT[path.name]}")
    return chosen


# --- copies -----------------------------------------------------------------------------------------------------------


def find_copies(clips: list[Path], settings: list[str], kept: Path | None) -> None:
    """Plant copies, run `neardup dedup` without and with --isometric, and print what was found."""
    with tempfile.TemporaryDirectory() as folder:
        planted = (kept or Path(folder) / "planted").resolve()
        start = time.perf_counter()
        if not planted.exists():
            plant(clips, planted)
        print(f"\n{len(clips) * len(KINDS)} copies planted beside them in {time.perf_counter() - start:.0f} s")
        runs = {}
        for turned in (False, True):
            out = Path(folder) / f"out-{turned}"
            options = [*settings, "--cluster", "none", *(["--isometric"] if turned else [])]
            done = run_neardup("dedup", str(planted), "-o", str(out), *options, "--json")
            runs[turned] = (out, pairs_of(out), json.loads(done.stdout))
        for turned, (_, _, summary) in runs.items():
            print(f"neardup dedup {'--isometric ' * turned}{' '.join(settings)}:", end=" ")
            print(f"{summary['decoded']} decoded, failed {summary['failed']}, pairs {summary['pairs']}")
        durations = {path.stem: duration_of(path) for path in clips}
        print_found(clips, {turned: pairs for turned, (_, pairs, _) in runs.items()}, durations)
        for turned, (_, pairs, _) in runs.items():
            false = sorted({(a, b) for a, b, _ in pairs if a[1] != b[1]})
            print(f"false pairs between different clips{' with --isometric' * turned}: {len(false)}")
            for one, other in false[:10]:
                print(f"  {' of '.join(one)}  -  {' of '.join(other)}")
        print_misses(clips, planted, runs[True][1])


def plant(clips: list[Path], folder: Path) -> None:
    """The clips themselves, in original/, and what each transform makes of them, in a folder per kind."""
    for kind in ("original", *KINDS):
        (folder / kind).mkdir(parents=True)
    for path in clips:
        shutil.copy(path, folder / "original")
        for kind, spec in KINDS.items():
            parse_video(spec)(path, folder / kind / path.stem)


def pairs_of(out: Path) -> list[Pair]:
    """The pairs that a run wrote."""
    table = ds.dataset(out / "pairs", format="parquet").to_table(["uri_a", "uri_b", "offset_s"])
    names = [[(Path(uri).parent.name, Path(uri).stem) for uri in table[key].to_pylist()] for key in ("uri_a", "uri_b")]
    return [Pair(*row) for row in zip(*names, table["offset_s"].to_pylist(), strict=True)]


def print_found(clips: list[Path], runs: dict[bool, list[Pair]], durations: dict[str, float]) -> None:
    """A line per kind: found of planted, and the offsets' errors."""
    width = max(map(len, KINDS))
    print(f"\n{'':{width}}  found  with --isometric  offset's error in s: median, largest")
    for kind in KINDS:
        errors, counts = [], []
        for pairs in runs.values():
            found = [pair for clip in clips if (pair := pair_of(pairs, kind, clip.stem))]
            counts.append(f"{len(found)}/{len(clips)}")
            errors = [] if kind == TURNED and pairs is runs[False] else found
        wrong = [
            abs(offset_of(pair) - expected(kind, durations[pair.one[1]]))
            for pair in errors
            if pair.offset_s is not None
        ]
        text = f"{statistics.median(wrong):.2f}, {max(wrong):.2f}" if wrong else "n/a"
        print(f"{kind:{width}}  {counts[0]:>5}  {counts[1]:>16}  {text}")


def pair_of(pairs: list[Pair], kind: str, clip: str) -> Pair | None:
    """The pair of a clip and its copy."""
    wanted = {("original", clip), (kind, clip)}
    return next((pair for pair in pairs if {pair.one, pair.other} == wanted), None)


def offset_of(pair: Pair) -> float:
    """At which second of the copy the second 0 of the original is, as the pair has it."""
    offset = pair.offset_s or 0.0
    return offset if pair.one[0] == "original" else -offset


def expected(kind: str, duration_s: float) -> float:
    """At which second of the copy the second 0 of the original is."""
    return {"middle third": -duration_s / 3, "2 s of black before": 2.0}.get(kind, 0.0)


def duration_of(path: Path) -> float:
    return header_of(path).duration_s or 0.0


def header_of(path: Path) -> VideoHeader:
    with path.open("rb") as file:
        return probe_video(file)


def print_misses(clips: list[Path], planted: Path, pairs: list[Pair]) -> None:
    """What the frames of each missed copy are like."""
    missed = [(kind, clip) for kind in KINDS for clip in clips if not pair_of(pairs, kind, clip.stem)]
    print(f"missed with --isometric: {len(missed)}; frames at 1 and at 5 a second, without any filter:")
    for kind, clip in missed:
        copy = next((planted / kind).glob(f"{clip.stem}.*"))
        for rate in (1, 5):
            (a, quality_a), (b, quality_b) = (frames_of(path, rate) for path in (clip, copy))
            distance = (a[:, np.newaxis] != b[np.newaxis]).mean(axis=2)
            nearest = f"nearest {distance.min():.3f}" if distance.size else "no frame"
            good = distance[np.ix_(quality_a >= 90, quality_b >= 90)]
            both = f"of quality 90 on both sides {good.min():.3f}" if good.size else "none of quality 90 on both sides"
            print(f"  {kind} of {clip.name}, {rate} fps: {nearest}, {both};", end=" ")
            print(f"quality of the original's {spread(quality_a)}, of the copy's {spread(quality_b)}")


def frames_of(path: Path, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The bits and the qualities of a video's sampled frames."""
    hasher = hashers.parse(SPEC)
    found = []
    with path.open("rb") as file:
        for frame in decode_frames(file, rate, VideoPolicy(assumed_fps=10, clock="presentation")):
            bits, quality = hasher.hash_planes(hashers.Planes(frame.pixels))
            if bits is not None:
                found.append((bits, quality))
    return np.array([bits for bits, _ in found]), np.array([quality for _, quality in found])


def spread(values: np.ndarray) -> str:
    return f"{values.min()}-{values.max()}" if values.size else "none"


# --- speed ------------------------------------------------------------------------------------------------------------


def measure_speed(clips: list[Path], folder: Path, arguments: argparse.Namespace) -> None:
    """Processor seconds beside ffmpeg and perception, and of keyframes beside 15 frames a second."""
    long = [lengthened(path, folder / f"{path.stem}.mp4", arguments.seconds) for path in clips if fits_mp4(path)]
    long = [path for path in long if path is not None]
    frames = sum(header_of(path).frame_count or 0 for path in long)
    print(
        f"\nspeed, processor seconds, fastest of {arguments.rounds}; {len(long)} clips of {arguments.seconds:g} s:",
        end=" ",
    )
    print(f"{frames:,} frames")
    beside_ffmpeg(long, folder, frames, arguments)
    beside_keyframes(long, folder, arguments.rounds)
    beside_perception(long, arguments)


def beside_ffmpeg(clips: list[Path], folder: Path, frames: int, arguments: argparse.Namespace) -> None:
    """`neardup hash` at one frame a second, without what an empty run takes, beside ffmpeg on one thread."""
    ffmpeg = arguments.ffmpeg or found_ffmpeg(arguments.oracle)
    empty = folder / "empty"
    empty.mkdir()
    with (empty / "tiny.mp4").open("wb") as file:
        write_video(file, ".mp4", [np.zeros((16, 16, 3), np.uint8)], 1)
    names = [str(path) for path in clips]
    idle = min(hash_seconds([str(empty)]) for _ in range(arguments.rounds))
    ours = min(hash_seconds(names) for _ in range(arguments.rounds)) - idle
    print(f"neardup hash at 1 fps: {frames / ours:,.0f} frames/s ({ours:.2f} s, and {idle:.2f} s to start and end)")
    if ffmpeg is None:
        print("ffmpeg: not found; give --ffmpeg FILE")
        return
    command = [ffmpeg, "-v", "error", "-threads", "1", "-filter_threads", "1", "-i"]
    theirs = min(
        sum(child_seconds([*command, name, "-an", "-vf", "fps=1", "-f", "null", "-"]) for name in names)
        for _ in range(arguments.rounds)
    )
    print(
        f"ffmpeg -threads 1 -vf fps=1 -f null -: {frames / theirs:,.0f} frames/s;",
        f"neardup / ffmpeg {theirs / ours:.2f} (goal 0.8)",
    )


def beside_keyframes(clips: list[Path], folder: Path, rounds: int) -> None:
    """FramewiseHasher on keyframes beside its default, on the clips and on the same with a keyframe every 4 s."""
    sparse = []
    for path in clips:
        target = folder / f"{path.stem}-4s.mp4"
        with path.open("rb") as file, target.open("wb") as output:
            frames = (frame.pixels for frame in itertools.islice(decode_frames(file), 600))
            write_video(output, ".mp4", frames, header_of(path).fps, Encoding("h264", keyframe_s=4))
        sparse.append(target)
    for title, paths in (("as they are", clips), ("with a keyframe every 4 s at the latest", sparse)):
        distance = statistics.mean(duration_of(path) / count_keyframes(path) for path in paths)
        seconds = [
            own_seconds(lambda r=rate, p=paths: [framewise(r).compute(each) for each in p], rounds)
            for rate in ("keyframes", 15)
        ]
        ratio = seconds[1] / seconds[0]
        print(f"keyframes beside 15 fps, {title} ({distance:.1f} s apart on average): {ratio:.1f}x (goal 10)")


def beside_perception(clips: list[Path], arguments: argparse.Namespace) -> None:
    """FramewiseHasher and TMKL1 at 15 fps beside perception's."""
    rounds = arguments.rounds

    def decode(path: Path) -> None:
        with path.open("rb") as file, open_video(file) as video:
            for _ in shown_frames(video):
                pass

    ours = {
        "framewise": [own_seconds(lambda p=path: framewise(15).compute(p, errors="ignore"), rounds) for path in clips],
        "tmkl1": [own_seconds(lambda p=path: TMKL1().compute(p, errors="ignore"), rounds) for path in clips],
    }
    decoding = [own_seconds(lambda p=path: decode(p), rounds) for path in clips]
    print(f"decoding alone: {sum(decoding):.2f} s;", end=" ")
    print(
        ", ".join(
            f"{name} {sum(each):.2f} s ({sum(decoding) / sum(each):.0%} of it decoding)" for name, each in ours.items()
        )
    )
    if not arguments.oracle:
        print("perception: n/a; give --oracle PYTHON")
        return
    script = Path(__file__).with_name("video_oracle.py")
    environment = {**os.environ, "OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1"}
    command = [arguments.oracle, str(script), str(rounds), *map(str, clips)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    for name, seconds in ours.items():
        done = [
            (their, own, decoded)
            for their, own, decoded in zip(theirs[name], seconds, decoding, strict=True)
            if their is not None
        ]
        sums = [sum(column) for column in zip(*done, strict=True)]
        ratios = [their / own for their, own, _ in done]
        print(
            f"{name} beside perception, which did {len(done)} of {len(clips)}: {sums[0] / sums[1]:.2f}x in all,",
            end=" ",
        )
        print(
            f"{min(ratios):.2f} to {max(ratios):.2f} by clip (goal 2; {sums[0] / sums[2]:.2f} were only decoding left)"
        )


def framewise(rate: float | str) -> FramewiseHasher:
    return FramewiseHasher(hashers.parse(SPEC), 0.1, rate)


def count_keyframes(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)


def own_seconds(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of this process and its threads."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(rounds))


def hash_seconds(inputs: list[str], *options: str) -> float:
    """Processor seconds of `neardup hash` and its child."""
    with tempfile.TemporaryDirectory() as folder:
        return child_seconds(
            [sys.executable, "-m", "neardup", "hash", *inputs, "-o", f"{folder}/out", "--cluster", "none", *options]
        )


def child_seconds(command: list[str]) -> float:
    """Processor seconds of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def found_ffmpeg(oracle: str | None) -> str | None:
    """The binary of imageio-ffmpeg in another Python, or that on PATH."""
    if oracle:
        code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
        done = subprocess.run([oracle, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return shutil.which("ffmpeg")


def run_neardup(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "neardup", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"neardup {' '.join(arguments)}: {done.stderr}")
    return done


# --- long clips -------------------------------------------------------------------------------------------------------


def fits_mp4(path: Path) -> bool:
    return header_of(path).format == "mov"


def lengthened(path: Path, target: Path, seconds: float) -> Path | None:
    """A clip repeated by copying its packets, for at least so many seconds; None where its times forbid that."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        if any(packet.dts is None or packet.pts is None for packet in packets):
            return None
        start = min(packet.pts for packet in packets)
        length = max(packet.pts + (packet.duration or 0) for packet in packets) - start
        for number in range(int(np.ceil(Fraction(seconds) / (length * stream.time_base)))):
            for packet in packets:
                repeated = av.Packet(bytes(packet))
                repeated.pts, repeated.dts = (at - start + number * length for at in (packet.pts, packet.dts))
                repeated.time_base, repeated.is_keyframe, repeated.stream = stream.time_base, packet.is_keyframe, copy
                repeated.duration = packet.duration
                output.mux(repeated)
    return target


def moving_pictures(count: int) -> Iterator[np.ndarray]:
    """1080p frames that move."""
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(0, 256, (34, 64, 3), np.uint8), np.ones((40, 40, 1), np.uint8))
    for number in range(count):
        yield np.ascontiguousarray(blocks[number % 40 : 1080 + number % 40, 2 * number % 400 : 1920 + 2 * number % 400])


def measure_memory(folder: Path) -> None:
    """The peak of the process that hashes an hour of 1080p, over that process when it is idle."""
    short, hour = folder / "short.mp4", folder / "hour.mp4"
    with short.open("wb") as file:
        write_video(file, ".mp4", moving_pictures(250), 25, Encoding("h264", bitrate_bps=400_000, keyframe_s=4))
    tiny = folder / "tiny.mp4"
    with tiny.open("wb") as file:
        write_video(file, ".mp4", [np.zeros((16, 16, 3), np.uint8)], 1)
    lengthened(short, hour, 3600)
    header = header_of(hour)
    print(
        f"\nmemory: {header.width}x{header.height}, {header.duration_s:,.0f} s, {hour.stat().st_size / 1e6:.0f} MB;",
        end=" ",
    )
    idle, peak = (
        peak_memory(["hash", str(path), "-o", str(folder / f"out-{path.stem}"), "--cluster", "none"])
        for path in (tiny, hour)
    )
    for kind in ("child", "driver"):
        print(f"{kind} {idle.get(kind, 0) / 1e6:.0f} MB idle, {peak.get(kind, 0) / 1e6:.0f} MB at most;", end=" ")
    print(f"over idle {(peak.get('child', 0) - idle.get('child', 0)) / 1e6:.0f} MB (goal 500)")


def peak_memory(arguments: list[str]) -> dict[str, int]:
    """The largest resident set of the driver and of its child, by the kernel's own mark."""
    process = subprocess.Popen(
        [sys.executable, "-m", "neardup", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks: dict[str, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                    kind = "driver" if each.pid == process.pid else "child"
                    status = Path(f"/proc/{each.pid}/status").read_text()
                    mark = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                    peaks[kind] = max(peaks.get(kind, 0), 1024 * int(mark.split()[1]))
            except (psutil.Error, OSError, StopIteration):
                pass
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    over.set()
    watcher.join()
    if code:
        sys.exit(f"neardup {' '.join(arguments)} ended with {code}")
    return peaks


if __name__ == "__main__":
    main()
