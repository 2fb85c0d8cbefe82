"""Files that are made from the outside of a run, without its help: what it printed, and what it ran in."""

from __future__ import annotations

import json
from collections.abc import Callable

from mlflow_dovetail import context, names, redact
from mlflow_dovetail.run.terminal import Terminal
from mlflow_dovetail.run_folder import RunFolder, write_whole

_READ_AT_ONCE = 1 << 20
_LONGEST_CONSOLE_BYTES = 64 << 20


def capture_environment(folder: RunFolder) -> None:
    """Installed packages and host, once a run.

    Raises:
        OSError: There is no room.
    """
    _once(folder, names.ARTIFACT_REQUIREMENTS, context.read_packages)
    _once(folder, names.ARTIFACT_HOST, lambda: json.dumps(context.read_host(), indent=2, sort_keys=True) + "\n")


def _once(folder: RunFolder, path: str, read: Callable[[], str]) -> None:
    target = folder.captured / path
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, read().encode())


class ConsoleCapture:
    """What was printed, as a terminal would show it at the end: progress bars in one line, secrets masked.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._source = folder.console
        self._target = folder.captured / names.ARTIFACT_CONSOLE
        self._terminal = Terminal()
        self._offset = 0
        self._settled = b""
        self._written = -1

    def capture(self) -> None:
        """Take what has been printed since the last time.

        Raises:
            OSError: There is no room.
        """
        if not self._source.exists() or self._source.stat().st_size == self._written:
            return
        with self._source.open("rb") as console:
            console.seek(self._offset)
            while data := console.read(_READ_AT_ONCE):
                self._offset += len(data)
                self._settled += redact.mask_text(self._terminal.feed(data)).encode()
                self._cut()
        moving = redact.mask_text(self._terminal.rest()).encode()
        text = self._settled + moving
        if not self._target.exists() or self._target.read_bytes() != text:
            write_whole(self._target, text)
        self._written = self._offset

    def _cut(self) -> None:
        """Keep the beginning and the end of what no one reads whole."""
        if len(self._settled) > _LONGEST_CONSOLE_BYTES:
            half = _LONGEST_CONSOLE_BYTES // 4
            middle = f"\n… {len(self._settled) - 2 * half} bytes are left out here …\n".encode()
            self._settled = self._settled[:half] + middle + self._settled[-half:]
