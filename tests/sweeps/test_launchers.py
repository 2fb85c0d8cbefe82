"""Jobs in processes of their own, joblib's workers and submitit's jobs: children of one parent, each with the truth."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from mlflow_dovetail import names

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2")
GRID = ("hydra/sweeper/sampler=grid",)


def by_params(children):
    return {
        child.tags[names.TAG_SWEEP_PARAMS]: (child.status, child.tags.get(names.TAG_END_CAUSE, ""))
        for child in children
    }


def test_joblib_on_a_fresh_database_with_a_job_that_fails_and_one_that_is_killed(studied_without_database, family):
    program = studied_without_database
    (program.folder / "broken").touch()
    (program.folder / "deadly").write_text("2")
    # One folder for all calls: nothing in it is taken for this call's own.
    command = ("-m", *JOBLIB, *GRID, "hydra.sweep.dir=multirun", "hydra.sweeper.n_jobs=3")
    code, output = program.run(*command, "hydra.sweeper.params={x:'1,0,-1'}")
    assert code == 1, output
    parent, children = family()
    deadline = time.monotonic() + 60
    while any(child.status == "RUNNING" for child in children):  # its recorder tells
        assert time.monotonic() < deadline
        time.sleep(0.5)
        _, children = family()
    assert by_params(children) == {
        "x=1": ("FINISHED", ""),
        "x=0": ("FAILED", "exception: ValueError: this job fails"),
        "x=-1": ("FAILED", "vanished"),
    }
    assert parent.status == "FAILED"
    assert parent.tags[names.TAG_SWEEP_BEST_PARAMS] == "x=1"

    (program.folder / "broken").unlink()
    (program.folder / "deadly").unlink()
    code, output = program.run(*command, "hydra.sweeper.params={x:'1,0,-1'}")
    assert code == 0, output
    again, children = family()
    assert (again.run_id, again.status) == (parent.run_id, "FINISHED")
    finished = [child.tags[names.TAG_SWEEP_PARAMS] for child in children if child.status == "FINISHED"]
    assert sorted(finished) == ["x=-1", "x=0", "x=1"], "the value of x=1 was known, though nobody had told the study"


@pytest.mark.parametrize(
    ("launcher", "number", "to_group"),
    [
        (JOBLIB, signal.SIGINT, True),
        (JOBLIB, signal.SIGHUP, True),
        (JOBLIB, signal.SIGTERM, False),
        (SUBMITIT, signal.SIGINT, False),
    ],
    ids=["joblib, in a terminal", "joblib, its terminal is closed", "joblib, SIGTERM", "submitit"],
)
def test_ctrl_c_ends_the_jobs_as_killed_and_leaves_no_process(studied, family, launcher, number, to_group):
    (studied.folder / "hold").write_text("2")
    process = studied.start("-m", *launcher, *GRID, "hydra.sweeper.params={x:'1,2,3,4'}")
    studied.wait_for("ended-1*", process)
    studied.wait_for("waiting-*", process)
    deadline = time.monotonic() + 60
    while len(list(studied.folder.glob("multirun/*/.jobs-*/*.json"))) > 1:  # the first has yet to tell its value
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family_tree = psutil.Process(process.pid).children(recursive=True)
    assert family_tree
    (os.killpg if to_group else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGINT if number == signal.SIGINT else 143), output
    assert psutil.wait_procs(family_tree, timeout=15)[1] == []
    parent, children = family()
    assert parent.status == "KILLED"
    assert by_params(children) == {"x=1": ("FINISHED", ""), "x=2": ("KILLED", "SIGINT")}
    assert parent.tags[names.TAG_SWEEP_PROGRESS] == "1 of 4, 1 cut off"
    assert not list(studied.folder.glob("multirun/*/.jobs*"))
