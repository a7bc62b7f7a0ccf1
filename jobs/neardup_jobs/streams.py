"""Standard input, output and error of a command, whatever whoever started it has done with them."""

import errno
import io
import os
import sys
from typing import Any

_READER_IS_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)


def prepare() -> None:
    """Let a run go on whose output nobody reads any more; files that are closed are nothing, as /dev/null is."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from neardup.child import keep_standard_files

        keep_standard_files()
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _patient(sys.stdout, 1, ())
    sys.stderr = _patient(sys.stderr, 2, (errno.ENOSPC, errno.EDQUOT))  # a log that is full stops no run


class _Patient(io.FileIO):
    """A file that takes in silence what its reader no longer wants."""

    def __init__(self, number: int, passed_over: tuple[int, ...]) -> None:
        super().__init__(number, "wb", closefd=False)
        self._passed_over = (*_READER_IS_GONE, *passed_over)

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._passed_over:
                raise
            return len(data)


def _patient(stream: Any, number: int, passed_over: tuple[int, ...]) -> io.TextIOWrapper:
    if stream is not None:
        stream.flush()
    encoding, errors = (stream.encoding, stream.errors) if stream is not None else ("utf-8", "backslashreplace")
    file = io.BufferedWriter(_Patient(number, passed_over))
    return io.TextIOWrapper(file, encoding, errors, line_buffering=number == 2 or os.isatty(number))
