"""Writing journals in tests, and what a store has of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from mlflow_dovetail.journal import JournalWriter, Sender, clock_ms, entries, staging
from mlflow_dovetail.records import RunStatus
from mlflow_dovetail.run_folder import Description, RunFolder
from mlflow_dovetail.store import RunStore


def new_folder(root: Path, **about: object) -> RunFolder:
    given = {"version": 1, "token": uuid.uuid4().hex, "tracking_uri": "memory:", "start_time_ms": clock_ms(), **about}
    return RunFolder.make(root, Description(**given))  # type: ignore[arg-type]


class Writing:
    """A writer with short words for the entries."""

    def __init__(self, folder: RunFolder, kind: entries.AttemptKind = "create", attempt: int = 1) -> None:
        self.folder = folder
        self.writer = JournalWriter(folder, kind, attempt)
        self._files = 0

    def metrics(self, step: int, **values: float) -> None:
        self.writer.metrics(values, step)

    def params(self, values: Mapping[str, str]) -> None:
        self.writer.append(entries.Params(clock_ms(), dict(values)))

    def tags(self, values: Mapping[str, str]) -> None:
        self.writer.append(entries.Tags(clock_ms(), dict(values)))

    def monitor(self, key: str, mode: str) -> None:
        self.writer.append(entries.Monitor(clock_ms(), key, mode))  # type: ignore[arg-type]

    def input(self, name: str) -> None:
        self.writer.append(entries.Input(clock_ms(), name, "0123456789abcdef", f"data/{name}", "train", "local"))

    def file(self, path: str, content: bytes) -> str:
        """Keep a file; the name of its copy."""
        self._files += 1
        payload = f"{self.writer.number:04d}-{self._files:06d}"
        source = self.folder.path / "source"
        source.write_bytes(content)
        size, digest = staging.copy_in(self.folder, source, payload)
        source.unlink()
        self.writer.append(entries.File(clock_ms(), path, payload, size, digest))
        return payload

    def end(self, status: RunStatus = "FINISHED", cause: str = "") -> None:
        self.writer.append(entries.End(clock_ms(), status, cause))
        self.writer.close()


def send(folder: RunFolder, store: RunStore) -> Sender:
    """Send all there is, by a sender of its own; it must be complete."""
    sender = Sender(folder, store)
    assert sender.send()
    return sender


def points(store: RunStore, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Each metric's steps and values."""
    keys = store.get_run(run_id).metrics
    return {key: [(point.step, point.value) for point in store.metric_history(run_id, key)] for key in sorted(keys)}


def artifacts(store: RunStore, run_id: str, into: Path) -> dict[str, bytes]:
    """The content of each of a run's files."""
    into.mkdir(exist_ok=True)
    files = store.list_artifacts(run_id)
    return {file.path: store.read_artifact(run_id, file.path, into).read_bytes() for file in files}
