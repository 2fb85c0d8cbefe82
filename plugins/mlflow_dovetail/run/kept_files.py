"""What a run keeps of the files that are logged to it, in its folder until they are sent."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mlflow_dovetail.journal import clock_ms, entries, staging
from mlflow_dovetail.run_folder import RunFolder, write_whole


class KeptFiles:
    """Keeps files and gives the journal's entry of each. Safe to use from several threads.

    Args:
        folder: Of the run.
        segment: The number of the journal's segment; names of copies begin with it.
    """

    def __init__(self, folder: RunFolder, segment: int) -> None:
        self._folder = folder
        self._segment = segment
        self._lock = threading.Lock()
        self._count = 0
        self._payloads: dict[str, str] = {}

    def keep(self, source: Path, path: str, *, pinned: bool = False) -> entries.File:
        """Keep a file as the artifact `path`, as it is now; `pinned`, the recorder copies it.

        Raises:
            OSError: It cannot be read, or there is no place for it.
        """
        payload = self._next_payload()
        size, digest = (staging.pin if pinned else staging.copy_in)(self._folder, source, payload)
        return self._kept(path, payload, size, digest)

    def keep_content(self, content: bytes, path: str) -> entries.File:
        """Keep a content as the artifact `path`.

        Raises:
            OSError: There is no place for it.
        """
        payload = self._next_payload()
        write_whole(self._folder.artifacts / payload, content)
        return self._kept(path, payload, len(content), "")

    def last(self) -> dict[str, Path]:
        """The last content of each file that is still here, by its path as an artifact."""
        copies = {path: staging.find(self._folder, payload) for path, payload in list(self._payloads.items())}
        return {path: copy for path, copy in copies.items() if copy is not None}

    def _kept(self, path: str, payload: str, size: int, digest: str) -> entries.File:
        self._payloads[path] = payload
        return entries.File(clock_ms(), path, payload, size, digest)

    def _next_payload(self) -> str:
        with self._lock:
            self._count += 1
            return f"{self._segment:04d}-{os.getpid()}-{self._count:06d}"
