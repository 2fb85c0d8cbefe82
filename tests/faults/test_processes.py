"""Processes around the trainer: its children, what reads its output."""

from __future__ import annotations

import os
import time

import pytest

from faults.conftest import Train
from faults.proxy import Proxy
from faults.training import Training
from faults.truth import assert_exact, read_recorded

# Ten that a run may wait at its end, and what Python needs to end on a busy machine.
EXIT_SECONDS = 10 + 5


@pytest.mark.parametrize("workers", ["terminated", "forked-exit", "spawn"])
def test_children_that_end_do_not_end_the_run(train: Train, database: str, workers: str):
    """SIGTERM and exceptions of a forked child reach handlers and blocks that it has from the trainer."""
    training = train(database, steps=150, workers=workers)
    assert training.wait() == 0, training.report()
    training.wait_quiet()
    assert_finished_and_exact(training, database)


def test_a_child_that_ends_does_not_say_how_the_run_ended(train: Train, database: str):
    training = train(database, steps=10_000, workers="forked-exit")
    training.wait_steps(100)
    training.process.kill()
    training.wait()
    training.wait_quiet()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "vanished"), training.report()
    assert "traceback.txt" not in recorded.artifacts


def test_children_that_outlive_a_killed_trainer_do_not_keep_its_run_open(train: Train, database: str):
    training = train(database, steps=10_000, workers="fork")
    training.wait_steps(100)
    training.process.kill()
    training.wait()
    training.wait_quiet()
    os.killpg(training.process.pid, 0)  # the workers live
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "vanished"), training.report()


def test_children_that_live_to_the_end_do_not_keep_its_run_open(train: Train, database: str):
    training = train(database, steps=150, workers="fork")
    assert training.wait() == 0, training.report()
    training.wait_quiet()
    assert_finished_and_exact(training, database)


@pytest.mark.parametrize("captured", [False, True])
def test_who_reads_the_output_does_not_wait_for_the_recorder(train: Train, proxy: Proxy, server: str, captured: bool):
    """`python trainer.py | cat`, and `subprocess.run(capture_output=True)` of a shell, end when the trainer ends."""
    proxy.hangs()
    through = "" if captured else "| cat; exit ${PIPESTATUS[0]}"
    training = train(proxy.address, steps=100_000, through=through, piped=captured)
    training.wait_steps(50)
    training.stop()
    begin = time.monotonic()
    if captured:
        training.process.communicate(timeout=60)
    assert training.wait() == 0
    assert time.monotonic() - begin < EXIT_SECONDS, training.report()
    assert training.recorders(), "the recorder has ended: the test has tested nothing"
    proxy.passes()
    training.wait_quiet()
    assert_finished_and_exact(training, server)


def assert_finished_and_exact(training: Training, uri: str) -> None:
    truth, recorded = training.truth, read_recorded(uri, training.token)
    assert_exact(truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert recorded.journal_status == "ok", training.report()
    assert "traceback.txt" not in recorded.artifacts
    assert truth.artifacts.items() <= recorded.artifacts.items()
    assert truth.slowest_seconds < 1
