"""Asking a source each second and handing its windows on, in a thread of its own: one that hangs holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlflow_dovetail.system_metrics.records import Reading, Source
from mlflow_dovetail.system_metrics.windows import Window, next_due

POLL_SECONDS = 1.0


class Sampling:
    """Samples one source from now on: a first window at once, one each 5 s (longer in long runs), one at the end.

    Where there is nothing to read at first, as on a GPU that is not yet known to be the run's, another window ends with
    the first values.

    Args:
        source: Asked by this thread alone.
        emit: Called by it with the values of each window, also when there are none.
        failed: Called with whatever the source or `emit` raises; the sampling goes on.
        before_last: Called before the last window.
    """

    def __init__(
        self,
        source: Source,
        emit: Callable[[Reading], None],
        failed: Callable[[Exception], None],
        before_last: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._emit = emit
        self._failed = failed
        self._before_last = before_last
        self._window: Window | None = None
        self._has_begun = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"dovetail-{source.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the last window; `join` waits for it."""
        self._is_over.set()

    def join(self, seconds: float) -> bool:
        """Wait for the last window so long at most; whether it is there. A call of a driver may hang for ever."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        started = due = time.monotonic()
        while True:
            is_over = self._is_over.is_set()
            now = time.monotonic()
            try:
                if is_over:
                    self._before_last()
                self._poll(closes=is_over or now >= due)
            except Exception as error:  # noqa: BLE001 - a source raises nothing it knows of; another window may do
                self._failed(error)
            if is_over:
                return
            if now >= due:
                due = next_due(started, due, now)
            self._is_over.wait(max(min(now + POLL_SECONDS, due) - time.monotonic(), 0))

    def _poll(self, *, closes: bool) -> None:
        reading = self._source.poll()
        self._window = self._window or Window(self._source.maxima)
        self._window.add(reading)
        if closes or (reading and not self._has_begun):
            values = self._window.close(self._source.close_window())
            self._has_begun = self._has_begun or bool(values)
            self._emit(values)
