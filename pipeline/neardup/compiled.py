"""How the kernels are compiled: by numba, without the GIL, single-threaded, cached on disk.

The cache is beside their module; where that cannot be written, in a folder of this user's own, below the user's caches
or the temporary files; where there is none that only this user could have written, each process compiles in memory.

numba renews a cached function when its own file changes, not when a file it imports from does; so what a kernel inlines
lives in the kernel's own file, and here is only what never changes.
"""

import contextlib
import inspect
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import caching
from numba.core import config as numba_config
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

_Cache: Any = caching.FunctionCache
_config: Any = numba_config
_configuring = threading.Lock()


class _PatientCache(_Cache):  # type: ignore[misc]
    """A cache of compiled code that costs no run: what cannot be read or written is compiled."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file fails in any way that unpickling may
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk, say
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # a damaged index, which is begun anew
                self.flush()
                super().save_overload(sig, data)


def compiled(function: Function) -> Function:
    """The function as machine code for this CPU, compiled at its first call and then read from the cache on disk."""
    dispatcher: Any = numba.njit(nogil=True)(function)
    beside = Path(inspect.getfile(function)).parent / "__pycache__"
    folder = cache_folder(beside)
    if folder:
        with (
            _cached_in("" if folder == str(beside) else folder),
            contextlib.suppress(RuntimeError),
        ):  # numba finds no place after all
            dispatcher._cache = _PatientCache(function)
    return cast(Function, dispatcher)


@contextlib.contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    """Tell numba where the functions go that are declared in the block; by default, beside their module."""
    with _configuring:
        before = _config.CACHE_DIR
        _config.CACHE_DIR = folder
        try:
            yield
        finally:
            _config.CACHE_DIR = before


@cache
def cache_folder(beside: Path) -> str | None:
    """Where compiled code is kept, of a module with this `__pycache__`; None where no folder is safe and writable."""
    given = os.environ.get("NUMBA_CACHE_DIR")  # not numba's own setting, which a file of the working folder may give
    if given and _is_ours(Path(given)):
        return given
    if _is_writable(beside):  # whoever else may write there may change the module
        return str(beside)
    try:
        ours = f"neardup-{version('neardup')}-numba-{numba.__version__}"
    except PackageNotFoundError:
        ours = f"neardup-numba-{numba.__version__}"
    places = []
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - there may be no home
    if os.path.isabs(home):  # noqa: PTH117
        places.append(Path(home) / ours)
    with contextlib.suppress(OSError):  # no folder for temporary files
        places.append(Path(tempfile.gettempdir()) / f"{ours}-{os.getuid()}")
    return next((str(place) for place in places if _is_ours(place)), None)


def _is_ours(folder: Path) -> bool:
    """Can we write there, and could nobody else have? Compiled code is code: who can write it is obeyed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        if folder.stat().st_uid != os.geteuid() or not _is_writable(folder):
            return False
        return all(_only_we_write(place) for place in (folder, *folder.parents))
    except OSError:
        return False


def _only_we_write(folder: Path) -> bool:
    facts = folder.stat()
    shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
    return facts.st_uid in (0, os.geteuid()) and not shared


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def emitted(typing: Callable[..., Any]) -> Any:
    """A function for kernels to call, given as numba's intrinsics are: its types and what writes its LLVM code."""
    return intrinsic(typing)


@emitted
def count_ones(_context: Any, _word: Any) -> Any:
    """The number of ones in a uint64, as int64."""

    def write(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), write


@emitted
def lowest_one(_context: Any, _word: Any) -> Any:
    """The position of the lowest one in a uint64 that is not zero, as int64."""

    def write(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), write
