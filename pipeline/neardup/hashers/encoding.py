"""Hash vectors as packed bytes, hex and base64, and back.

Booleans are packed most significant bit first and padded with zero bits, uint8 is raw, float32 is raw little endian.
"""

import base64
import binascii
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from neardup.errors import UsageError

Vector = npt.NDArray[Any]
DType = Literal["bool", "uint8", "float32"]
HashFormat = Literal["base64", "hex", "vector"]

BITS: dict[str, int] = {"bool": 1, "uint8": 8, "float32": 32}


def packed_length(hash_length: int, dtype: str) -> int:
    """The number of bytes of a packed hash."""
    if dtype not in BITS:
        raise UsageError(f"unknown hash dtype {dtype!r}; use one of {', '.join(BITS)}")
    return (hash_length * BITS[dtype] + 7) // 8


def pack(vector: npt.ArrayLike, dtype: str) -> bytes:
    """The bytes that stand for a vector in tables, hex and base64."""
    array = np.ravel(np.asarray(vector))
    packed_length(0, dtype)
    if dtype == "bool":
        return np.packbits(array.astype(bool)).tobytes()
    return array.astype("<f4" if dtype == "float32" else "u1").tobytes()


def unpack(packed: bytes, dtype: str, hash_length: int) -> Vector:
    """The vector of `hash_length` elements that `pack` made bytes of (a fresh, writable array)."""
    if len(packed) != packed_length(hash_length, dtype):
        raise UsageError(
            f"{len(packed)} bytes are not a {dtype} hash of length {hash_length}; "
            f"expected {packed_length(hash_length, dtype)} bytes"
        )
    raw = np.frombuffer(packed, dtype="u1")
    if dtype == "bool":
        return np.unpackbits(raw, count=hash_length).astype(bool)
    return raw.copy() if dtype == "uint8" else raw.view("<f4").astype(np.float32)


def get_string_length(hash_length: int, dtype: str, hash_format: str = "hex") -> int:
    """The number of characters of an encoded hash."""
    n = packed_length(hash_length, dtype)
    if hash_format == "hex":
        return 2 * n
    if hash_format == "base64":
        return 4 * ((n + 2) // 3)
    raise _unknown_format(hash_format)


def vector_to_string(vector: npt.ArrayLike | None, dtype: str, hash_format: str = "base64") -> str | Vector | None:
    """A vector as hex or base64; `None` stays `None`, and the format "vector" returns the vector cast to `dtype`."""
    if vector is None:
        return None
    if hash_format == "vector":
        packed_length(0, dtype)
        return np.asarray(vector).astype(dtype)
    if hash_format == "hex":
        return pack(vector, dtype).hex()
    if hash_format == "base64":
        return base64.b64encode(pack(vector, dtype)).decode("ascii")
    raise _unknown_format(hash_format)


def string_to_vector(
    hash_string: str, dtype: str, hash_length: int, hash_format: str = "base64", verify_length: bool = True
) -> Vector:
    """The vector that an encoded hash stands for.

    Raises `UsageError` where the string has another length (unless `verify_length` is off: then what follows
    `hash_length` elements is ignored) or is not in that format.
    """
    expected = get_string_length(hash_length, dtype, hash_format)
    if verify_length and len(hash_string) != expected:
        raise UsageError(
            f"Incorrect string length for this hash format: {len(hash_string)} characters, "
            f"a {hash_format} hash of {hash_length} {dtype} elements has {expected}"
        )
    try:
        raw = bytes.fromhex(hash_string) if hash_format == "hex" else base64.b64decode(hash_string, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise UsageError(f"{hash_string[:40]!r} is not a {hash_format} string") from exc
    return unpack(raw[: packed_length(hash_length, dtype)], dtype, hash_length)


def hex_to_b64(hash_string: str, dtype: str, hash_length: int, verify_length: bool = True) -> str:
    """A hex hash as base64."""
    return _recode(hash_string, dtype, hash_length, ("hex", "base64"), verify_length)


def b64_to_hex(hash_string: str, dtype: str, hash_length: int, verify_length: bool = True) -> str:
    """A base64 hash as hex."""
    return _recode(hash_string, dtype, hash_length, ("base64", "hex"), verify_length)


def _recode(hash_string: str, dtype: str, hash_length: int, formats: tuple[str, str], verify_length: bool) -> str:
    vector = string_to_vector(hash_string, dtype, hash_length, formats[0], verify_length)
    return cast("str", vector_to_string(vector, dtype, formats[1]))


def _unknown_format(hash_format: str) -> UsageError:
    return UsageError(
        f"unknown hash format {hash_format!r}; use 'base64', 'hex' or, where a hash is computed, 'vector'"
    )
