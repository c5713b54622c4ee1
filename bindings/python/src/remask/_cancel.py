"""Stops calls from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _native as n
from ._worker import interruptible


class Cancel:
    """A flag that stops the calls it was given to, with `CancelledError`.

    It acts within a node of the network on a CPU, else before the next step. Any thread may set it at any time.
    """

    def __init__(self) -> None:
        self._handle = n.ffi.gc(n.lib.remask_cancel_new(), n.lib.remask_cancel_free)

    def set(self) -> None:
        """Stops every call that was given this token."""
        n.lib.remask_cancel_set(self._handle)

    def reset(self) -> None:
        """Makes the token usable again."""
        n.lib.remask_cancel_reset(self._handle)

    @property
    def is_set(self) -> bool:
        """Whether the token is set."""
        return bool(n.lib.remask_cancel_is_set(self._handle))


class Interruptible:
    """Native calls that `KeyboardInterrupt` ends: by the caller's token, or one of its own.

    A token of its own is usable again afterwards; the caller's stays set.
    """

    def __init__(self, cancel: Cancel | None) -> None:
        self._token = Cancel() if cancel is None else cancel
        self._own = cancel is None
        #: For the C struct.
        self.handle = self._token._handle

    def __call__(self, function: Any, *args: Any) -> None:
        reset: Callable[[], None] = self._token.reset if self._own else _nothing
        interruptible(lambda: n.call(function, *args), self._token.set, reset)


def _nothing() -> None:
    pass
