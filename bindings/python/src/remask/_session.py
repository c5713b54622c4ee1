"""Streams of work on a model, and the runs in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from . import _native as n
from ._cancel import Interruptible
from ._canvas import Canvas, Slots
from ._params import (
    Flash,
    GenerateOptions,
    GenerateParams,
    Pooling,
    ScoreOptions,
    ScoreParams,
    constant,
    merged,
    native_generate,
    native_score,
)
from .errors import BusyError

if TYPE_CHECKING:
    from ._model import Model

Floats = npt.NDArray[np.float32]

_CHANGE = np.dtype([("slot", "<u4"), ("token", "<i4"), ("confidence", "<f4"), ("reserved", "<u4")])


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """What one step did to one canvas. Its arrays are its own: they may be kept."""

    #: Which of the run's canvases this is about, from 0.
    i_canvas: int
    #: All canvases are finished.
    done: bool
    #: This canvas is finished.
    canvas_done: bool
    #: An end token or stop text has settled where this response ends.
    ended: bool
    #: Steps of the plan that are behind this canvas, this one counted.
    i_step: int
    #: Steps of the plan.
    n_steps: int
    #: First slot of the block at work.
    block_begin: int
    #: End of that block.
    block_end: int
    #: Slots still masked.
    n_masked: int
    #: Slots that hold the prompt and the response: all, or fewer where `ended`.
    end: int
    #: Forward passes of one canvas so far, over all canvases.
    nfe: int
    #: Time of this step in seconds, over all canvases.
    step_s: float
    #: Time of all steps so far, in seconds.
    elapsed_s: float
    #: Slots that this step filled, the surest first; int64[n_changed], to index `tokens` with.
    changed: npt.NDArray[np.int64]
    #: What each of them was ranked by, float32[n_changed]: a probability for "low_confidence".
    confidences: Floats
    #: Token of every slot, int32[n_slots].
    tokens: n.Ids
    #: State of every slot (`remask.FIXED`, `MASKED`, `FILLED`), uint8[n_slots].
    slots: Slots


def _array(pointer: Any, count: int, kind: Any) -> npt.NDArray[Any]:
    # A copy: the run's memory changes with its next step and goes with the run.
    size = count * np.dtype(kind).itemsize
    return np.frombuffer(bytes(n.ffi.buffer(pointer, size)) if count else b"", dtype=kind)


def _step(raw: Any) -> Step:
    changes = _array(raw.changed, raw.n_changed, _CHANGE)
    return Step(
        i_canvas=raw.i_canvas,
        done=bool(raw.done),
        canvas_done=bool(raw.canvas_done),
        ended=bool(raw.ended),
        i_step=raw.i_step,
        n_steps=raw.n_steps,
        block_begin=raw.block_begin,
        block_end=raw.block_end,
        n_masked=raw.n_masked,
        end=raw.end,
        nfe=raw.nfe,
        step_s=raw.step_us / 1e6,
        elapsed_s=raw.elapsed_us / 1e6,
        changed=changes["slot"].astype(np.int64),
        confidences=changes["confidence"].copy(),
        tokens=_array(raw.tokens, raw.n_slots, np.int32),
        slots=_array(raw.slots, raw.n_slots, np.uint8),
    )


T = TypeVar("T", Step, list[Step])


class Run(Generic[T]):
    """A generation under way: an iterator of its steps.

    Holds its session and canvases until it is exhausted, closed or dropped. `KeyboardInterrupt` ends the step at
    work and leaves the run as it was before it: iterate on, or close it.
    """

    def __init__(self, session: Session, canvases: Sequence[Canvas], params: GenerateParams, single: bool) -> None:
        self._interruptible = Interruptible(params.cancel)
        struct, _keep = native_generate(params, self._interruptible.handle)
        handles = n.ffi.new("remask_canvas *[]", [canvas._handle for canvas in canvases])
        new = n.lib.remask_run_new
        self._run = n.own("remask_run_free", new, session._live(), handles, len(canvases), struct)
        self._n_canvases = len(canvases)
        self._single = single
        self._done = self._report(self._run, 0).done
        self._lock = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        # The arrays of a report live until the next step: one thread at a time from step to copy.
        with self._exclusive():
            run = self._run
            if self._done or run is None:
                # Exhausted: the session and the canvases are free for others.
                self._run = None
                raise StopIteration
            raw = n.init("remask_step")
            self._interruptible(n.lib.remask_run_step, run, raw)
            steps: Any = _step(raw) if self._single else [self._report(run, i) for i in range(self._n_canvases)]
            self._done = bool(raw.done)
            return steps  # type: ignore[no-any-return]

    def _report(self, run: Any, i_canvas: int) -> Step:
        raw = n.init("remask_step")
        n.call(n.lib.remask_run_report, run, i_canvas, raw)
        return _step(raw)

    def _finish(self) -> list[Step]:
        """All steps at once; the last reports."""
        with self._exclusive():
            run, raw = self._run, n.init("remask_step")
            if run is None:
                raise ValueError("the run is closed")

            def step_until_done(run: Any, error: Any) -> int:
                while not self._done:
                    status = n.lib.remask_run_step(run, raw, error)
                    if status != n.lib.REMASK_STATUS_OK:
                        return int(status)
                    self._done = bool(raw.done)
                return 0

            self._interruptible(step_until_done, run)
            steps = [self._report(run, i) for i in range(self._n_canvases)]
            self._run = None
            return steps

    def begin_step(self) -> None:
        """Starts what the next step computes, where GPUs compute all of it, and returns at once: for when there is
        something else to do between two steps. Until that step `replace` raises `BusyError`. On a CPU nothing is
        done ahead."""
        with self._exclusive():
            if self._run is None:
                raise ValueError("the run is closed")
            n.call(n.lib.remask_run_begin_step, self._run)

    def replace(self, tokens: n.Tokens, i_canvas: int = 0) -> None:
        """Puts `tokens` (as many as the canvas has slots) on a canvas between two steps, as if the steps so far had
        led there: masked where they are the mask token. Fixed slots keep what they hold."""
        with self._exclusive():
            if self._run is None:
                raise ValueError("the run is closed")
            n.call(n.lib.remask_run_replace, self._run, i_canvas, *n.ids(tokens))

    def _exclusive(self) -> _Exclusive:
        return _Exclusive(self._lock, "run")

    def close(self) -> None:
        """Releases the session and the canvases, which keep what was filled."""
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Exclusive:
    def __init__(self, lock: threading.Lock, what: str) -> None:
        self._lock, self._what = lock, what

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise BusyError(f"the {self._what} is at work in another thread")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@dataclass(frozen=True, slots=True)
class Score:
    """A log-likelihood."""

    #: Of all tokens scored together, in nats.
    log_likelihood: float
    #: Standard error of the estimate, in nats; 0 for an exact method, NaN for a single minibatch.
    standard_error: float
    #: Tokens scored.
    n_tokens: int
    #: Forward passes.
    nfe: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The likeliest of several continuations."""

    #: Its index.
    best: int
    #: Log-likelihood of each, in nats.
    log_likelihoods: tuple[float, ...]
    #: Their softmax.
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session has done since it was made."""

    #: Threads in use on the CPU.
    n_threads: int
    #: Bytes of memory that it computes in; 0 before its first run.
    n_bytes: int
    #: Runs begun.
    n_runs: int
    #: Steps done in them.
    n_steps: int
    #: Forward passes of one canvas, in runs, scores, logits and embeddings.
    nfe: int
    #: Time spent in them, in seconds.
    elapsed_s: float


class Session:
    """One stream of work on a model: threads, compute buffers, graphs.

    Any thread may use it, one at a time: a colliding call raises `BusyError`. For more at once make more sessions;
    the model's weights are shared. Native calls leave the GIL free.
    """

    def __init__(self, model: Model, *, threads: int = 0, flash: Flash = "auto", max_canvas: int = 0) -> None:
        """A session on `model`, which it keeps alive.

        threads: on the CPU; 0 for one per physical core. flash: flash attention; "auto" for canvases of 1024 slots
        or more. max_canvas: longest canvas in slots; 0 for the length that the model was trained for.
        """
        params = n.init("remask_session_params")
        params.n_threads = n.unsigned(threads, "threads")
        params.flash = constant("FLASH", flash)
        params.max_canvas = n.unsigned(max_canvas, "max_canvas")
        self._handle = n.own("remask_session_free", n.lib.remask_session_new, model._handle, params)
        self._model = model

    def _live(self) -> Any:
        handle = self._handle
        if handle is None:
            raise ValueError("the session is closed")
        return handle

    def close(self) -> None:
        """Gives it back. A run on it stays valid."""
        self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def model(self) -> Model:
        """The model that it works on."""
        return self._model

    @property
    def stats(self) -> SessionStats:
        """What it has done so far."""
        raw = n.init("remask_session_stats")
        n.call(n.lib.remask_session_get_stats, self._live(), raw)
        return SessionStats(raw.n_threads, raw.n_bytes, raw.n_runs, raw.n_steps, raw.nfe, raw.elapsed_us / 1e6)

    @overload
    def run(
        self, canvas: Canvas, params: GenerateParams | None = None, **options: Unpack[GenerateOptions]
    ) -> Run[Step]: ...
    @overload
    def run(
        self, canvas: Sequence[Canvas], params: GenerateParams | None = None, **options: Unpack[GenerateOptions]
    ) -> Run[list[Step]]: ...
    def run(
        self,
        canvas: Canvas | Sequence[Canvas],
        params: GenerateParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Run[Step] | Run[list[Step]]:
        """Starts a run that fills the masked slots: iterate over it for its steps.

        With a list of canvases a step works on all of them (on the CPU each comes out as it would alone), and the iterator gives
        a list with one `Step` each. `options` are fields of `GenerateParams`, over `params`. Raises `BusyError`
        while another run or call uses the session or a canvas.
        """
        chosen = merged(params, options)
        if isinstance(canvas, Canvas):
            return Run[Step](self, [canvas], chosen, single=True)
        return Run[list[Step]](self, canvas, chosen, single=False)

    def generate(
        self,
        canvas: Canvas | Sequence[Canvas],
        params: GenerateParams | None = None,
        *,
        on_step: Callable[[Step], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Step]:
        """Fills every masked slot; returns the last report of each canvas.

        on_step: called after each step with the report of each canvas it worked on, in this thread; what it raises
        ends the run. `options` are fields of `GenerateParams`, over `params`.
        """
        canvases = [canvas] if isinstance(canvas, Canvas) else list(canvas)
        with Run[list[Step]](self, canvases, merged(params, options), single=False) as run:
            if on_step is None:
                return run._finish()
            finished: set[int] = set()
            for steps in run:
                for step in steps:
                    if step.i_canvas not in finished:
                        on_step(step)
                    if step.canvas_done:
                        finished.add(step.i_canvas)
                if steps[0].done:
                    return steps
            return run._finish()

    def score(
        self,
        tokens: n.Tokens,
        begin: int,
        end: int | None = None,
        params: ScoreParams | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Score:
        """Estimates the log-likelihood of tokens `[begin, end)`, given all others. `None` is the end."""
        chosen = _merged_score(params, options)
        interruptible = Interruptible(chosen.cancel)
        raw = n.init("remask_score")
        stop = n.SIZE_MAX if end is None else n.unsigned(end, "end", 63)
        row = n.ids(tokens)
        begin = n.unsigned(begin, "begin", 63)
        native = native_score(chosen, interruptible.handle)
        interruptible(n.lib.remask_session_score, self._live(), *row, begin, stop, native, raw)
        return Score(raw.log_likelihood, raw.standard_error, raw.n_tokens, raw.nfe)

    def choose(
        self,
        prompt: n.Tokens,
        choices: Sequence[n.Tokens],
        params: ScoreParams | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Choice:
        """Scores each of several continuations of one prompt, with the same masks where they are drawn."""
        chosen = _merged_score(params, options)
        interruptible = Interruptible(chosen.cancel)
        rows = [n.ids(choice) for choice in choices]
        native = n.ffi.new("remask_tokens[]", len(rows))
        for i, row in enumerate(rows):
            native[i].data, native[i].len = row
        likelihoods, probabilities = n.ffi.new("double[]", len(rows)), n.ffi.new("double[]", len(rows))
        best = n.ffi.new("size_t *")
        interruptible(
            n.lib.remask_session_choose,
            self._live(),
            *n.ids(prompt),
            native,
            len(rows),
            native_score(chosen, interruptible.handle),
            likelihoods,
            probabilities,
            best,
        )
        return Choice(best[0], tuple(likelihoods), tuple(probabilities))

    def logits(self, tokens: n.Tokens, rows: Sequence[int] | None = None) -> Floats:
        """Runs the network once on `tokens`, mask tokens included.

        Returns the raw logits of the slots in `rows`, or of all: float32[n_rows, n_vocab].
        """
        row = n.ids(tokens)
        wanted = None if rows is None else np.array([n.unsigned(i, "a row") for i in rows], dtype=np.uint32)
        out = np.empty((row[1] if wanted is None else wanted.size, self._model.info.n_vocab), dtype=np.float32)
        native = (n.ffi.NULL, 0) if wanted is None else (n.ffi.from_buffer("uint32_t[]", wanted), wanted.size)
        if wanted is not None and wanted.size == 0:
            return out
        self._into(out, n.lib.remask_session_logits, *row, *native)
        return out

    def embeddings(self, tokens: n.Tokens, pooling: Pooling = "mean") -> Floats:
        """Runs the network once on `tokens`.

        Returns the hidden state after the final norm: float32[n_tokens, n_embd], or float32[n_embd] where it is
        pooled ("mean": over the slots; "last": that of the last slot).
        """
        row = n.ids(tokens)
        width = self._model.info.n_embd
        out = np.empty((row[1], width) if pooling == "none" else (width,), dtype=np.float32)
        self._into(out, n.lib.remask_session_embeddings, *row, constant("POOLING", pooling))
        return out

    def _into(self, out: Floats, function: Any, *args: Any) -> None:
        needed = n.ffi.new("size_t *")
        n.call(function, self._live(), *args, n.ffi.from_buffer("float[]", out), out.size, needed)
        if needed[0] != out.size:
            raise RuntimeError(f"the library gave {needed[0]} numbers for {out.size}")


def _merged_score(params: ScoreParams | None, options: ScoreOptions) -> ScoreParams:
    base = params or ScoreParams()
    given = {name: getattr(base, name) for name in ScoreParams.__dataclass_fields__}
    return ScoreParams(**{**given, **options})
