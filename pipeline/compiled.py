"""How the kernels are compiled: by numba, without the GIL, single-threaded, cached on disk beside their module.

numba renews a cached function when its own file changes, not when a file it imports from does; so what a kernel inlines
lives in the kernel's own file, and here is only what never changes.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code for this CPU, compiled at its first call and then read from the cache on disk."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


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
