"""Rows of tokens, some given and some masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _native as n

if TYPE_CHECKING:
    from ._model import Model

#: A conversation: dictionaries with "role" and "content".
Messages = Sequence[Mapping[str, str]]

Slots = npt.NDArray[np.uint8]


def native_messages(messages: Messages) -> tuple[Any, int, Any]:
    """An array of `remask_message`, its length, and what must live as long."""
    keep = [(n.utf8(m["role"]), n.utf8(m["content"])) for m in messages]
    array = n.ffi.new("remask_message[]", len(keep))
    for i, (role, content) in enumerate(keep):
        array[i].role.data, array[i].role.len = role
        array[i].content.data, array[i].content.len = content
    return array, len(keep), keep


def _end(end: int | None) -> int:
    return n.SIZE_MAX if end is None else n.unsigned(end, "end", 63)


class Canvas:
    """A row of slots: fixed (given), masked (to be filled) or filled (by a run).

    The methods that change it return it, so that they can be chained. While a run is at work on it they raise
    `BusyError`, and reading it shows the last step. Safe to use from any thread; colliding calls raise `BusyError`.
    """

    def __init__(self, model: Model) -> None:
        """An empty canvas for `model`, of which it keeps what it needs."""
        self._handle = n.own("remask_canvas_free", n.lib.remask_canvas_new, model._handle)

    def copy(self) -> Canvas:
        """A copy as it is now. It belongs to no run."""
        other = object.__new__(Canvas)
        other._handle = n.own("remask_canvas_free", n.lib.remask_canvas_copy, self._handle)
        return other

    __copy__ = copy

    def append_text(self, text: str, *, special: bool = False, bos: bool = False) -> Canvas:
        """Appends fixed text. `special`: special tokens that it spells become their ids; for trusted text only.
        `bos`: begin with the begin-of-text token where the model asks for one."""
        n.call(n.lib.remask_canvas_append_text, self._handle, *n.utf8(text), encode_flags(special, bos))
        return self

    def append_tokens(self, tokens: n.Tokens) -> Canvas:
        """Appends fixed tokens. The mask token among them is shown to the model and never filled."""
        n.call(n.lib.remask_canvas_append_tokens, self._handle, *n.ids(tokens))
        return self

    def append_masks(self, count: int) -> Canvas:
        """Appends `count` slots for a run to fill."""
        n.call(n.lib.remask_canvas_append_masks, self._handle, n.unsigned(count, "count", 63))
        return self

    def append_holes(self, text: str, *, special: bool = False, bos: bool = False) -> Canvas:
        """Appends text with holes: `"The [[4]] sat on the [[3]]."` has 4 and 3 slots to fill. `[[[[` stands for a
        literal `[[`. The rest as in `append_text`."""
        n.call(n.lib.remask_canvas_append_holes, self._handle, *n.utf8(text), encode_flags(special, bos))
        return self

    def append_chat(self, messages: Messages, *, closed: bool = False) -> Canvas:
        """Appends a conversation through the model's chat template, up to where the assistant's answer begins.
        `closed`: end after the last message instead. Raises `TemplateError`."""
        array, count, _keep = native_messages(messages)
        n.call(n.lib.remask_canvas_append_chat, self._handle, array, count, int(closed))
        return self

    def mask(self, begin: int = 0, end: int | None = None) -> Canvas:
        """Masks slots `[begin, end)` again, fixed ones too. `None` is the end of the canvas, here and below."""
        n.call(n.lib.remask_canvas_mask, self._handle, n.unsigned(begin, "begin", 63), _end(end))
        return self

    def fix(self, begin: int = 0, end: int | None = None) -> Canvas:
        """Fixes what a run filled in `[begin, end)`, so that the next run takes it as given."""
        n.call(n.lib.remask_canvas_fix, self._handle, n.unsigned(begin, "begin", 63), _end(end))
        return self

    def set(self, begin: int, tokens: n.Tokens) -> Canvas:
        """Puts fixed tokens into the slots from `begin` on, whatever is there."""
        n.call(n.lib.remask_canvas_set, self._handle, n.unsigned(begin, "begin", 63), *n.ids(tokens))
        return self

    def forbid(self, tokens: n.Tokens, begin: int = 0, end: int | None = None) -> Canvas:
        """Tokens that runs never put into `[begin, end)`, besides those forbidden before; none allows all again."""
        n.call(
            n.lib.remask_canvas_forbid, self._handle, n.unsigned(begin, "begin", 63), _end(end), *n.ids(tokens)
        )
        return self

    def truncate(self, count: int) -> Canvas:
        """Removes everything from slot `count` on; 0 empties the canvas."""
        n.call(n.lib.remask_canvas_truncate, self._handle, n.unsigned(count, "count", 63))
        return self

    def _count(self) -> tuple[int, int]:
        slots, masked = n.ffi.new("size_t *"), n.ffi.new("size_t *")
        n.call(n.lib.remask_canvas_count, self._handle, slots, masked)
        return slots[0], masked[0]

    def __len__(self) -> int:
        return self._count()[0]

    @property
    def n_masked(self) -> int:
        """Slots still masked."""
        return self._count()[1]

    @property
    def tokens(self) -> n.Ids:
        """A copy of the token of every slot, int32[len]."""
        return n.fill_ids(n.lib.remask_canvas_tokens, self._handle, room=len(self))

    @property
    def slots(self) -> Slots:
        """A copy of the state of every slot (`remask.FIXED`, `MASKED`, `FILLED`), uint8[len]."""
        buffer, count = n.fill(n.lib.remask_canvas_slots, (self._handle,), "uint8_t", len(self))
        return np.frombuffer(bytes(n.ffi.buffer(buffer, count)), dtype=np.uint8)

    def text(self, begin: int = 0, end: int | None = None, *, special: bool = False) -> str:
        """Text of slots `[begin, end)`; masked ones give nothing. `special`: write special tokens out."""
        begin = n.unsigned(begin, "begin", 63)
        return n.fill_text(n.lib.remask_canvas_text, self._handle, begin, _end(end), int(special))

    def response(self, *, special: bool = False) -> str:
        """Text of everything after the last fixed slot."""
        return n.fill_text(n.lib.remask_canvas_response, self._handle, int(special))


def encode_flags(special: bool, bos: bool) -> int:
    """Bits of `REMASK_ENCODE_*`."""
    flags = n.lib.REMASK_ENCODE_SPECIAL if special else 0
    return int(flags | (n.lib.REMASK_ENCODE_BOS if bos else 0))
