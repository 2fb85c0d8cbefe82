"""A copy of what a process prints, appended to a file, while its streams behave as before.

The `write` of the stream object itself is wrapped, not `sys.stdout` replaced: logging handlers, progress bars and
whoever else took hold of the object earlier are heard too. Not heard: bytes put into `sys.stdout.buffer`, and what
native code or a child process writes to descriptors 1 and 2.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Descriptors are given out lowest first. If a daemon's start closes ours, no file of the user's will soon bear its
# number, and what is printed then cannot end up inside that file.
_LEAST_DESCRIPTOR = 200


class ConsoleTee:
    """Appends what goes through `sys.stdout` and `sys.stderr` to a file, as UTF-8, one `os.write` a call of `write`.

    Nothing here raises into a print: a fault in the copying (no such folder, disk full) is counted and the user's
    stream goes on. Any number of tees may listen at once, and may stop in any order. Safe with threads; a forked
    child goes on writing to the same file, each write whole and at its end.

    Args:
        path: The file; made when absent, appended to otherwise. Its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: dict[str, int] = {}
        """How often each fault occurred, by the operating system's words for it; empty while all went well."""
        self._descriptor = -1
        self._taps: list[_Tap] = []

    def start(self) -> None:
        """Listen to the objects that `sys.stdout` and `sys.stderr` are now; without effect when listening already."""
        if self._taps:
            return
        try:
            self._descriptor = _open_to_append(self.path)
        except OSError as error:
            self._count(error)
            return
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is not None:  # None under pythonw
                self._listen(name)

    def stop(self) -> None:
        """Give the streams their own `write` back; where somebody has wrapped it since, only listen no more."""
        for tap in self._taps:
            tap.remove(self)
        self._taps = []
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError as error:
                self._count(error)

    def __enter__(self) -> ConsoleTee:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def append(self, text: object) -> None:
        """Copy one written text; what is no text is the stream's to refuse."""
        if not isinstance(text, str) or not text:
            return
        try:
            data = str.encode(text, "utf-8", "backslashreplace")
            if os.write(self._descriptor, data) < len(data):
                self._count("written in part")
        except (OSError, ValueError, MemoryError) as error:
            self._count(error)

    def _listen(self, name: str) -> None:
        tap = _find_tap(getattr(sys, name)) or _Tap(name)
        if self not in tap.tees:  # standard error may be the same object as standard output
            tap.tees = (*tap.tees, self)
            self._taps.append(tap)

    def _count(self, fault: Exception | str) -> None:
        cause = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        self.faults[cause] = self.faults.get(cause, 0) + 1


class _Thread(threading.local):
    hearing: tuple[ConsoleTee, ...] = ()
    """Tees that have this thread's present text already: one stream may print through the other."""


_thread = _Thread()


class _Tap:
    """What stands in the place of a stream's `write` while tees listen; with none it only passes on."""

    def __init__(self, name: str) -> None:
        self.tees: tuple[ConsoleTee, ...] = ()
        self._name = name
        self._stream = getattr(sys, name)
        self._below = self._stream.write
        self._was_own = "write" in _attributes(self._stream)
        try:
            self._stream.write = self
        except (AttributeError, TypeError):  # a class with slots
            setattr(sys, name, _Proxy(self._stream, self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hearing = _thread.hearing
        tees = tuple(tee for tee in self.tees if tee not in hearing)
        if not tees:
            return self._below(*args, **kwargs)
        # Before the stream, so that what is printed when a terminal has gone away is kept.
        for tee in tees:
            tee.append(args[0] if args else None)
        _thread.hearing = hearing + tees
        try:
            return self._below(*args, **kwargs)
        finally:
            _thread.hearing = hearing

    def remove(self, tee: ConsoleTee) -> None:
        self.tees = tuple(other for other in self.tees if other is not tee)
        if not self.tees:
            self._restore()

    def _restore(self) -> None:
        proxy = getattr(sys, self._name)
        if isinstance(proxy, _Proxy) and proxy.write is self:
            setattr(sys, self._name, self._stream)
        elif _attributes(self._stream).get("write") is self:
            if self._was_own:
                self._stream.write = self._below
            else:
                del self._stream.write


class _Proxy:
    """Stands for a stream whose object takes no attributes."""

    def __init__(self, stream: Any, write: _Tap) -> None:
        self._stream = stream
        self.write = write

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _find_tap(stream: object) -> _Tap | None:
    tap = _attributes(stream).get("write")
    return tap if isinstance(tap, _Tap) else None


def _attributes(stream: object) -> dict[str, Any]:
    return getattr(stream, "__dict__", {})


def _open_to_append(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        import fcntl
    except ImportError:  # Windows
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LEAST_DESCRIPTOR)
    except OSError:  # the limit of open files is lower
        return os.dup(descriptor)
    finally:
        os.close(descriptor)
