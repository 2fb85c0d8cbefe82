"""A command's output: through to where it would have gone, at once and unchanged, and into a file."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import select
import selectors
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

log = logging.getLogger("mlflow_dovetail")

_READ_AT_ONCE = 1 << 16
_LOOK_SECONDS = 0.1
_STDOUT, _STDERR = 1, 2
_WINDOW = b"\0" * 8  # struct winsize: four shorts


class Passing:
    """Standard output and error for a command: a terminal where this process has one, else a pipe each.

    The bytes go to descriptors 1 and 2, not through `sys.stdout`, which a run hears already.

    Args:
        console: The file that gets a copy.

    Attributes:
        out, err: The descriptors that the command writes to.
    """

    def __init__(self, console: Path) -> None:
        self._console = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._warned = False
        self._targets: dict[int, int] = {}  # by the descriptor that is read
        self._terminal: tuple[int, int] | None = None  # what is read and where it goes
        self.out = self._open(_STDOUT)
        self.err = self.out if os.isatty(_STDOUT) and os.isatty(_STDERR) else self._open(_STDERR)

    def started(self) -> None:
        """The command has its ends: nobody else may hold them, or they would never be at an end."""
        for descriptor in {self.out, self.err}:
            os.close(descriptor)
        self.out = self.err = -1

    def pump(self, has_ended: Callable[[], bool]) -> None:
        """Pass everything on until the command has ended; what its own children print after that is not waited for."""
        ended = False
        with selectors.DefaultSelector() as selector:
            for source in self._targets:
                selector.register(source, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(_LOOK_SECONDS)
                for key, _ in ready:
                    if not self._pass_on(key.fd):
                        selector.unregister(key.fd)
                        self._close(key.fd)
                if not ready:
                    if ended:
                        return
                    ended = has_ended()

    def __enter__(self) -> Passing:
        if self._terminal:
            signal.signal(signal.SIGWINCH, lambda *_: self._fit())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        for descriptor in {*self._targets, self._console, self.out, self.err} - {-1}:
            os.close(descriptor)

    def _open(self, target: int) -> int:
        if not os.isatty(target):
            source, end = os.pipe()
        else:
            source, end = pty.openpty()
            attributes = termios.tcgetattr(end)
            attributes[1] &= ~termios.OPOST  # the real terminal turns newlines into what it needs
            termios.tcsetattr(end, termios.TCSANOW, attributes)
            self._terminal = (source, target)
            self._fit()
        self._targets[source] = target
        return end

    def _fit(self) -> None:
        """Give the command's terminal the size of the real one."""
        if self._terminal:
            source, target = self._terminal
            with suppress(OSError):
                fcntl.ioctl(source, termios.TIOCSWINSZ, fcntl.ioctl(target, termios.TIOCGWINSZ, _WINDOW))

    def _pass_on(self, source: int) -> bool:
        """Pass on what is there; whether there may be more."""
        try:
            data = os.read(source, _READ_AT_ONCE)
        except OSError:  # Linux says EIO when the other end of a terminal is closed
            return False
        if not data:
            return False
        self._keep(data)
        try:
            _write_all(self._targets[source], data)
        except BrokenPipeError:
            return False  # the reader has gone: the command learns it as it would without this process between them
        except OSError:
            pass  # a terminal that has gone, a full disk: the copy is still made
        return True

    def _keep(self, data: bytes) -> None:
        try:
            _write_all(self._console, data)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("Not all of the output is kept: %s", error)

    def _close(self, source: int) -> None:
        del self._targets[source]
        if self._terminal and self._terminal[0] == source:
            self._terminal = None
        os.close(source)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # somebody who shares it has made it non-blocking
            select.select([], [descriptor], [])
