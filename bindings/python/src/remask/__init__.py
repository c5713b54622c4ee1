"""Remask runs masked-diffusion language models: a canvas of masked tokens that the model fills step by step.

    import remask

    with remask.Model("model.gguf") as model:
        print(model.generate("Once upon a time", max_tokens=32, steps=16))

`Model` has the short ways: generate, chat, infill, score, choose, logits, embed. `Canvas`, `Session` and `Run` show
what happens between: which slots are given, masked and filled, step by step. Errors are subclasses of `Error`.
`KeyboardInterrupt` ends a native call and leaves everything usable.
"""

from __future__ import annotations

from ._cancel import Cancel
from ._canvas import Canvas
from ._files import Device, Estimate, convert, devices, estimate, load_backends, quantize, set_log, version
from ._model import Decoder, Generation, Model, ModelInfo, TokenAttr
from ._native import lib as _lib
from ._params import GenerateOptions, GenerateParams, ScoreOptions, ScoreParams
from ._session import Choice, Run, Score, Session, SessionStats, Step
from .errors import (
    BusyError,
    CancelledError,
    DataError,
    DeviceError,
    Error,
    FormatError,
    InternalError,
    InvalidArgumentError,
    IoError,
    LimitError,
    ModelError,
    NotFoundError,
    NumericError,
    ResourceError,
    TemplateError,
    TokenizerError,
    UnsupportedError,
)

__version__ = version()

#: States of a slot.
FIXED: int = _lib.REMASK_SLOT_FIXED
MASKED: int = _lib.REMASK_SLOT_MASKED
FILLED: int = _lib.REMASK_SLOT_FILLED

#: Levels of `set_log`.
LOG_DEBUG: int = _lib.REMASK_LOG_DEBUG
LOG_INFO: int = _lib.REMASK_LOG_INFO
LOG_WARN: int = _lib.REMASK_LOG_WARN
LOG_ERROR: int = _lib.REMASK_LOG_ERROR

__all__ = [
    "FILLED",
    "FIXED",
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_INFO",
    "LOG_WARN",
    "MASKED",
    "BusyError",
    "Cancel",
    "CancelledError",
    "Canvas",
    "Choice",
    "DataError",
    "Decoder",
    "Device",
    "DeviceError",
    "Error",
    "Estimate",
    "FormatError",
    "GenerateOptions",
    "GenerateParams",
    "Generation",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "LimitError",
    "Model",
    "ModelError",
    "ModelInfo",
    "NotFoundError",
    "NumericError",
    "ResourceError",
    "Run",
    "Score",
    "ScoreOptions",
    "ScoreParams",
    "Session",
    "SessionStats",
    "Step",
    "TemplateError",
    "TokenAttr",
    "TokenizerError",
    "UnsupportedError",
    "convert",
    "devices",
    "estimate",
    "load_backends",
    "quantize",
    "set_log",
    "version",
]
