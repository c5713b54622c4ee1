"""The shared library beside this file, and the few shapes in which its functions are called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import numpy.typing as npt

from ._declarations import CDEF
from .errors import BY_STATUS, Error

# cffi's ABI mode: nothing to compile, neither here nor at the user's. What it gives has no types.
ffi: Any = cffi.FFI()
ffi.cdef(CDEF)

_NAMES = {"win32": "remask.dll", "darwin": "libremask.dylib"}
LIBRARY = Path(__file__).resolve().parent / _NAMES.get(sys.platform, "libremask.so")

Ids = npt.NDArray[np.int32]
#: Token ids, as a list, a tuple, or a one-dimensional integer array.
Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]

#: "To the end" for `size_t`.
SIZE_MAX = (1 << (8 * ffi.sizeof("size_t"))) - 1
_TOO_SMALL = 16


def _open() -> Any:
    try:
        lib = ffi.dlopen(str(LIBRARY))
    except OSError as error:
        raise ImportError(f"{LIBRARY} does not load: {error}") from error
    if lib.remask_abi_version() != lib.REMASK_ABI_VERSION:
        raise ImportError(
            f"{LIBRARY} has ABI {lib.remask_abi_version()}; this package is for {lib.REMASK_ABI_VERSION}"
        )
    return lib


lib: Any = _open()


def _failure(status: int, error: Any) -> Error:
    message = ffi.string(lib.remask_error_message(error)).decode("utf-8", "replace")
    lib.remask_error_free(error)
    if not message:
        message = ffi.string(lib.remask_status_name(status)).decode()
    failure = BY_STATUS.get(status, Error)(message)
    failure.status = status
    return failure


def call(function: Any, *args: Any) -> None:
    """Calls a function that returns a status, and raises what it reports. The GIL is free meanwhile."""
    error = ffi.new("remask_error **")
    status = function(*args, error)
    if status != lib.REMASK_STATUS_OK:
        raise _failure(status, error[0])


def fill(function: Any, args: tuple[Any, ...], kind: str, room: int) -> tuple[Any, int]:
    """Calls a function that copies into a buffer; once more where `room` was too little."""
    while True:
        buffer = ffi.new(f"{kind}[]", max(room, 1))
        needed = ffi.new("size_t *")
        error = ffi.new("remask_error **")
        status = function(*args, buffer, room, needed, error)
        if status == lib.REMASK_STATUS_OK:
            return buffer, needed[0]
        failure = _failure(status, error[0])
        # Another thread may have made it longer meanwhile: as often as it takes.
        if status != _TOO_SMALL or needed[0] <= room:
            raise failure
        room = needed[0]


def fill_text(function: Any, *args: Any, room: int = 256) -> str:
    """Text that a function writes."""
    return fill_bytes(function, *args, room=room).decode("utf-8", "replace")


def fill_bytes(function: Any, *args: Any, room: int = 256) -> bytes:
    """Bytes that a function writes."""
    buffer, n = fill(function, args, "char", room)
    return bytes(ffi.buffer(buffer, n))


def fill_ids(function: Any, *args: Any, room: int = 256) -> Ids:
    """Token ids that a function writes."""
    buffer, n = fill(function, args, "int32_t", room)
    return np.frombuffer(bytes(ffi.buffer(buffer, 4 * n)), dtype=np.int32)


def fill_id_list(function: Any, *args: Any, room: int = 256) -> list[int]:
    """The same, as a list."""
    return [int(token) for token in fill_ids(function, *args, room=room)]


def init(name: str) -> Any:
    """A struct with its defaults."""
    struct = ffi.new(f"{name} *")
    getattr(lib, f"{name}_init")(struct, ffi.sizeof(name))
    return struct


def own(free: str, new: Any, *args: Any, caller: Callable[..., None] = call) -> Any:
    """A handle that `new` gives, freed when nobody refers to it any more.

    A call under way refers to it: closing an object in one thread never takes it from another's hands.
    """
    out = ffi.new(f"{free.removesuffix('_free')} **")
    caller(new, *args, out)
    return ffi.gc(out[0], getattr(lib, free))


def utf8(text: str) -> tuple[Any, int]:
    """A text as pointer and length. Lone surrogates raise `UnicodeEncodeError`, a `ValueError`."""
    data = text.encode("utf-8")
    return ffi.from_buffer("char[]", data), len(data)


def c_string(text: str | None) -> Any:
    """A text as a NUL-terminated string; NULL for none. The caller keeps it alive."""
    if text is None:
        return ffi.NULL
    if "\0" in text:
        raise ValueError("the text has a NUL character in it")
    return ffi.new("char[]", text.encode("utf-8"))


def texts(items: Iterable[str]) -> tuple[Any, int, list[Any]]:
    """An array of `remask_text`, its length, and what must live as long."""
    keep = [utf8(item) for item in items]
    array = ffi.new("remask_text[]", len(keep))
    for i, (data, n) in enumerate(keep):
        array[i].data, array[i].len = data, n
    return array, len(keep), [array, keep]


def ids(tokens: Tokens) -> tuple[Any, int]:
    """Token ids as pointer and length. Raises `ValueError` for what is no one-dimensional row of int32."""
    given = np.asarray(tokens)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise ValueError(f"tokens are {given.dtype}{list(given.shape)}; they must be integers[n]")
    limit = np.iinfo(np.int32)
    if given.size and (given.min() < limit.min or given.max() > limit.max):
        raise ValueError("a token is beyond 32 bits")
    row = np.ascontiguousarray(given, dtype=np.int32)
    return ffi.from_buffer("int32_t[]", row), row.size


def unsigned(value: int, what: str, bits: int = 32) -> int:
    """A number that fits, or `ValueError`."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{what} is {value}; it must be 0 or more and below 2^{bits}")
    return value
