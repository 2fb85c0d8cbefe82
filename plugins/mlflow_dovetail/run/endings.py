"""How a run ends, seen from inside its process: exceptions, signals, exit."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Protocol

from mlflow_dovetail import redact
from mlflow_dovetail.errors import causes, is_interrupt
from mlflow_dovetail.records import RunStatus

SIGTERM_EXIT_CODE = 143
_LONGEST_CAUSE = 500


class Terminated(SystemExit):
    """SIGTERM, as an exception, so that blocks are left in order; the process exits with 143."""

    def __init__(self) -> None:
        super().__init__(SIGTERM_EXIT_CODE)


class Ended(Protocol):
    """What can be told that its process ends."""

    def say_ending(self, error: BaseException | None) -> None:
        """An exception has come to the top."""

    def will_end_by(self, error: BaseException) -> None:
        """An exception is on its way that ends the process, unless somebody says otherwise."""

    def close(self) -> None:
        """The process ends."""


def verdict(error: BaseException | None) -> tuple[RunStatus, str]:
    """The status and the cause that an exception, or none, gives a run; `sys.exit(0)` is no failure."""
    if error is None:
        return "FINISHED", ""
    if is_interrupt(error):
        return "KILLED", "SIGINT"
    if any(type(cause).__name__ in ("Terminated", "SIGTERMException") for cause in causes(error)):
        return "KILLED", "SIGTERM"
    if isinstance(error, SystemExit):
        return ("FINISHED", "") if error.code in (None, 0) else ("FAILED", f"sys.exit({_short(error.code)})")
    return "FAILED", f"exception: {type(error).__name__}: {_short(error)}".rstrip(": ")


def traceback_text(error: BaseException) -> str:
    """The traceback, secrets masked."""
    return redact.mask_text("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _short(what: object) -> str:
    return redact.mask_text(str(what))[:_LONGEST_CAUSE]


class Watch:
    """Hears of the end of this process for all open runs: an exception that nobody catches, SIGTERM, the exit.

    What was installed before goes on working: hooks are chained, and a SIGTERM handler of somebody else is left alone.
    """

    def __init__(self) -> None:
        self._open: list[Ended] = []
        self._hook_before: Callable[..., Any] | None = None

    def add(self, run: Ended) -> None:
        """Watch for a run."""
        if not self._open:
            self._hook_before, sys.excepthook = sys.excepthook, self._on_exception
            atexit.register(self._on_exit)
        self._open.append(run)
        self._take_sigterm()

    def remove(self, run: Ended) -> None:
        """Watch no more; the last one gives the hooks back."""
        if run not in self._open:
            return
        self._open.remove(run)
        if self._open:
            return
        atexit.unregister(self._on_exit)
        if sys.excepthook == self._on_exception:
            sys.excepthook = self._hook_before or sys.__excepthook__
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _take_sigterm(self) -> None:
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def leave_child(self) -> None:
        """In a forked child, which ends nothing but itself, SIGTERM is what it was.

        A pool ends its workers by it, and one that waits for the pool's lock gives a handler in Python no turn.
        """
        with suppress(ValueError):  # not in the main thread
            if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        # While Lightning trains, it calls this after a note to itself, and ends in order after the batch.
        if type(signal.getsignal(signal.SIGTERM)).__name__ != "_HandlersCompose":
            error = Terminated()
            for run in self._open:  # outside a `with` block nobody sees a SystemExit
                run.will_end_by(error)
            raise error

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in reversed(self._open):
            run.say_ending(error)
        (self._hook_before or sys.__excepthook__)(kind, error, trace)

    def _on_exit(self) -> None:
        for run in list(reversed(self._open)):
            run.close()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


WATCH = Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCH.leave_child)
