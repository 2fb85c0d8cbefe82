"""The recorder serves a run folder in this process; as a process of its own it is held by tests/faults."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mlflow_dovetail import names, store
from mlflow_dovetail.journal import JournalWriter, clock_ms, entries
from mlflow_dovetail.run.recorder import Recorder
from mlflow_dovetail.run_folder import Description, RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of a run that has ended."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    about = Description(
        version=1, token="ab" * 16, tracking_uri=uri, start_time_ms=time.time_ns() // 1_000_000, experiment="served"
    )
    made = RunFolder.make(tmp_path, about)
    writer = JournalWriter(made, "create", 1)
    writer.metrics({"loss": 0.5}, 3)
    writer.append(entries.End(clock_ms(), "FINISHED", ""))
    writer.close()
    return made


def status_of(folder: RunFolder) -> str:
    uri = folder.describe().tracking_uri
    Recorder(folder, uri).serve()
    with store.open(uri) as opened:
        run = opened.find_run(folder.token)
        assert (run.status, run.metrics["loss"]) == ("FINISHED", 0.5)
        return run.tags[names.TAG_STATUS_JOURNAL]


def test_a_run_that_has_ended_is_sent_and_the_recorder_ends(folder: RunFolder):
    assert status_of(folder) == "ok"


def test_what_the_recorder_cannot_do_is_told_with_the_run(folder: RunFolder):
    (folder.captured / "environment").write_text("a file where the folder belongs")
    assert "recorder: the environment is not kept: FileExistsError" in status_of(folder)
