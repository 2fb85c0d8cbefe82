"""The wall clock is set while a run records: its points, its order and its end stay true."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.conftest import Train
from faults.trainer import value
from faults.training import Training
from faults.truth import assert_exact, read_recorded

HOUR_SECONDS = 3600


@pytest.fixture(scope="session")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here to make a clock that can be set")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True, timeout=60)
    return library


@pytest.fixture
def clock(clock_library: Path, tmp_path: Path) -> tuple[dict[str, str], Callable[[int], None]]:
    """The environment of a program whose wall clock is moved by the seconds that the function is given."""
    file = tmp_path / "offset"

    def move(seconds: int) -> None:
        with file.open("r+b") as opened:
            opened.write(struct.pack("=q", seconds))

    file.write_bytes(struct.pack("=q", 0))
    return {"LD_PRELOAD": str(clock_library), "CLOCK_OFFSET": str(file)}, move


def test_the_clock_can_be_set(clock: tuple[dict[str, str], Callable[[int], None]]):
    variables, move = clock
    move(-HOUR_SECONDS)
    code = "import time, datetime as d; print(time.time(), time.time_ns() / 1e9, d.datetime.now().timestamp())"
    said = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=True, timeout=20)
    assert [time.time() - float(text) for text in said.stdout.split()] == pytest.approx([HOUR_SECONDS] * 3, abs=5)


@pytest.mark.parametrize("dies", [False, True])
def test_a_clock_set_back_and_forth_changes_nothing(
    train: Train, database: str, clock: tuple[dict[str, str], Callable[[int], None]], dies: bool
):
    variables, move = clock
    training = train(database, steps=100_000, seconds=0.005, variables=variables)
    for seconds in (-HOUR_SECONDS, 24 * HOUR_SECONDS, -2 * HOUR_SECONDS):
        training.wait_steps(100)
        move(seconds)
    training.wait_steps(100)
    end(training, dies)
    truth, recorded = training.truth, read_recorded(database, training.token)
    assert_exact(truth, recorded, more_steps=int(dies))
    assert recorded.ending == (("FAILED", "vanished") if dies else ("FINISHED", None)), training.report()
    assert recorded.run.info.end_time >= recorded.run.info.start_time
    last_step = max(step for step, _ in recorded.points["m0"])
    assert recorded.run.data.metrics["m0"] == value(last_step, 0)
    if not dies:
        assert recorded.journal_status == "ok"


def end(training: Training, dies: bool) -> None:
    if dies:
        training.process.kill()
        training.wait()
        training.wait_quiet()
    else:
        assert training.finish() == 0, training.report()
