"""A sweep that is a study: the same command goes on with it, whatever has ended it."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing

from mlflow_dovetail import names

BEST = (names.TAG_SWEEP_BEST_VALUE, names.TAG_SWEEP_BEST_PARAMS, names.TAG_SWEEP_PROGRESS)


def tried(children):
    """Job's number → what it tried and how it went."""
    return {
        int(child.tags[names.TAG_SWEEP_JOB]): (float(child.tags[names.TAG_SWEEP_PARAMS].removeprefix("x=")), child)
        for child in children
    }


def test_a_sweep_that_was_killed_goes_on_by_the_same_command(studied, family):
    (studied.folder / "hold").write_text("0.52")  # the third x of this seed is the first above
    process = studied.start("-m")
    studied.wait_for("waiting-*", process)
    code, output = studied.run("-m")
    assert code == 1 and f"The process {process.pid} is at it" in output
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed, _ = family()
    assert killed.status == "RUNNING"
    assert killed.tags[names.TAG_SWEEP_PROGRESS] == "2 of 4"

    (studied.folder / "hold").unlink()
    code, output = studied.run("-m")
    assert code == 0, output
    assert "2 of 4 trials are complete" in output
    parent, children = family()
    assert (parent.run_id, parent.status, parent.end_time_ms is not None) == (killed.run_id, "FINISHED", True)
    jobs = tried(children)
    assert [job for job, (_, child) in sorted(jobs.items()) if child.status == "FINISHED"] == [0, 1, 3, 4]
    cut_off = jobs.pop(2)[1]
    assert (cut_off.status, cut_off.tags[names.TAG_END_CAUSE]) == ("FAILED", "vanished")
    assert cut_off.tags[names.TAG_SWEEP_PARAMS] == jobs[3][1].tags[names.TAG_SWEEP_PARAMS]
    xs = [x for _, (x, _) in sorted(jobs.items())]
    assert len(set(xs)) == 4
    best = max(xs)
    assert [parent.tags[tag] for tag in BEST] == [str(best), f"x={best}", "4 of 4, 1 cut off"]
    assert parent.tags[names.TAG_SWEEP_BEST_RUN] == next(child.run_id for x, child in jobs.values() if x == best)
    assert parent.metrics["score"] == 2 * best

    code, output = studied.run("-m")
    assert code == 0
    assert "Nothing to run" in output and "hydra.sweeper.study_name=second" in output
    assert len(family()[1]) == len(children)
    with closing(sqlite3.connect(studied.folder / "optuna.db")) as database:
        values = database.execute("SELECT value FROM trial_values ORDER BY trial_id").fetchall()
    assert [value for (value,) in values] == xs


def test_a_seed_gives_the_same_trials_and_more_are_added_to_them(studied, family):
    studied.run("-m", "hydra.sweeper.n_trials=1")
    code, output = studied.run("-m", "hydra.sweeper.n_trials=2")
    assert code == 0, output
    parent, children = family()
    in_two_calls = [x for _, (x, _) in sorted(tried(children).items())]
    assert len({*in_two_calls}) == 2
    code, output = studied.run("-m", "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=second")
    assert code == 0, output
    other, children = family("second")
    assert [x for _, (x, _) in sorted(tried(children).items())] == in_two_calls
    assert other.run_id != parent.run_id

    code, output = studied.run("-m", "hydra.sweeper.study_name=second", "x=interval(0.5, 1.0)")
    assert code == 1
    assert "No trial was run. Cannot go on with the study 'second'" in output and "another sweep: x differ" in output
    assert len(family("second")[1]) == 2


def test_a_grid_runs_again_what_failed(studied, family):
    grid = ("-m", "hydra/sweeper/sampler=grid", "hydra.sweeper.params={x:'0,1,2'}")
    (studied.folder / "broken").touch()
    code, output = studied.run(*grid)
    assert code == 1
    assert "Trial 0 failed: ValueError: this job fails" in output and "The same command runs the rest" in output
    parent, children = family()
    assert (parent.status, [child.status for child in children]) == ("FAILED", ["FAILED", "FINISHED", "FINISHED"])
    assert [parent.tags[tag] for tag in BEST] == ["2.0", "x=2", "2 of 3, 1 failed"]

    (studied.folder / "broken").unlink()
    code, output = studied.run(*grid)
    assert code == 0, output
    again, children = family()
    assert (again.run_id, again.status, len(children)) == (parent.run_id, "FINISHED", 4)
    assert [child.tags[names.TAG_SWEEP_PARAMS] for child in children] == ["x=0", "x=1", "x=2", "x=0"]
    assert again.tags[names.TAG_SWEEP_PROGRESS] == "3 of 3, 1 failed"


def test_too_many_failures_end_a_sweep_whose_study_lies_in_the_project(studied, family, tmp_path_factory):
    """Also from a temporary workspace of DVC's."""
    workspace = tmp_path_factory.mktemp("workspace")
    for name in ("program.py", "config.yaml"):
        (workspace / name).write_text((studied.folder / name).read_text())
    (workspace / "broken").touch()
    project, studied.folder = studied.folder, workspace
    studied.environment["DVC_ROOT"] = str(project)
    code, output = studied.run("-m", "hydra.sweeper.max_failure_rate=0.5", "hydra.sweeper.params={x:'choice(0)'}")
    assert code == 1
    assert "1 of 1 trials have failed: the sweep gives up" in output
    assert (project / "optuna.db").exists() and not (workspace / "optuna.db").exists()
    parent, _ = family()
    assert (parent.status, names.TAG_SWEEP_BEST_RUN in parent.tags) == ("FAILED", False)
