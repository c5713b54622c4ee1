"""What can go wrong: one exception for each status of the C interface."""

from __future__ import annotations


class Error(Exception):
    """A call into remask failed. The message is one line that names the thing, what was found and what was expected."""

    #: Number of the status (`REMASK_STATUS_*`).
    status: int = -1


class InvalidArgumentError(Error, ValueError):
    """An argument or option is out of range, or options contradict each other."""

    status = 1


class IoError(Error):
    """The operating system refused to open, read, map or write a file, or a file object raised."""

    status = 2


class FormatError(Error):
    """A file is not what its format demands."""

    status = 3


class LimitError(Error):
    """A size in a file or call is over a stated limit."""

    status = 4


class UnsupportedError(Error):
    """Well-formed, but of a kind that this build or version cannot serve."""

    status = 5


class ModelError(Error):
    """The file's hyper-parameters, tensors or shapes do not make a model."""

    status = 6


class TokenizerError(Error):
    """The vocabulary or tokenizer does not hold together, or cannot spell a text."""

    status = 7


class TemplateError(Error):
    """The model has no chat template, or it refuses the messages, or its rendering was stopped."""

    status = 8


class NumericError(Error):
    """A weight or a result is not a finite number."""

    status = 9


class ResourceError(Error):
    """Memory, threads or another resource of the machine ran out."""

    status = 10


class DeviceError(Error):
    """A device is missing, or its driver reported a fault."""

    status = 11


class CancelledError(Error):
    """A cancel token stopped the call. What was filled so far stays on the canvases."""

    status = 12


class BusyError(Error):
    """Another call or run is at work on the same session or canvas. Nothing was changed; try again later."""

    status = 13


class DataError(Error):
    """Training or evaluation text is not as it should be."""

    status = 14


class InternalError(Error):
    """A fault in the library; please report it with the message."""

    status = 15


class NotFoundError(Error, LookupError):
    """There is no entry of that name or index."""

    status = 17


BY_STATUS: dict[int, type[Error]] = {
    kind.status: kind
    for kind in (
        InvalidArgumentError,
        IoError,
        FormatError,
        LimitError,
        UnsupportedError,
        ModelError,
        TokenizerError,
        TemplateError,
        NumericError,
        ResourceError,
        DeviceError,
        CancelledError,
        BusyError,
        DataError,
        InternalError,
        NotFoundError,
    )
}
