"""The killable child: whatever an item does costs that item, and only its own hash."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from conftest import PHOTOS
from hostile import CRASH, EXHAUST, FAIL, FORGE, GARBLE, HANG, ONCE, SLOW
from neardup import transforms
from neardup.child import Answer, Child, Inline, Limits
from neardup.errors import RunError
from neardup.hashers import parse
from neardup.media import DecodePolicy, decode_image
from neardup.work import Altering

HOSTILE = "hostile.Hostile"
SPECS = ("dhash", HOSTILE, "phash")


def png(mark: tuple[int, int, int], noise: int = 0) -> bytes:
    pixels = np.random.default_rng(noise).integers(0, 256, (40, 50, 3), np.uint8)
    pixels[0, 0] = mark
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(SPECS, DecodePolicy(), Limits(deadline_s=2, memory_bytes=400 << 20)) as child:
        yield child


def test_answers_come_in_order_and_equal_the_work_done_inline(child: Child) -> None:
    items = [photo.read_bytes() for photo in PHOTOS] + [b"not an image", b""]
    assert list(child.work(items)) == list(Inline(SPECS, DecodePolicy()).work(items))


def test_an_item_that_was_never_read_passes_through(child: Child) -> None:
    unread = Answer(error_class="transient", error="reset")
    good, same, again = child.work([PHOTOS[0].read_bytes(), unread, PHOTOS[0].read_bytes()])
    assert same == unread
    assert good == again and good.error is None


@pytest.mark.parametrize(
    ("mark", "reason", "killed"),
    [
        (CRASH, "poison: killed by SIGSEGV in hasher hostile.Hostile", 1),
        (HANG, "poison: no answer within 2 s (--deadline) in hasher hostile.Hostile", 1),
        (EXHAUST, "poison: ran out of memory (--memory-limit)", 0),
        (FAIL, "ValueError: no such picture,", 0),
    ],
)
def test_a_hasher_that_fails_costs_one_hash(child: Child, mark: tuple[int, int, int], reason: str, killed: int) -> None:
    answers = list(child.work([png((9, 9, 9)), png(mark), png((9, 9, 9), noise=1)]))
    assert [answer.error_class for answer in answers] == [None, None, None]
    assert [answer.hashes[1][0].error for answer in answers] == [None, reason, None]
    assert all(answer.hashes[0][0].hash and answer.hashes[2][0].hash for answer in answers)
    assert child.replaced == killed


def test_no_hasher_is_blamed_for_the_time_of_another() -> None:
    """Three take 0.7 s each of a picture, and a fourth nearly nothing: none is silent for 1 s."""
    specs = (HOSTILE, "hostile.Slow", "hostile.Twin", "phash")
    with Child(specs, DecodePolicy(), Limits(deadline_s=1)) as child:
        (answer,) = child.work([png(SLOW)])
    assert [rows[0].error for rows in answer.hashes] == [None] * 4
    assert child.replaced == 0


def test_several_in_a_row_are_told_apart(child: Child) -> None:
    marks = [CRASH, (9, 9, 9), HANG, CRASH, EXHAUST, (8, 8, 8)]
    errors = [answer.hashes[1][0].error for answer in child.work([png(mark) for mark in marks])]
    assert [error is None for error in errors] == [False, True, False, False, False, True]


def test_memory_spent_on_decoding_is_poison() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (9000, 9000), (1, 2, 3)).save(sink, "PNG")
    with Child(("dhash",), DecodePolicy(), Limits(memory_bytes=150 << 20)) as child:
        big, small = child.work([sink.getvalue(), png((9, 9, 9))])
    assert big.error_class == "poison" and "memory" in (big.error or "")
    assert small.error is None


def test_libraries_that_few_pictures_need_are_on_no_picture_s_account() -> None:
    """A flat picture needs the exact transforms: those of pHash take 120 MB of address space, those of Marr 200."""
    sink = io.BytesIO()
    Image.new("RGB", (300, 200), (90, 90, 90)).save(sink, "PNG")
    specs = ("phash", "marrhildreth", "imagehash.phash")
    items = [sink.getvalue(), png((9, 9, 9))]
    with Child(specs, DecodePolicy(), Limits(memory_bytes=64 << 20)) as child:
        assert list(child.work(items)) == list(Inline(specs, DecodePolicy()).work(items))
    assert child.replaced == 0


def test_a_child_killed_from_outside_blames_nobody(child: Child) -> None:
    answers = child.work(iter([PHOTOS[0].read_bytes()] * 2))
    next(answers)
    assert child._process
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert next(answers).error is None
    assert child.replaced <= 1  # it may have answered already


def test_the_child_ends_with_its_caller(child: Child) -> None:
    list(child.work([PHOTOS[0].read_bytes()]))
    assert child._process and child._process.stdin
    process = psutil.Process(child._process.pid)
    child._process.stdin.close()
    process.wait(timeout=10)


def test_a_caller_that_gives_up_leaves_no_answers_behind(child: Child) -> None:
    answers = child.work(iter([png((9, 9, 9), noise=n) for n in range(8)]))
    next(answers)
    answers.close()
    photo = PHOTOS[0].read_bytes()
    assert list(child.work([photo])) == list(Inline(SPECS, DecodePolicy()).work([photo]))


def test_a_hasher_that_cannot_start_stops_the_run() -> None:
    with (
        Child(("no_such_module.Hash",), DecodePolicy(), Limits()) as child,
        pytest.raises(RunError, match="no_such_module"),
    ):
        list(child.work([b""]))


def test_a_slow_source_is_not_the_childs_fault(child: Child) -> None:
    def slow() -> Iterator[bytes]:
        yield png((9, 9, 9))
        yield png((9, 9, 9))
        time.sleep(2.5)
        yield png((9, 9, 9))

    assert [answer.hashes[1][0].error for answer in child.work(slow())] == [None] * 3


def test_items_larger_than_the_pipe_arrive_whole(child: Child) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, "PNG")
    items = [sink.getvalue()] * 3
    assert len(items[0]) > 4 << 20
    assert list(child.work(items)) == list(Inline(SPECS, DecodePolicy()).work(items))


# --- answers of others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [FORGE, GARBLE])
def test_an_answer_of_another_item_is_no_answer(
    child: Child, mark: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [png((9, 9, 9), 1), png(mark, 2), png((9, 9, 9), 3)]
    before, hit, after = child.work(items)
    assert (hit.error_class, hit.hashes) == ("poison", []) and "answer" in (hit.error or "")
    assert [before, after] == list(Inline(SPECS, DecodePolicy()).work([items[0], items[2]]))
    assert child.replaced == 2
    child.close()
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))  # it was not this item's doing: it gets another child
    again = list(child.work(items))
    assert again == list(Inline(SPECS, DecodePolicy()).work(items))
    assert child.replaced == 3


def test_two_threads_in_one_child_are_refused(child: Child) -> None:
    answers = child.work(iter([png((9, 9, 9), 1), png((9, 9, 9), 2)]))
    first = next(answers)
    failures: list[Exception] = []

    def intrude() -> None:
        try:
            list(child.work([png((9, 9, 9), 3)]))
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert "each thread has its own" in str(failures[0])
    items = [png((9, 9, 9), 1), png((9, 9, 9), 2)]
    assert [first, *answers] == list(Inline(SPECS, DecodePolicy()).work(items))
    assert not child.busy and child.replaced == 0


def test_a_fork_of_the_process_leaves_its_child_alone(child: Child) -> None:
    items = [png((9, 9, 9), noise) for noise in range(3)]
    answers = child.work(iter(items))
    first = next(answers)
    forked = os.fork()
    if not forked:  # a copy of this process, which must neither end the child nor read its answers
        try:
            child.close()
            with Child(SPECS, DecodePolicy(), Limits()) as own:
                right = [answer.hashes for answer in own.work(items[:1])] == [first.hashes]
            os._exit(0 if right else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert [first, *answers] == list(Inline(SPECS, DecodePolicy()).work(items))
    assert child.replaced == 0


# --- where it finds itself --------------------------------------------------------------------------------------------

_HASHES_ONE = """
import sys
from neardup.child import Child, Limits
from neardup.media import DecodePolicy
with Child(("dhash",), DecodePolicy(), Limits()) as child:
    (answer,) = child.work([open(sys.argv[1], "rb").read()])
    open(sys.argv[2], "w").write(f"{answer.error} {answer.hashes[0][0].hash.hex()} {child.replaced}")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_whose_standard_files_are_closed_has_children(closed: str, tmp_path: Path) -> None:
    (expected,) = Inline(("dhash",), DecodePolicy()).work([PHOTOS[0].read_bytes()])
    command = [sys.executable, "-c", _HASHES_ONE, PHOTOS[0], tmp_path / "answer"]
    subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', *map(str, command)], check=True, timeout=120)
    assert (tmp_path / "answer").read_text() == f"None {(expected.hashes[0][0].hash or b'').hex()} 0"


def test_the_working_folder_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python puts it first for notebooks and `python -c`; only where PYTHONPATH names it does it stay there."""
    ran = tmp_path / "ran"
    for name in ("random", "numpy", "msgpack", "types", "cv2", "neardup", "pipeline"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\n")
    (tmp_path / "my_hashers.py").write_text("from neardup.hashers import DHash\nclass Mine(DHash): pass\n")
    monkeypatch.chdir(tmp_path)
    for first in ("", str(tmp_path)):
        monkeypatch.setattr(sys, "path", [first, *sys.path])
        with Child(("my_hashers.Mine", "dhash"), DecodePolicy(), Limits()) as child:
            (answer,) = child.work([PHOTOS[0].read_bytes()])
        assert answer.error is None and answer.hashes[0][0].hash == answer.hashes[1][0].hash is not None
    assert not ran.exists()
    (tmp_path / "neardup.py").unlink()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child(("dhash",), DecodePolicy(), Limits()) as child, pytest.raises(RunError, match="did not start"):
        list(child.work([PHOTOS[0].read_bytes()]))
    assert ran.exists()


def test_a_child_that_cannot_be_started_is_a_line(child: Child) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    photo = PHOTOS[0].read_bytes()
    used = len(list(Path("/proc/self/fd").iterdir())) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))  # one more
    try:
        with pytest.raises(RunError, match="cannot start the decoding process: Too many open files"):
            list(child.work([photo]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(Path("/proc/self/fd").iterdir())) - 1 == used
    (answer,) = child.work([photo])
    assert answer.error is None


# --- altered pictures -------------------------------------------------------------------------------------------------

ALTERING = Altering(("noop", "odd_transforms.hostile", "blur", "noise"), "jpeg", keep_images=True)


def test_altered_pictures_are_hashed_from_one_decode() -> None:
    items = [photo.read_bytes() for photo in PHOTOS[:2]] + [b"not an image"]
    with Child(SPECS, DecodePolicy(), Limits(), altering=ALTERING) as child:
        answers = list(child.work(items))
    assert answers == list(Inline(SPECS, DecodePolicy(), altering=ALTERING).work(items))
    assert answers[2].error_class == "permanent" and answers[2].hashes == []
    jpeg, dhash = transforms.parse("jpeg"), parse("dhash")
    base = jpeg(decode_image(items[0]).pixels)
    blurred = jpeg(transforms.parse("blur")(base))
    assert [row.variant for row in answers[0].hashes[0]] == list(ALTERING.transforms)
    assert [row.hash for row in answers[0].hashes[0]][::2] == [dhash.pack(dhash._compute(p)) for p in (base, blurred)]
    np.testing.assert_array_equal(decode_image(answers[0].images[2]).pixels, blurred)
    assert answers[0].images[3] != answers[0].images[0] and len(answers[0].images) == 4


@pytest.mark.parametrize(("mark", "reason"), [(CRASH, "killed by SIG"), (HANG, "no answer within"), (FAIL, "no such")])
def test_a_transform_that_fails_costs_only_what_it_makes(mark: tuple[int, int, int], reason: str) -> None:
    lossless = Altering(ALTERING.transforms)
    with Child(("dhash", "phash"), DecodePolicy(), Limits(deadline_s=0.5), altering=lossless) as child:
        before, hit, after = child.work([png((9, 9, 9), 1), png(mark, 1), png((9, 9, 9), 1)])
        assert before == after and child.replaced == (mark != FAIL)
    assert hit.error is None
    for rows, good in zip(hit.hashes, before.hashes, strict=True):
        assert [row.hash is None for row in rows] == [False, True, False, False]
        assert reason in rows[1].error and rows[1].variant == "odd_transforms.hostile"
        assert all(row.hash and row.error is None for row in good)


def test_when_the_first_transform_fails_there_is_nothing_to_alter() -> None:
    altering = Altering(("odd_transforms.to_text", "blur"))
    (answer,) = Inline(("dhash",), DecodePolicy(), altering=altering).work([png((9, 9, 9))])
    assert [row.hash for row in answer.hashes[0]] == [None, None]
    assert "a picture is an array" in answer.hashes[0][0].error
    assert answer.hashes[0][1].error.startswith("the first transform failed: UsageError")
