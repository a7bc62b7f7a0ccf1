"""Decode and hash in a process that can be killed.

`Child.work` feeds items to a child process and yields one `Answer` per item, in order. The child notes each
stage before it enters it, so whoever crashes, hangs or runs out of memory is known by name: while decoding, the
item failed; in a hasher, that item has no hash of that hasher. Either costs the child, never the caller, and the
rest of the item's hashers are tried again in the next child. The child notes the time as well, of each stage and,
while a video or an animation moves on, of its frames: the deadline is one of silence, so that no hasher is blamed for
the time that others took; a longer one is that of the whole item.

A child belongs to one thread at a time. An answer carries the number of its item: one of another item is never taken.

    caller → child   u32 length, msgpack [number, skipped hashers, item header]; u64 length, the item's bytes
    child → caller   u32 length, msgpack [number of the item, its answer]
    board            shared memory, two int64 that the child writes: the stage (0 decoding, k hasher k-1, -1 between
                     items), and when it last moved on. Nobody is woken up for them: the caller looks when it matters.
"""

import contextlib
import gc
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack

from neardup.errors import RunError
from neardup.media import DecodePolicy
from neardup.memory import limit_memory
from neardup.work import Altering, Answer, HashRow, Item, Sampling, Watch, Work, do, from_wire, poisoned, to_wire

_FRAME = struct.Struct("<I")
_BODY = struct.Struct("<Q")
_PIPE_BYTES = 1 << 20
_AHEAD_BYTES = 32 << 20  # sent before the answer is awaited, so that the child never waits for its caller
_AHEAD_ITEMS = 32
_START_S = 120.0
_TOO_LONG = "not done within"
_STAGE, _MOVED = 0, 1  # places on the board
_BETWEEN = -1
_ARM_EVERY_S = 0.2
_KILLED = "killed by SIGKILL"  # never by the item's own code: by the system or an operator
_MIXED_UP = "the answer was to another item"
_GARBLED = "the answer could not be read"


# The environment of processes that hold pictures and large arrays: one thread each, and freed memory is kept. Dask's
# workers, and so their children, would give it back at once (64 KiB) and get it anew, page by page, for each picture.
# None of them looks for modules in the working folder first: it may be a corpus that others have filled.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ENVIRONMENT |= {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
ENVIRONMENT |= {"PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Limits:
    """What one item may cost before its child is killed."""

    deadline_s: float = 60.0  # for decoding, for each hasher of a picture, or between two frames
    video_deadline_s: float = 3600.0  # for the whole item: all frames of a video, or of one segment of it
    memory_bytes: int = 2 << 30  # address space beyond what the idle child has


# --- the caller's side ------------------------------------------------------------------------------------------------


class Child:
    """A worker process of our own; a context manager. `work` may be called many times, one call at a time: of two at
    once the second is refused."""

    def __init__(
        self,
        hashers: Sequence[str],
        policy: DecodePolicy,
        limits: Limits,
        sampling: Sampling | None = None,
        isometric: bool = False,
        altering: Altering | None = None,
    ):
        altering = altering or Altering()
        self._setup = {
            "hashers": list(hashers),
            "policy": asdict(policy),
            "limits": asdict(limits),
            "sampling": asdict(sampling or Sampling()),
            "isometric": isometric,
            "altering": asdict(altering),
        }
        self._stages = altering.stages(hashers)
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._board_file = -1
        self._board = memoryview(b"").cast("q")
        self._incoming = bytearray()
        self._at_work = threading.Lock()
        self._sent = 0  # items so far
        self._started_by = os.getpid()
        self.replaced = 0  # children killed or lost so far

    @property
    def busy(self) -> bool:
        """Is a call of `work` not at its end?"""
        return self._at_work.locked()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process:
            if self._started_by == os.getpid():
                self._process.kill()
                self._process.wait()
            else:  # this is a fork of the process that started it and still works with it
                self._process.returncode = 0
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None
        if self._board_file >= 0:
            os.close(self._board_file)
            self._board_file = -1
            self._board = memoryview(b"").cast("q")  # whose memory holds a file of its own

    def work(self, items: Iterable[Item | Answer]) -> Generator[Answer]:
        """One answer per item, in order; an item that is an Answer already (it could not be read) passes through."""
        if not self._at_work.acquire(blocking=False):
            raise RuntimeError("a decoding process is given items while it works on others; each thread has its own")
        source = iter(items)
        queue: deque[_Pending] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and _has_room(queue):
                    following = next(source, None)
                    if following is None:
                        exhausted = True
                    else:
                        self._sent += 1
                        queue.append(_Pending(following, self._sent))
                if not queue:
                    return
                answer = self._first_answer(queue)
                queue.popleft()
                yield answer
        finally:
            if queue:  # the caller gave up: what the child still answers belongs to nobody
                self.close()
            self._at_work.release()

    def _first_answer(self, queue: "deque[_Pending]") -> Answer:
        """Wait for the answer to the first item, killing and replacing the child as often as that takes."""
        first = queue[0]
        if isinstance(first.item, Answer):
            return first.item
        lost = 0
        while True:
            self._await_start(queue)
            stage, outcome = self._await_answer(queue)
            if isinstance(outcome, Answer):
                return outcome
            self.close()
            self.replaced += 1
            lost += 1
            if lost == 1 and not outcome.startswith(_TOO_LONG) and (stage is None or outcome == _KILLED):
                continue  # perhaps not this item's doing (the system ran out of memory), so it gets one more child
            if not stage:
                return poisoned(outcome)
            first.skipped[stage - 1] = f"poison: {outcome} in {self._stages[stage - 1]}"

    def _await_answer(self, queue: "deque[_Pending]") -> tuple[int | None, "Answer | str"]:
        """The first item's answer, or how the child failed; and the stage it was in."""
        assert self._process and self._process.stdin and self._process.stdout
        reading, writing = self._process.stdout.fileno(), self._process.stdin.fileno()
        begun = time.monotonic()
        while True:
            if (message := self._message()) is not None:
                return None, _answer_to(queue[0].number, message)
            unsent = next((pending for pending in queue if pending.has_unsent()), None)
            left_s = min(self._silent_until(begun), begun + self._limits.video_deadline_s) - time.monotonic()
            readable, writable, _ = select.select([reading], [writing] if unsent else [], [], max(0.0, left_s))
            if readable:
                data = os.read(reading, _PIPE_BYTES)
                if not data:
                    return self._stage(), _how_it_ended(self._process)
                self._incoming += data
            elif writable and unsent and left_s > 0:
                try:
                    unsent.send(writing)
                except BrokenPipeError:
                    return self._stage(), _how_it_ended(self._process)
            elif left_s <= 0:
                stage = self._stage()  # looked at first: if the child moves on meanwhile, it is not silent
                if time.monotonic() >= self._silent_until(begun):
                    return stage, f"no answer within {self._limits.deadline_s:g} s (--deadline)"
                if time.monotonic() >= begun + self._limits.video_deadline_s:  # no stage's fault
                    return None, f"{_TOO_LONG} {self._limits.video_deadline_s:g} s (video.deadline_s)"

    def _silent_until(self, begun: float) -> float:
        """When the child's silence will be too long; what else than a time since then is on the board counts not."""
        moved = self._board[_MOVED] / 1e9
        return (moved if begun < moved <= time.monotonic() else begun) + self._limits.deadline_s

    def _stage(self) -> int | None:
        """What the child is at, or was at when it ended; None between items."""
        stage = self._board[_STAGE]
        return stage if 0 <= stage <= len(self._stages) else None

    def _message(self) -> bytes | None:
        """The next message, if the whole of it was received."""
        if len(self._incoming) < _FRAME.size:
            return None
        (length,) = _FRAME.unpack_from(self._incoming)
        end = _FRAME.size + length
        if len(self._incoming) < end:
            return None
        message = memoryview(self._incoming)[_FRAME.size : end].tobytes()
        del self._incoming[:end]
        return message

    def start(self) -> None:
        """Start the process, unless there is one, without waiting for it: `work` does. Raises RunError."""
        if self._process and self._started_by == os.getpid():
            return
        self.close()
        try:
            self._start()
        except OSError as error:
            self.close()
            raise RunError(
                f"cannot start the decoding process: {error.strerror or error}; give this machine more memory or "
                "processes, or the run fewer workers"
            ) from error

    def _start(self) -> None:
        keep_standard_files()
        self._started_by = os.getpid()
        self._board_file = os.memfd_create("neardup")
        os.truncate(self._board_file, mmap.PAGESIZE)
        self._board = _board(self._board_file)
        self._board[_STAGE] = _BETWEEN
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from neardup.child import serve; serve({self._board_file})"],
            pass_fds=[self._board_file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_search_path())},
        )
        assert self._process.stdin
        self._ready = False
        self._incoming.clear()
        _widen(self._process.stdin.fileno())
        self._process.stdin.write(_packed(self._setup))

    def _await_start(self, queue: "deque[_Pending]") -> None:
        """A child that takes items; a new one has seen none of those in the queue."""
        self.start()
        if self._ready:
            return
        assert self._process and self._process.stdin and self._process.stdout
        begun = time.monotonic()
        while True:
            if (message := self._message()) is not None:
                if (ready := msgpack.unpackb(message)) is not True:
                    self.close()
                    raise RunError(f"the decoding process did not start: {ready}")
                os.set_blocking(self._process.stdin.fileno(), False)
                self._ready = True
                for pending in queue:
                    pending.unsent = None
                return
            left_s = begun + _START_S - time.monotonic()
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, left_s))
            data = os.read(self._process.stdout.fileno(), _PIPE_BYTES) if readable else b""
            if not data:
                how = _how_it_ended(self._process) if readable else f"silent for {_START_S:g} s"
                self.close()
                raise RunError(f"the decoding process did not start: {how}")
            self._incoming += data


class _Pending:
    """An item on its way to the child. `unsent` is None until sending begins, then what remains to be sent."""

    def __init__(self, item: Item | Answer, number: int):
        self.item = item
        self.number = number
        self.header, self.body = ([], b"") if isinstance(item, Answer) else to_wire(item)
        self.size = len(self.body)
        self.skipped: dict[int, str] = {}  # hasher number → why it is not tried again on this item
        self.unsent: list[memoryview] | None = None

    def has_unsent(self) -> bool:
        return not isinstance(self.item, Answer) and (self.unsent is None or bool(self.unsent))

    def send(self, pipe: int) -> None:
        """Write as much as the pipe takes now."""
        if self.unsent is None:
            head = _packed([self.number, self.skipped, self.header]) + _BODY.pack(self.size)
            self.unsent = [memoryview(head), memoryview(self.body)] if self.body else [memoryview(head)]
        try:
            while self.unsent:
                written = os.write(pipe, self.unsent[0])
                self.unsent[0] = self.unsent[0][written:]
                if not self.unsent[0]:
                    self.unsent.pop(0)
        except BlockingIOError:
            pass


def _board(file: int) -> memoryview:
    return memoryview(mmap.mmap(file, mmap.PAGESIZE)).cast("q")


def _has_room(queue: "deque[_Pending]") -> bool:
    return len(queue) < 2 or (len(queue) < _AHEAD_ITEMS and sum(one.size for one in queue) < _AHEAD_BYTES)


def _packed(message: Any) -> bytes:
    data: bytes = msgpack.packb(message)
    return _FRAME.pack(len(data)) + data


def _answer_to(number: int, message: bytes) -> Answer | str:
    """The answer to the item of this number, or why there is none: hostile bytes may have taken the child over."""
    try:
        answered, facts = msgpack.unpackb(message)
        if answered != number:
            return _MIXED_UP
        return Answer(**{**facts, "hashes": [[HashRow(*row) for row in rows] for rows in facts["hashes"]]})
    except (ValueError, TypeError, LookupError):
        return _GARBLED


def keep_standard_files() -> None:
    """Open those of the standard files 0, 1 and 2 that are closed, on nothing, for as long as this process lives.

    Else a pipe of ours would get such a number, and what any library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == number:
                os.set_inheritable(number, True)
            else:  # another thread was faster
                os.close(opened)


def _search_path() -> list[str]:
    """Where the child looks for modules: where this process does, and in the working folder last, if at all.

    Python itself puts the working folder first for `python -m`, `python -c` and notebooks; PYTHONPATH may name it.
    """
    try:
        here = str(Path.cwd())
    except OSError:  # it was deleted
        here = ""
    named = {str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    paths = [str(Path(path or here).absolute()) for path in sys.path if path or here]
    unasked = [path for path in paths if path == here and path not in named]
    ours = str(Path(__file__).parents[1])  # an editable install may have no place in the path: it would come after it
    return list(dict.fromkeys([*(path for path in paths if path not in unasked), ours, *unasked]))


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "it closed its pipe"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _widen(pipe: int) -> None:
    """A larger pipe buffer where the system has one, so that whole photos fit."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


_one_at_a_time = threading.Lock()


class Inline:
    """The same work in this process, for debugging: nothing protects it from what an item does.

    Of all threads of the process one works at a time: hashers may be anyone's code, and share what they like.
    """

    replaced = 0
    busy = False

    def __init__(
        self,
        hashers: Sequence[str],
        policy: DecodePolicy,
        sampling: Sampling | None = None,
        isometric: bool = False,
        altering: Altering | None = None,
    ):
        self._work = Work(_prepared(hashers), policy, sampling or Sampling(), isometric, altering or Altering())

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""

    def work(self, items: Iterable[Item | Answer]) -> Generator[Answer]:
        """One answer per item, in order."""
        for item in items:
            if isinstance(item, Answer):
                yield item
                continue
            with _one_at_a_time:
                answer = do(item, self._work, Watch())
            yield answer


# --- the child's side -------------------------------------------------------------------------------------------------


def serve(board_file: int) -> None:
    """Serve items from standard input until it ends. The entry point of the child process."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # sent to all processes of a terminal or a service: the caller ends us
        signal.signal(number, signal.SIG_IGN)
    notes = _Notes(_board(board_file))
    incoming = os.fdopen(os.dup(0), "rb", buffering=_PIPE_BYTES)
    outgoing = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not reach the protocol
    setup = msgpack.unpackb(incoming.read(_FRAME.unpack(incoming.read(_FRAME.size))[0]))
    try:
        sampling = Sampling(**setup["sampling"])
        policy, altering = DecodePolicy(**setup["policy"]), Altering(**setup["altering"])
        work = Work(_prepared(setup["hashers"]), policy, sampling, setup["isometric"], altering)
        limits = Limits(**setup["limits"])
        limit_memory(limits.memory_bytes)
    except Exception as error:
        os.write(outgoing, _packed(f"{type(error).__name__}: {error}"))
        return
    gc.freeze()  # what is loaded stays: no use in looking through it for garbage
    os.write(outgoing, _packed(True))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    notes.alarm_s = 2 * limits.deadline_s + 10
    while length := incoming.read(_FRAME.size):
        notes.arm()
        number, skipped, header = msgpack.unpackb(incoming.read(_FRAME.unpack(length)[0]), strict_map_key=False)
        body = incoming.read(_BODY.unpack(incoming.read(_BODY.size))[0])
        answer = do(from_wire(header, body), work, Watch(notes.enter, notes.tick, skipped))
        notes.enter(_BETWEEN)
        _send(outgoing, [number, vars(answer)])
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Notes:
    """What the child notes on the board while it works."""

    alarm_s = 0.0

    def __init__(self, board: memoryview):
        self._board = board
        self._armed_s = 0.0

    def arm(self) -> None:
        """Should the caller be gone, nobody else would end a hang: the kernel does, whatever code is running."""
        signal.setitimer(signal.ITIMER_REAL, self.alarm_s)
        self._armed_s = time.monotonic()
        self._board[_MOVED] = int(self._armed_s * 1e9)

    def enter(self, stage: int) -> None:
        """A stage begins: its time is noted before its name, so that none is seen with the time of another."""
        self.tick()
        self._board[_STAGE] = stage

    def tick(self) -> None:
        """Work goes on."""
        now_s = time.monotonic()
        self._board[_MOVED] = int(now_s * 1e9)
        if now_s - self._armed_s > _ARM_EVERY_S:
            self.arm()


def _send(pipe: int, message: Any) -> None:
    left = memoryview(_packed(message))
    while left:
        left = left[os.write(pipe, left) :]


def _prepared(specs: Sequence[str]) -> list[Any]:
    import cv2

    from neardup.hashers import parse
    from neardup.media import decode_image  # noqa: F401 - imported before the memory limit is set

    cv2.setNumThreads(1)
    return [parse(spec) for spec in specs]
