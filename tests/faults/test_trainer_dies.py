"""However a trainer ends, everything that `log_metrics` returned from is in MLflow, and the run's status is true."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.conftest import Train
from faults.training import Training, wait_until
from faults.truth import Recorded, assert_exact, read_recorded, runs_with

SEED = 3
WAVES = 4
A_WAVE = 5
OOM_LIMIT_BYTES = 900 << 20

# How it ends: (the trainer's --end, signal), then exit code, status, cause.
ENDINGS = {
    "normal": (("normal", None), 0, "FINISHED", None),
    "exception": (("exception", None), 1, "FAILED", "exception: ValueError: the loss is not a number"),
    "sys.exit(0)": (("exit0", None), 0, "FINISHED", None),
    "sys.exit(3)": (("exit3", None), 3, "FAILED", "sys.exit(3)"),
    "os._exit(0)": (("os_exit", None), 0, "FAILED", "vanished"),
    "SIGTERM": (("wait", signal.SIGTERM), 143, "KILLED", "SIGTERM"),
    "SIGINT": (("wait", signal.SIGINT), None, "KILLED", "SIGINT"),
    "SIGHUP": (("wait", signal.SIGHUP), -signal.SIGHUP, "FAILED", "vanished"),
    "SIGTERM in a step": (("normal", signal.SIGTERM), 143, "KILLED", "SIGTERM"),
}


@pytest.fixture(scope="module")
def endings(train_for_all: Train, database: str) -> Iterator[dict[str, Future[Training]]]:
    """A trainer that has ended, for each way; three at a time, because each imports MLflow twice."""

    def run(name: str) -> Training:
        (end, number), *_ = ENDINGS[name]
        steps = 5000 if name == "SIGTERM in a step" else 60
        training = train_for_all(database, end=end, steps=steps, seconds=0.005, artifact_every=25)
        if number is not None:
            training.wait_logged(63)
            training.signal(number)
        training.wait()
        training.wait_quiet()
        return training

    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(run, name) for name in ENDINGS}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_ending_is_true_and_exact(endings: dict[str, Future[Training]], database: str, name: str):
    training = endings[name].result(timeout=120)
    _, code, status, cause = ENDINGS[name]
    recorded = read_recorded(database, training.token)
    assert recorded.ending == (status, cause), training.report()
    # 130, or death by the signal itself: both are what a shell shows for Ctrl-C; 1 is not.
    assert training.process.returncode in ([code] if code is not None else [130, -signal.SIGINT]), training.report()
    assert training.truth.points > 0
    assert_exact(training.truth, recorded)
    assert_artifacts(training, recorded)
    assert recorded.run.info.end_time >= recorded.run.info.start_time
    assert ("traceback.txt" in recorded.artifacts) == (name in ("exception", "sys.exit(3)")), sorted(recorded.artifacts)


def assert_artifacts(training: Training, recorded: Recorded) -> None:
    """Every file that `log_artifact` returned from is there, whole."""
    there = {path: size for path, size in recorded.artifacts.items() if path.startswith("files/")}
    assert training.truth.artifacts.items() <= there.items()


@pytest.mark.parametrize("wave", range(WAVES))
def test_sigkill_at_random_moments_loses_no_step(train: Train, database: str, wave: int):
    """Twenty moments: in each wave of five, one while `start_run` works, the others anywhere in three seconds."""
    chance = random.Random(SEED + wave)
    trainings = [train(database, steps=100_000, seconds=0.001 * chance.randrange(1, 5)) for _ in range(A_WAVE)]
    with ThreadPoolExecutor(A_WAVE) as pool:
        kills = [pool.submit(kill_at, *plan) for plan in zip(trainings, moments(chance), strict=True)]
    for training, kill in zip(trainings, kills, strict=True):
        kill.result()
        training.wait_quiet()
        if training.truth_file.exists():
            assert_vanished_and_exact(training, database)
        else:
            assert_nothing_is_left_running(training, database)


def moments(chance: random.Random) -> list[Callable[[Training], None]]:
    def wait(until: Callable[[Training], None], seconds: float) -> Callable[[Training], None]:
        def both(training: Training) -> None:
            until(training)
            time.sleep(seconds)

        return both

    late = [wait(Training.wait_started, chance.uniform(0, 3)) for _ in range(A_WAVE - 1)]
    return [wait(Training.wait_starting, chance.uniform(0, 0.5)), *late]


def kill_at(training: Training, moment: Callable[[Training], None]) -> None:
    moment(training)
    training.process.kill()
    assert training.wait() == -signal.SIGKILL


def assert_vanished_and_exact(training: Training, uri: str) -> None:
    recorded = read_recorded(uri, training.token)
    assert_exact(training.truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "vanished"), training.report()
    assert recorded.journal_status == "ok", training.report()


def assert_nothing_is_left_running(training: Training, uri: str) -> None:
    """Killed while it started: what there is of a run is closed, by its recorder or by `dovetail sync`."""
    if not training.run_folders():
        return
    training.sync()
    assert {run.info.status for run in runs_with(uri, training.token)} <= {"FAILED"}, training.report()


def test_sigkill_of_eight_megabytes_a_second_loses_no_step(train: Train, database: str):
    """The journal is read while it grows fast; the recorder is far behind when the trainer dies."""
    training = train(database, metrics=20, steps=100_000, seconds=0)
    training.wait_steps(800)
    training.process.kill()
    training.wait()
    training.wait_quiet(120)
    assert_vanished_and_exact(training, database)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with a limit of memory, version 1 or 2."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    parent, limit = (
        (Path("/sys/fs/cgroup"), "memory.max")
        if unified.exists()
        else (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
    )
    group = parent / f"dovetail-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(OOM_LIMIT_BYTES))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no control group with a limit of memory can be made here: {error}")
    try:
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the control group is empty", 30)
        group.rmdir()


def test_out_of_memory_is_told_from_a_kill(train: Train, database: str, memory_group: Path):
    training = train(database, end="grow", steps=10_000, cgroup=memory_group)
    assert training.wait() == -signal.SIGKILL, training.report()
    training.wait_quiet()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "out of memory"), training.report()


def test_a_kill_in_a_limited_group_is_no_lack_of_memory(train: Train, database: str, memory_group: Path):
    training = train(database, steps=10_000, cgroup=memory_group)
    training.wait_steps(20)
    training.process.kill()
    training.wait()
    training.wait_quiet()
    assert read_recorded(database, training.token).ending == ("FAILED", "vanished"), training.report()


def test_an_exceptions_traceback_is_kept(endings: dict[str, Future[Training]], database: str, tmp_path: Path):
    from mlflow.artifacts import download_artifacts

    training = endings["exception"].result(timeout=120)
    uri = f"{read_recorded(database, training.token).run.info.artifact_uri}/traceback.txt"
    text = Path(download_artifacts(uri, dst_path=str(tmp_path), tracking_uri=database)).read_text()
    assert "ValueError: the loss is not a number" in text
    assert "trainer.py" in text
    assert "ValueError" in training.stderr
