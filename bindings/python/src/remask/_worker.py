"""Ctrl-C during a native call.

Python runs signal handlers in the main thread between two of its own instructions, so a call that takes minutes
would hold `KeyboardInterrupt` back for minutes. Calls that can be cancelled therefore run in a helper thread when the
main thread makes them; it waits, and when the wait is interrupted it sets the call's cancel token, lets the call end
and raises what came. Other threads are never interrupted and call directly.

The helper is one daemon thread per process, made at the first such call; it takes nothing while idle.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any


class _Task:
    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        # Who has it: the helper, or the caller who takes it back. `setdefault` is atomic, and repeating it is harmless.
        self._owner: dict[str, str] = {}
        self._ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        if self._owner.setdefault("is", "helper") != "helper":
            return
        try:
            self._work()
        except BaseException as error:  # raised again where it was asked for
            self.error = error
        self._ended.set()

    def wait(self) -> None:
        # With a timeout, since Windows does not interrupt a wait.
        while not self._ended.wait(timeout=0.2):
            pass
        # An error knows its frames, which know this task: taken apart, or both outlive the call, and what it used.
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def abandon(self, cancel: Callable[[], None]) -> None:
        """Ends the task, begun or not. More interrupts meanwhile change nothing."""
        while True:
            try:
                cancel()
                if self._owner.setdefault("is", "caller") == "helper":
                    self._ended.wait()
                return
            except KeyboardInterrupt:
                continue


_tasks: queue.SimpleQueue[_Task] | None = None


def _forget() -> None:
    global _tasks
    _tasks = None  # the thread is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve(tasks: queue.SimpleQueue[_Task]) -> None:
    while True:
        tasks.get().run()


def _submit(task: _Task) -> None:
    global _tasks
    if _tasks is None:
        tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(tasks,), name="remask", daemon=True).start()
        _tasks = tasks
    _tasks.put(task)


def interruptible(work: Callable[[], None], cancel: Callable[[], Any], reset: Callable[[], Any]) -> None:
    """Runs `work`; when an interrupt comes, calls `cancel`, waits for the end, calls `reset` and raises it."""
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    task = _Task(work)
    try:
        _submit(task)
        task.wait()
    except BaseException:
        # Ours, or the wait's. A task that ended by itself is not cancelled late.
        if not task.ended:
            task.abandon(cancel)
            reset()
        task.error = None
        raise
