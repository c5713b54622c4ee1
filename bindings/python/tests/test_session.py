"""Canvases, sessions, runs, threads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import remask

START = "Once upon a time Mary met a"


def canvas_of(model: remask.Model, n_masks: int = 8) -> remask.Canvas:
    return model.canvas().append_text(START).append_masks(n_masks)


def test_a_run_gives_a_step_at_a_time_and_its_arrays_are_kept(model: remask.Model) -> None:
    canvas, session = canvas_of(model), model.session()
    steps = list(session.run(canvas))
    assert [step.n_masked for step in steps] == list(range(7, -1, -1))
    for step in steps:
        (slot,) = step.changed
        assert step.slots[slot] == remask.FILLED and step.tokens[slot] != model.info.mask_token
        assert 0 <= step.confidences[0] <= 1
        assert (step.slots == remask.MASKED).sum() == step.n_masked
    assert steps[-1].done and not steps[-2].done
    assert np.array_equal(steps[-1].tokens, canvas.tokens)
    assert canvas.response() == canvas.text(len(canvas) - 8)
    assert session.stats.n_runs == 1 and session.stats.n_steps == 8


def test_a_run_holds_session_and_canvas_until_it_is_dropped(model: remask.Model) -> None:
    canvas, session = canvas_of(model), model.session()
    with session.run(canvas) as run:
        next(run)
        with pytest.raises(remask.BusyError):
            session.logits([1, 2])
        with pytest.raises(remask.BusyError):
            canvas.append_masks(1)
        assert canvas.n_masked == 7
        assert canvas.copy().append_masks(1).n_masked == 8
    assert session.logits([1, 2]).shape == (2, model.info.n_vocab)
    for _step in session.run(canvas):
        break
    assert canvas.append_masks(1).n_masked == 7
    with pytest.raises(remask.InvalidArgumentError, match="no masked slot"):
        session.run(canvas.truncate(3))


def test_a_batch_gives_a_report_for_each_canvas(model: remask.Model) -> None:
    canvases = [canvas_of(model, 4), canvas_of(model, 8)]
    steps = list(model.session().run(canvases, seeds=[1, 2], temperature=0.5))
    assert len(steps) == 8
    assert [[step.i_canvas for step in both] for both in steps] == [[0, 1]] * 8
    assert [step.canvas_done for step in steps[3]] == [True, False]


def test_tokens_can_be_replaced_between_steps(model: remask.Model) -> None:
    canvas = canvas_of(model)
    run = model.session().run(canvas)
    first = next(run)
    mask = model.info.mask_token
    run.replace(np.where(first.slots == remask.FILLED, mask, first.tokens))
    assert canvas.n_masked == 8
    # What was begun has to be done first.
    run.begin_step()
    with pytest.raises(remask.BusyError):
        run.replace(first.tokens)
    assert next(run).n_masked == 7


def test_canvas_edits_do_what_they_say(model: remask.Model) -> None:
    canvas = canvas_of(model, 3)
    n = len(canvas)
    word = model.encode(" crow")
    canvas.forbid([int(model.logits(canvas.tokens, rows=[n - 3])[0].argmax())], n - 3, n - 2)
    model.session().generate(canvas)
    canvas.fix(n - 3, n - 2).mask(n - 2)
    assert canvas.slots[-3:].tolist() == [remask.FIXED, remask.MASKED, remask.MASKED]
    canvas.set(n - 2, word[:1])
    assert canvas.tokens[n - 2] == word[0] and canvas.n_masked == 1
    canvas.truncate(0).append_tokens(word).append_chat([{"role": "user", "content": "hi"}], closed=True)
    assert canvas.text(0, len(word)) == " crow"
    with pytest.raises(remask.InvalidArgumentError):
        canvas.mask(5, 10_000)


def test_threads_share_a_model_and_get_the_same_text(model: remask.Model) -> None:
    expected = model.generate(START, 16).text
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: model.generate(START, 16).text, range(32)))
    assert set(texts) == {expected}


def test_closing_while_others_work_takes_nothing_from_them(path: Path) -> None:
    model = remask.Model(path, threads=1)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                model.generate(START, 8)
        except ValueError as error:
            assert "closed" in str(error)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.2)
    model.close()
    for thread in threads:
        thread.join()
    assert not failures


def test_cancel_from_another_thread_ends_a_run(model: remask.Model) -> None:
    cancel = remask.Cancel()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    with pytest.raises(remask.CancelledError):
        while True:
            model.generate(START, 64, cancel=cancel)
    timer.join()
    assert cancel.is_set
    cancel.reset()
    assert model.generate(START, 2, cancel=cancel).nfe == 2


INTERRUPTED = """
import os, signal, sys, threading, time
import remask
model = remask.Model(sys.argv[1], threads=1)
session, canvas = model.session(), model.canvas().append_text("Once").append_masks(100)
tokens = model.encode("Once upon a time " * 4)
for work in (
    lambda: session.score(tokens, 1, samples=1 << 20),
    lambda: session.generate([model.canvas().append_masks(200) for _ in range(64)]),
    lambda: [None for _ in session.run([canvas] + [model.canvas().append_masks(200) for _ in range(32)])],
):
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        work()
        print("not interrupted")
    except KeyboardInterrupt:
        late = time.monotonic()
    assert session.logits([1, 2]).shape[0] == 2
n_masked = canvas.n_masked
run = session.run(canvas)
first = next(run)
assert first.n_masked == n_masked - 1
canvas.n_masked
for _ in run: pass
print(canvas.n_masked, model.generate("x", 2).nfe)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to oneself")
def test_ctrl_c_ends_native_calls_and_leaves_things_usable(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0 2\n", "")


def test_options_and_params_have_the_same_fields() -> None:
    for params, options in (
        (remask.GenerateParams, remask.GenerateOptions),
        (remask.ScoreParams, remask.ScoreOptions),
    ):
        assert [field.name for field in dataclasses.fields(params)] == list(options.__annotations__)


def test_approximate_rules_reach_the_denoiser(model: remask.Model) -> None:
    exact = model.session().run(model.canvas().append_text("the").append_masks(12))
    steps = sum(1 for _ in exact)
    canvas = model.canvas().append_text("the").append_masks(12)
    fast = sum(1 for _ in model.session().run(canvas, entropy_bound=1e6, cache="dual", cache_type="f16"))
    assert steps == 12 and fast == 1
    with pytest.raises(ValueError, match="speed is 'warp'"):
        model.generate("the", max_tokens=4, speed="warp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contradict"):
        model.generate("the", max_tokens=4, threshold=0.9, entropy_bound=0.1)
