"""Appending to the journal from the training thread: one `write()` an entry, nothing to wait for."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from zlib import crc32

from mlflow_dovetail import names
from mlflow_dovetail.errors import Degraded
from mlflow_dovetail.journal.entries import AttemptKind, Close, End, Entry, Start, Trouble, encode
from mlflow_dovetail.run_folder import RunFolder, frame
from mlflow_dovetail.run_folder.framing import HEADER, LONGEST_PAYLOAD, MARKER

log = logging.getLogger(__name__)

_HELD_BYTES = 64 << 20
_TRY_AGAIN_MS = 1000
_NO_ROOM = "values that the disk had no room for are lost"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else None
_pack = HEADER.pack


def clock_ms() -> int:
    """Milliseconds since the epoch, UTC, never set back: the wall's clock at import, and what has passed since."""
    return _ORIGIN_MS + _elapsed_ms()


def _elapsed_ms() -> int:
    return (time.clock_gettime_ns(_CLOCK) if _CLOCK is not None else time.monotonic_ns()) // 1_000_000


_ORIGIN_MS = time.time_ns() // 1_000_000 - _elapsed_ms()


class JournalWriter:
    """Appends entries to a segment of its own.

    An entry is in the operating system's hands when a method returns: the death of this process does not lose it. What
    cannot be written (a full disk) never raises: it is held in memory, up to 64 MiB, written as soon as there is room,
    and counted. Safe to use from several threads, and in a forked child, which appends to the same segment.

    Args:
        folder: Of the run.
        kind: What this writer is to the run.
        attempt: Which training of the run it belongs to, from 1.
    """

    def __init__(self, folder: RunFolder, kind: AttemptKind, attempt: int) -> None:
        self.folder = folder
        self.kind = kind
        self.attempt = attempt
        self.number = folder.new_segment()
        self._descriptor = os.open(folder.segment(self.number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._pid = os.getpid()
        self._last = (0, 0)
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._holder = self._pid
        self._end = b""
        self._next_try_ms = 0
        self._told: set[str] = set()
        self.append(Start(clock_ms(), kind, attempt))

    def metrics(self, values: Mapping[str, float], step: int) -> int:
        """Append the values of one step; they must be floats.

        Returns:
            The time that was given to them. Two entries of one step never have the same: a store that knows a point by
            key, step, time and value would take them for one.
        """
        now = clock_ms()
        last_ms, last_step = self._last
        if step == last_step and now <= last_ms:
            now = last_ms + 1
        self._last = (now, step)
        payload = encode(("m", now, step, values))
        record = _pack(MARKER, len(payload), crc32(payload)) + payload
        if self._held:
            self._hold(record, None)
            return now
        try:
            if os.write(self._descriptor, record) != len(record):
                self._hold(record, "the disk is full")
        except OSError as error:
            self._hold(record, error.strerror or str(error))
        return now

    def append(self, entry: Entry) -> None:
        """Append an entry of any other kind."""
        payload = encode(entry)
        if len(payload) > LONGEST_PAYLOAD:
            self.trouble("what is longer than 64 MiB is not kept", "Log it as an artifact.")
            return
        record = frame(payload)
        if isinstance(entry, End):
            self._end = record
        if self._held:
            self._hold(record, None)
        elif cause := self._write(record):
            self._hold(record, cause)

    def trouble(self, cause: str, advice: str = "") -> None:
        """Count something that could not be recorded; warn the first time.

        Raises:
            Degraded: Only under `DOVETAIL_STRICT=1`.
        """
        self.append(Trouble(clock_ms(), cause, 1))
        self._tell(cause, advice)

    def close(self) -> None:
        """Write what is held, if it can be, and say that no more will come. Only the process that began writes that."""
        if self._descriptor < 0:
            return
        if os.getpid() == self._pid:
            with self._holding():
                self._write_held()
                if self._held:
                    self._write_last_words()
            self.append(Close(clock_ms()))
        os.close(self._descriptor)
        self._descriptor = -1

    def sync(self) -> None:
        """Have what is written on the disk, against a power cut."""
        os.fsync(self._descriptor)

    @property
    def is_closed(self) -> bool:
        return self._descriptor < 0

    def _write(self, record: bytes) -> str:
        """Write a whole record; the cause when that cannot be done. A reader steps over the torn half of one."""
        try:
            return "" if os.write(self._descriptor, record) == len(record) else "the disk is full"
        except OSError as error:
            return error.strerror or str(error)

    def _hold(self, record: bytes, cause: str | None) -> None:
        """Keep a record for later: `cause` says why it could not be written; None that others wait already."""
        if self.is_closed:
            self._tell("values were logged after the run had been closed", "Log them before that.")
            return
        with self._holding():
            if not cause and _elapsed_ms() >= self._next_try_ms:
                self._write_held()
                cause = None if self._held else self._write(record)
                if cause == "":
                    return
            told = f"journal not written at once: {cause}" if cause else ""
            if told and told not in self._told:
                self._queue(frame(encode(Trouble(clock_ms(), told, 1))))
            if self._held_bytes + len(record) <= _HELD_BYTES:
                self._queue(record)
            else:
                self._lost += 1
                told = "more than 64 MiB wait for room, and later values are lost"
            if cause:
                self._next_try_ms = _elapsed_ms() + _TRY_AGAIN_MS
        if told:
            self._tell(told, f"Make room where {self.folder.path} lies.")

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Be the only thread that touches what is held. A forked child leaves its parent's records to the parent."""
        if self._holder != os.getpid():
            self._holder, self._lock = os.getpid(), threading.Lock()
            self._held.clear()
            self._held_bytes = self._lost = 0
        with self._lock:
            yield

    def _queue(self, record: bytes) -> None:
        self._held.append(record)
        self._held_bytes += len(record)

    def _write_last_words(self) -> None:
        """Where there is no room to the end: say that, and how the run ended, in the room that was kept for it."""
        self.folder.reserve.unlink(missing_ok=True)
        for record in (frame(encode(Trouble(clock_ms(), _NO_ROOM, self._lost + len(self._held)))), self._end):
            if record:
                self._write(record)
        self._held.clear()
        self._held_bytes = self._lost = 0

    def _write_held(self) -> None:
        while self._held:
            cause = self._write(self._held[0])
            if cause:
                self._next_try_ms = _elapsed_ms() + _TRY_AGAIN_MS
                return
            self._held_bytes -= len(self._held.popleft())
        if self._lost and not self._write(frame(encode(Trouble(clock_ms(), _NO_ROOM, self._lost)))):
            self._lost = 0

    def _tell(self, cause: str, advice: str) -> None:
        message = f"Not everything of this run is recorded: {cause}. {advice}".rstrip()
        if os.environ.get(names.ENV_STRICT) == "1":
            raise Degraded(
                "Not everything of this run is recorded.", f"{cause}.", advice or f"Unset {names.ENV_STRICT} to go on."
            )
        if cause not in self._told:
            self._told.add(cause)
            log.warning(message)  # not a warning: where those are errors, it would stop the training
