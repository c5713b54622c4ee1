"""Models: loading them, their vocabulary, and the short way to what they do."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

import numpy as np

from . import _native as n
from ._cancel import Cancel, Interruptible
from ._canvas import Canvas, Messages, encode_flags, native_messages
from ._params import (
    Flash,
    GenerateOptions,
    GenerateParams,
    Pooling,
    ScoreOptions,
    ScoreParams,
    SplitMode,
    Verify,
    constant,
)
from ._session import Choice, Floats, Score, Session, Step
from .errors import NotFoundError

#: Text, or the tokens of it.
Prompt = str | n.Tokens
#: Hears how far a long call is: done and total bytes. What it raises ends the call.
Progress = Callable[[int, int], object]


class BinaryFile(Protocol):
    """What a model can be read from: a file opened in binary mode that can seek."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, n: int = -1, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a model. Tokens that it does not have are `None`."""

    arch: str
    #: Longest canvas that it was trained for, in slots.
    n_ctx: int
    #: Tokens in the vocabulary: columns of the logits.
    n_vocab: int
    #: Size of a token's hidden state.
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int
    #: Weights in all, as a count and in bytes.
    n_params: int
    n_bytes: int
    has_chat_template: bool
    mask_token: int
    bos_token: int | None
    eos_token: int | None
    eot_token: int | None
    pad_token: int | None


@dataclass(frozen=True, eq=False, slots=True)
class Generation:
    """What a model wrote. `str()` of it is its text."""

    #: The response as text; of an infilling the whole text.
    text: str
    #: Its tokens, int32[n].
    tokens: n.Ids
    #: Of an infilling: the text in each hole.
    fills: tuple[str, ...]
    #: Forward passes of one canvas.
    nfe: int
    #: Time in seconds; in a batch, of all of it.
    elapsed_s: float
    #: The canvas, to look at or to go on with.
    canvas: Canvas

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TokenAttr:
    """What a token is for."""

    normal: bool
    unknown: bool
    control: bool
    user_defined: bool
    unused: bool
    byte: bool


class _Callbacks:
    """Python functions that native code calls. What they raise is kept, and raised when the native call has ended."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def progress(self, function: Progress | None) -> Any:
        if function is None:
            return n.ffi.NULL

        def on_progress(done: int, total: int, _user_data: Any) -> int:
            function(done, total)
            return int(n.lib.REMASK_CONTINUE)

        return self._callback("remask_progress_fn", on_progress)

    def read_at(self, file: BinaryFile) -> Any:
        def read_at(offset: int, buffer: Any, size: int, _user_data: Any) -> int:
            file.seek(offset)
            room = memoryview(n.ffi.buffer(buffer, size))
            filled = 0
            while filled < size:
                piece = file.read(size - filled)
                if not piece:
                    raise EOFError(f"the file ends at byte {offset + filled}")
                room[filled : filled + len(piece)] = piece
                filled += len(piece)
            return 0

        return self._callback("remask_read_at_fn", read_at)

    def _callback(self, kind: str, function: Callable[..., int]) -> Any:
        def on_error(_kind: Any, error: BaseException, _trace: Any) -> None:
            self.error = error

        return n.ffi.callback(kind, function, error=n.lib.REMASK_STOP, onerror=on_error)

    @contextmanager
    def raising(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise
        if self.error is not None:
            raise self.error


class Model:
    """A loaded model: weights, tokenizer, chat template. Immutable; any number of threads may use it at once.

    The methods that compute take a `Session` of the model's own, one for each call under way at the same time. Make
    sessions yourself to choose threads per call or to see single steps.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile,
        *,
        device: str | None = None,
        gpu_layers: int = 0,
        split: Sequence[float] = (),
        split_mode: SplitMode = "layers",
        read: bool = False,
        verify: Verify = "first_use",
        tokenizer: str | os.PathLike[str] | None = None,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
        threads: int = 0,
        flash: Flash = "auto",
        max_canvas: int = 0,
    ) -> None:
        """Loads a model.

        source: path of a GGUF file, which is mapped (of a split one the first part); its bytes, which are copied; or
        a binary file that can seek, which is read into memory.
        device: name of the device for the layers, or several with commas between them; "cpu"; `None` for the GPU with
        the most free memory, or the CPU.
        gpu_layers: so many layers on the device, the last ones; 0 for as many as fit.
        split: shares of the layers, one for each of several devices; () divides by free memory.
        split_mode: "layers" gives each device some layers, "tensors" a part of every layer; the latter is for two or
        more GPUs of one kind, and the shares are then of each tensor.
        read: read the file into memory instead of mapping it: safe from later changes of the file.
        verify: when weights are checked to be finite. tokenizer: a tokenizer.json in place of the file's.
        on_progress: hears how many bytes of how many are read; never where the file is mapped and used as it lies.
        cancel, or Ctrl-C, stops the loading.
        threads, flash, max_canvas: of the model's own sessions; see `Session`.

        Raises `IoError`, `FormatError`, `LimitError`, `UnsupportedError`, `ModelError`, `TokenizerError`,
        `ResourceError`, `DeviceError`, `CancelledError`.
        """
        self._options: dict[str, Any] = {"threads": threads, "flash": flash, "max_canvas": max_canvas}
        self._idle: list[Session] = []
        self._model: Any = None
        callbacks = _Callbacks()
        interruptible = Interruptible(cancel)
        params = n.init("remask_load_params")
        params.flags = n.lib.REMASK_LOAD_READ if read else 0
        params.verify = constant("VERIFY", verify)
        params.n_gpu_layers = n.unsigned(gpu_layers, "gpu_layers")
        shares = n.ffi.new("double[]", list(split))
        params.split, params.n_split = shares, len(split)
        params.split_mode = constant("SPLIT", split_mode)
        device_name = n.c_string(device)
        tokenizer_path = n.c_string(None if tokenizer is None else os.fspath(tokenizer))
        progress = callbacks.progress(on_progress)
        params.device, params.tokenizer_path, params.on_progress = device_name, tokenizer_path, progress
        params.cancel = interruptible.handle

        def load(function: Any, *args: Any) -> None:
            with callbacks.raising():
                self._model = n.own("remask_model_free", function, *args, params, caller=interruptible)

        if isinstance(source, (str, os.PathLike)):
            load(n.lib.remask_model_load, *n.utf8(os.fspath(source)))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            data = n.ffi.from_buffer(source)
            load(n.lib.remask_model_load_memory, data, len(data), n.ffi.NULL, n.ffi.NULL)
        else:
            reader = n.init("remask_reader")
            reader.n_bytes = source.seek(0, io.SEEK_END)
            reader.read_at = read_at = callbacks.read_at(source)
            load(n.lib.remask_model_load_reader, reader)
            del read_at
        self.info = self._info()

    @property
    def _handle(self) -> Any:
        handle = self._model
        if handle is None:
            raise ValueError("the model is closed")
        return handle

    def close(self) -> None:
        """Gives the model back. Sessions and canvases made from it stay valid and keep what they need."""
        self._model = None
        self._idle.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _info(self) -> ModelInfo:
        raw = n.init("remask_model_info")
        n.call(n.lib.remask_model_get_info, self._handle, raw)
        counts = ("n_ctx", "n_vocab", "n_embd", "n_layer", "n_head", "n_head_kv", "n_ff", "n_params", "n_bytes")
        tokens = ("bos_token", "eos_token", "eot_token", "pad_token")
        numbers: dict[str, Any] = {name: getattr(raw, name) for name in counts}
        numbers |= {name: None if getattr(raw, name) < 0 else getattr(raw, name) for name in tokens}
        return ModelInfo(
            arch=n.ffi.string(raw.arch).decode(),
            has_chat_template=bool(raw.has_chat_template),
            mask_token=raw.mask_token,
            **numbers,
        )

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata as text: numbers in decimal, arrays as JSON. Made anew each time."""
        handle = self._handle
        keys = [
            n.fill_text(n.lib.remask_model_meta_key, handle, i) for i in range(n.lib.remask_model_meta_count(handle))
        ]
        return {key: n.fill_text(n.lib.remask_model_meta_value, handle, *n.utf8(key)) for key in keys}

    # Vocabulary.

    def encode(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """Tokens of a text. `special`: special tokens that it spells become their ids; for trusted text only.
        `bos`: begin with the begin-of-text token where the model asks for one."""
        flags, room = encode_flags(special, bos), len(text) + 8
        return n.fill_id_list(n.lib.remask_model_encode, self._handle, *n.utf8(text), flags, room=room)

    def decode(self, tokens: n.Tokens, *, special: bool = False) -> str:
        """Text of tokens. Mask tokens give nothing; `special`: write them and other special tokens out."""
        row = n.ids(tokens)
        return n.fill_text(n.lib.remask_model_decode, self._handle, *row, int(special), room=8 * row[1] + 8)

    def decoder(self, *, special: bool = False) -> Decoder:
        """A decoder for tokens that come one by one."""
        return Decoder(self, special=special)

    def token_bytes(self, token: int) -> bytes:
        """Bytes that one token stands for; not always whole UTF-8. Raises `NotFoundError`."""
        return n.fill_bytes(n.lib.remask_model_token_text, self._handle, token)

    def token_attr(self, token: int) -> TokenAttr:
        """What a token is for. Raises `NotFoundError` outside the vocabulary."""
        bits = n.lib.remask_model_token_attr(self._handle, token)
        if bits == 0:
            raise NotFoundError(f"there is no token {token}")
        names = ("normal", "unknown", "control", "user_defined", "unused", "byte")
        return TokenAttr(**{name: bool(bits & constant("TOKEN", name)) for name in names})

    def token_id(self, text: str) -> int | None:
        """Id of the token with this spelling, as the vocabulary writes it; `None` if there is none."""
        token = int(n.lib.remask_model_token_find(self._handle, *n.utf8(text)))
        return None if token < 0 else token

    def render_chat(self, messages: Messages, *, closed: bool = False) -> str:
        """The prompt that the chat template makes of a conversation, to look at. Raises `TemplateError`."""
        array, count, _keep = native_messages(messages)
        return n.fill_text(n.lib.remask_model_render_chat, self._handle, array, count, int(closed))

    def encode_chat(self, messages: Messages, *, closed: bool = False) -> list[int]:
        """The tokens of that prompt. Special tokens that a message spells stay text."""
        array, count, _keep = native_messages(messages)
        return n.fill_id_list(n.lib.remask_model_encode_chat, self._handle, array, count, int(closed))

    # Work.

    def canvas(self) -> Canvas:
        """An empty canvas."""
        return Canvas(self)

    def session(self, *, threads: int | None = None, flash: Flash | None = None, max_canvas: int | None = None) -> Session:
        """A session; what is `None` is as the model was loaded with."""
        given = {"threads": threads, "flash": flash, "max_canvas": max_canvas}
        return Session(self, **{**self._options, **{k: v for k, v in given.items() if v is not None}})

    @contextmanager
    def _session(self) -> Iterator[Session]:
        handle = self._handle
        try:
            session = self._idle.pop()
        except IndexError:
            session = self.session()
        yield session
        # After an error its state is the library's concern; it is not worth keeping.
        if self._model is handle:
            self._idle.append(session)

    def _prompt(self, prompt: Prompt) -> list[int]:
        return self.encode(prompt, bos=True) if isinstance(prompt, str) else [int(token) for token in prompt]

    def generate(
        self,
        prompt: Prompt,
        max_tokens: int = 128,
        *,
        params: GenerateParams | None = None,
        on_step: Callable[[Step], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Goes on from a prompt, as it is: no chat template.

        max_tokens: slots of the response. on_step: called after each step; what it raises ends the run. `options`
        are fields of `GenerateParams`, over `params`: `steps=32, temperature=0.8, seed=1`. Ctrl-C ends the run.
        """
        canvas = self.canvas().append_tokens(self._prompt(prompt)).append_masks(max_tokens)
        return self._fill([canvas], params, on_step, options)[0]

    def generate_many(
        self,
        prompts: Sequence[Prompt],
        max_tokens: int = 128,
        *,
        params: GenerateParams | None = None,
        on_step: Callable[[Step], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Generation]:
        """`generate` for several prompts in one batch. On the CPU each comes out as it would alone."""
        canvases = [self.canvas().append_tokens(self._prompt(prompt)).append_masks(max_tokens) for prompt in prompts]
        return self._fill(canvases, params, on_step, options) if canvases else []

    def chat(
        self,
        messages: str | Messages,
        max_tokens: int = 128,
        *,
        params: GenerateParams | None = None,
        on_step: Callable[[Step], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Answers a conversation, `[{"role": "user", "content": "..."}]`, or a text as its one user message, through
        the model's chat template. The rest as in `generate`. Raises `TemplateError`."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        canvas = self.canvas().append_chat(messages).append_masks(max_tokens)
        return self._fill([canvas], params, on_step, options)[0]

    def infill(
        self,
        text: str,
        *,
        params: GenerateParams | None = None,
        on_step: Callable[[Step], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Fills the holes of a text: `"The [[4]] sat on the [[3]]."` has 4 and 3 slots to fill; `[[[[` stands for a
        literal `[[`. The rest as in `generate`."""
        canvas = self.canvas().append_holes(text, bos=True)
        masked = np.flatnonzero(canvas.slots == n.lib.REMASK_SLOT_MASKED)
        holes = [run for run in np.split(masked, np.flatnonzero(np.diff(masked) > 1) + 1) if run.size]
        filled = self._fill([canvas], params, on_step, options)[0]
        fills = tuple(canvas.text(int(hole[0]), int(hole[-1]) + 1) for hole in holes)
        return Generation(canvas.text(), canvas.tokens, fills, filled.nfe, filled.elapsed_s, canvas)

    def _fill(
        self,
        canvases: list[Canvas],
        params: GenerateParams | None,
        on_step: Callable[[Step], object] | None,
        options: GenerateOptions,
    ) -> list[Generation]:
        begins = [int(np.flatnonzero(canvas.slots == n.lib.REMASK_SLOT_FIXED).max(initial=-1)) + 1 for canvas in canvases]
        with self._session() as session:
            steps = session.generate(canvases, params, on_step=on_step, **options)
        return [
            Generation(canvas.text(begin), canvas.tokens[begin:], (), step.nfe, step.elapsed_s, canvas)
            for canvas, begin, step in zip(canvases, begins, steps, strict=True)
        ]

    def score(
        self, prompt: Prompt, response: Prompt, params: ScoreParams | None = None, **options: Unpack[ScoreOptions]
    ) -> Score:
        """Estimates the log-likelihood of a response to a prompt, in nats. `options` are fields of `ScoreParams`."""
        head, tail = self._prompt(prompt), self._continuation(response)
        with self._session() as session:
            return session.score(head + tail, len(head), None, params, **options)

    def choose(
        self, prompt: Prompt, choices: Sequence[Prompt], params: ScoreParams | None = None, **options: Unpack[ScoreOptions]
    ) -> Choice:
        """Which of several continuations is the likeliest. `options` are fields of `ScoreParams`."""
        rows = [self._continuation(choice) for choice in choices]
        with self._session() as session:
            return session.choose(self._prompt(prompt), rows, params, **options)

    def _continuation(self, text: Prompt) -> list[int]:
        return self.encode(text) if isinstance(text, str) else [int(token) for token in text]

    def logits(self, prompt: Prompt, rows: Sequence[int] | None = None) -> Floats:
        """As `Session.logits`: float32[n_rows, n_vocab]."""
        with self._session() as session:
            return session.logits(self._prompt(prompt), rows)

    def embed(self, prompt: Prompt, pooling: Pooling = "mean") -> Floats:
        """As `Session.embeddings`: float32[n_embd], or float32[n_tokens, n_embd] for "none"."""
        with self._session() as session:
            return session.embeddings(self._prompt(prompt), pooling)


class Decoder:
    """Turns tokens into text as they come; bytes of a character that is not whole yet are held back."""

    def __init__(self, model: Model, *, special: bool = False) -> None:
        """It keeps what it needs of the model. `special`: write special tokens out."""
        self._handle = n.own("remask_decoder_free", n.lib.remask_decoder_new, model._handle, int(special))

    def push(self, tokens: n.Tokens) -> str:
        """The text that `tokens` add, as far as it is certain."""
        return n.fill_text(n.lib.remask_decoder_push, self._handle, *n.ids(tokens))

    def finish(self) -> str:
        """What is still held back; U+FFFD for a character that never became whole. The decoder is then as new."""
        return n.fill_text(n.lib.remask_decoder_finish, self._handle)
