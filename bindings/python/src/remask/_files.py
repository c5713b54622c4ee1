"""What needs no loaded model: devices, estimates, conversion, quantizing, the log."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _native as n
from ._cancel import Cancel, Interruptible
from ._model import Model, Progress, _Callbacks

DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]
_KINDS: tuple[DeviceKind, ...] = ("cpu", "gpu", "igpu", "accel")


def version() -> str:
    """Version of the library, such as "1.4.2"."""
    return str(n.ffi.string(n.lib.remask_version()).decode())


@dataclass(frozen=True, slots=True)
class Device:
    """Something that can hold a model's layers."""

    #: Name to choose it by, such as "CUDA0".
    name: str
    #: The maker's name for it.
    description: str
    kind: DeviceKind
    #: Bytes, as the driver says; 0 if unknown.
    memory_free: int
    memory_total: int


def devices() -> list[Device]:
    """Devices of this build and machine, asked anew."""
    found: list[Device] = []
    for i in range(n.lib.remask_device_count()):
        raw = n.init("remask_device")
        n.call(n.lib.remask_device_get, i, raw)
        name, description = n.ffi.string(raw.name).decode(), n.ffi.string(raw.description).decode()
        found.append(Device(name, description, _KINDS[raw.kind], raw.memory_free, raw.memory_total))
    return found


def load_backends(folder: str | os.PathLike[str]) -> int:
    """Loads backends from the files `libggml-*.so` in a folder, and says how many; of each kind the best for this machine.

    Raises:
        UnsupportedError: the library has its backends inside, as that of the wheel.
    """
    path = os.fsencode(folder)
    loaded = n.ffi.new("size_t *")
    n.call(n.lib.remask_backends_load, path, len(path), loaded)
    return int(loaded[0])


@dataclass(frozen=True, slots=True)
class Estimate:
    """What running a model takes."""

    #: Longest canvas that it was trained for, in slots.
    n_ctx: int
    #: Bytes of weights. Mapped from a file, they are the page cache's, shared between processes.
    weights: int
    #: Bytes that a session computes in.
    session: int


def estimate(source: str | os.PathLike[str] | bytes | bytearray | memoryview | Model, n_slots: int, n_masked: int) -> Estimate:
    """What a model would take, from the file's header alone: for a canvas of `n_slots`, of which `n_masked` are to be
    filled. source: a path, the bytes of a file, or a model."""
    raw = n.init("remask_estimate")
    counts = n.unsigned(n_slots, "n_slots", 63), n.unsigned(n_masked, "n_masked", 63)
    if isinstance(source, Model):
        n.call(n.lib.remask_estimate_model, source._handle, *counts, raw)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = n.ffi.from_buffer(source)
        n.call(n.lib.remask_estimate_memory, data, len(data), *counts, raw)
    else:
        n.call(n.lib.remask_estimate_file, *n.utf8(os.fspath(source)), *counts, raw)
    return Estimate(raw.n_ctx, raw.weights, raw.session)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    type: str = "f16",
    *,
    name: str | None = None,
    imatrix: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    threads: int = 0,
    overwrite: bool = False,
    pure: bool = False,
    on_progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Converts the Hugging Face checkpoint in folder `source` to the GGUF file `target`, which appears whole or not at
    all.

    type: type or mix of the matrices, such as "q4_k_m". name: of the model, for its metadata; `None` for the folder's.
    imatrix: path of an importance matrix. overrides: types by tensor name, each "PATTERN=TYPE". threads: 0 for one per
    physical core. overwrite: replace a file that exists. pure: leave the mix's rules out. Ctrl-C stops it.
    """
    _write(
        n.lib.remask_convert, source, target, type, name, imatrix, overrides, threads,
        {"overwrite": overwrite, "pure": pure}, on_progress, cancel,
    )  # fmt: skip


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    type: str,
    *,
    imatrix: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    threads: int = 0,
    overwrite: bool = False,
    requantize: bool = False,
    pure: bool = False,
    on_progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Writes the model file `source` as another type to `target`. As `convert`; requantize: take tensors that are
    quantized already, losing twice."""
    flags = {"overwrite": overwrite, "requantize": requantize, "pure": pure}
    _write(
        n.lib.remask_quantize, source, target, type, None, imatrix, overrides, threads, flags, on_progress, cancel
    )  # fmt: skip


def _write(
    function: Any,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    type: str,
    name: str | None,
    imatrix: str | os.PathLike[str] | None,
    overrides: Sequence[str],
    threads: int,
    flags: dict[str, bool],
    on_progress: Progress | None,
    cancel: Cancel | None,
) -> None:
    callbacks, interruptible = _Callbacks(), Interruptible(cancel)
    params = n.init("remask_write_params")
    for flag, on in flags.items():
        params.flags |= getattr(n.lib, f"REMASK_WRITE_{flag.upper()}") if on else 0
    params.n_threads = n.unsigned(threads, "threads")
    type_name, model_name = n.c_string(type), n.c_string(name)
    imatrix_path = n.c_string(None if imatrix is None else os.fspath(imatrix))
    progress = callbacks.progress(on_progress)
    patterns, n_patterns, _keep = n.texts(overrides)
    params.type_name, params.name, params.imatrix_path = type_name, model_name, imatrix_path
    if n_patterns:
        params.overrides, params.n_overrides = patterns, n_patterns
    params.on_progress, params.cancel = progress, interruptible.handle
    with callbacks.raising():
        interruptible(function, *n.utf8(os.fspath(source)), *n.utf8(os.fspath(target)), params)


# The callback in use, kept alive. Those before it are kept too: a thread may still be in one.
_logs: list[Any] = []


def set_log(log: Callable[[int, str], object] | None, min_level: int = 0) -> None:
    """Sends the library's log lines to `log` as level (`remask.LOG_DEBUG` to `LOG_ERROR`) and text; `None` turns it
    off, as it is at the start. One for the process. `log` is called from any thread and must not call remask; what it
    raises is printed by Python and goes no further."""
    if log is None:
        n.lib.remask_log_set(n.ffi.NULL, 0, n.ffi.NULL, n.ffi.NULL)
        return

    def on_log(level: int, message: Any, _user_data: Any) -> None:
        log(level, n.ffi.string(message).decode("utf-8", "replace"))

    _logs.append(n.ffi.callback("remask_log_fn", on_log))
    n.lib.remask_log_set(_logs[-1], min_level, n.ffi.NULL, n.ffi.NULL)


# Nothing may call Python when it is gone.
atexit.register(set_log, None)
