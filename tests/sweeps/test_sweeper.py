"""What a study does with its jobs and with what it is told, in this process: no job is recorded."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import msgspec
import optuna
import pytest

import mlflow_dovetail
from mlflow_dovetail import names, store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.run.sync import find_folders, sync_folders
from mlflow_dovetail.run_folder import Lease
from mlflow_dovetail.sweeps import jobs as sweep_jobs
from mlflow_dovetail.sweeps.jobs import Jobs
from mlflow_dovetail.sweeps.study import Identity, open_study

GRID = "hydra/sweeper/sampler=grid"


class Task:
    """Returns `x`, and remembers which it was given; what it does in its place can be said."""

    def __init__(self, do=None):
        self.xs = []
        self._do = do

    def __call__(self, config):
        self.xs.append(config.x)
        if self._do:
            self._do(config.x)
        return config.x


def exits_at(x, code):
    return lambda given: sys.exit(code) if given == x else None


def test_a_job_that_exits_fails_alone_and_a_search_goes_on_past_it(multirun, family):
    task = Task(exits_at(1, "The data is not there."))
    assert multirun(task, GRID, "hydra.sweeper.params={x:'0,1,2'}") == "The data is not there."
    assert task.xs == [0, 1, 2]
    parent, _ = family()
    assert parent.status == "FAILED"

    again = Task()
    assert multirun(again, GRID, "hydra.sweeper.params={x:'0,1,2'}") is None
    assert again.xs == [1], "what failed is tried again by a grid, and nothing else"

    first = []

    def exits_once(x):
        first.append(x)
        if len(first) == 1:
            sys.exit(2)

    search = Task(exits_once)
    assert multirun(search, "hydra.sweeper.n_trials=2") == 2
    assert len(search.xs) == 2
    more = Task()
    assert multirun(more, "hydra.sweeper.n_trials=2") is None
    assert len(more.xs) == 1 and more.xs[0] not in search.xs


def test_another_fixed_value_is_another_study(multirun):
    def xs(fixed):
        task = Task()
        assert multirun(task, GRID, "hydra.sweeper.params.x='choice(0)'", fixed) is None
        return task.xs

    different = [
        "+hydra.sweeper.params={name: one}",
        "+hydra.sweeper.params={name: two}",
        "+hydra.sweeper.params={+y: '[1,3]'}",
        "+direction=north",  # the sweeper has a setting of that name too
        "+direction=south",
    ]
    assert [xs(fixed) for fixed in different] == [[0]] * 5
    assert xs(different[0]) == []


@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
def test_another_sweep_is_refused_without_telling_the_storages_password(tmp_path):
    """Optuna's own driver is asked, with a URL that names a password, which sqlite has no use for."""
    storage = f"sqlite:///{tmp_path / 'optuna.db'}?password=hunter2"
    open_study(storage, "one", Identity({"x": "1"}), "minimize")
    with pytest.raises(DovetailError, match="It is another sweep: x differ") as refused:
        open_study(storage, "one", Identity({"x": "2"}), "minimize")
    assert "optuna.db" in str(refused.value) and "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "why", "remedy"),
    [
        ("damage", "file is not a database", "move it away"),
        ("lock", "database is locked", "no other program has it locked"),
    ],
)
def test_a_storage_that_cannot_be_opened_says_what_to_do(tmp_path, spoil, why, remedy):
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(":memory:" if spoil == "damage" else path)) as other:
        if spoil == "damage":
            path.write_bytes(b"no database" * 100)
        else:
            other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DovetailError, match="Cannot open the study's storage sqlite") as refused:
            open_study(f"sqlite:///{path}?timeout=0.1", "one", Identity({}), "minimize")
    assert why in refused.value.why and remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        ([GRID], "Cannot try every value of x"),
        (["hydra.sweeper.storage={_target_: optuna.storages.InMemoryStorage}"], "Cannot use hydra.sweeper.storage"),
    ],
)
def test_what_no_study_can_do_is_refused_before_there_is_one(multirun, tmp_path, overrides, what):
    task = Task()
    assert f"No trial was run. {what}" in multirun(task, *overrides)
    assert task.xs == [] and not (tmp_path / "optuna.db").exists()


def test_a_value_that_is_told_twice_is_one_point_of_the_grid(multirun):
    task = Task()
    assert multirun(task, GRID, "hydra.sweeper.params.x='1,1,2'") is None
    assert task.xs == [1, 2]


def test_a_call_with_nothing_left_ends_the_parent_that_a_killed_one_left_behind(multirun, family, uri):
    assert multirun(Task(), "hydra.sweeper.n_trials=1") is None
    parent, _ = family()
    with store.open(uri) as runs:
        runs.set_status(parent.run_id, "RUNNING")
    task = Task()
    assert multirun(task, "hydra.sweeper.n_trials=1") is None
    again, _ = family()
    assert (again.run_id, again.status, task.xs) == (parent.run_id, "FINISHED", [])


def _open_and_wait(storage, barrier, queue):
    barrier.wait(60)
    try:
        open_study(storage, "one", Identity({}), "minimize")
        queue.put("open")
    except DovetailError as error:
        queue.put(error.why)
    barrier.wait(60)  # a process that has ended is at nothing


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_of_some_that_start_at_once_one_gets_the_study(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(3), context.Queue()
    three = [context.Process(target=_open_and_wait, args=(storage, barrier, queue), daemon=True) for _ in range(3)]
    for one in three:
        one.start()
    said = [queue.get(timeout=60) for _ in three]
    for one in three:
        one.join()
    assert said.count("open") == 1
    assert all("is at it" in one for one in said if one != "open")


@pytest.mark.parametrize(("silent_seconds", "is_refused"), [(30, True), (3600, False)])
def test_a_process_of_another_machine_is_believed_while_it_is_heard_of(tmp_path, silent_seconds, is_refused):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = optuna.create_study(storage=storage, study_name="one")
    study.set_user_attr("dovetail.lease", msgspec.to_builtins(Lease("node7", "another boot", "", 12, "1")))
    study.set_user_attr("dovetail.beat", time.time() - silent_seconds)
    if is_refused:
        with pytest.raises(DovetailError, match="The process 12 of the machine or container node7 is at it"):
            open_study(storage, "one", Identity({}), "minimize")
    else:
        open_study(storage, "one", Identity({}), "minimize")


def test_a_job_that_may_run_on_another_machine_is_waited_for(multirun, tmp_path, capsys, monkeypatch):
    """The call before was killed: its study names the folder of its jobs, which lies on a disk of both machines."""
    jobs = tmp_path / "before" / ".jobs"
    jobs.mkdir(parents=True)
    (jobs / "0.json").write_bytes(msgspec.json.encode(Lease("node7", "another boot", "", 12, "1")))
    assert multirun(Task(), "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=one") is None
    study = optuna.load_study(study_name="one", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    study.set_user_attr("dovetail.jobs", str(jobs))
    interrupted = SimpleNamespace(sleep=lambda _: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(sweep_jobs, "time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        multirun(Task(), "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=one")
    ends = SimpleNamespace(sleep=lambda _: (jobs / "0.json").unlink())  # the job ends while it is waited for, once more
    monkeypatch.setattr(sweep_jobs, "time", ends)
    ran_with = []
    task = Task(lambda _: ran_with.append((jobs / "0.json").exists()))
    assert multirun(task, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=one") is None
    assert ran_with == [False]
    assert f"may run on node7. If it is gone, remove {jobs / '0.json'}" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):  # one that has waited in a queue until now
        Jobs(jobs).begin(1)


def test_the_value_of_a_job_that_was_offline_is_in_its_folder_and_sent_later(multirun, family, uri, monkeypatch):
    def record(x):
        monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
        with mlflow_dovetail.start_run(tracking_uri=uri, experiment_name="jobs", log_system_metrics=False) as run:
            run.log_metrics({"score": x})

    assert multirun(Task(record), GRID, "hydra.sweeper.params.x='3'") is None
    monkeypatch.delenv("DOVETAIL_OFFLINE")
    assert family()[1] == []
    (result,) = sync_folders(find_folders(), uri)
    assert result.state == "complete"
    (child,) = family()[1]
    assert (child.tags[names.TAG_SWEEP_VALUE], child.tags[names.TAG_SWEEP_JOB]) == ("3.0", "0")


def test_the_callback_needs_no_sweeper():
    """Who has Hydra alone imports it."""
    code = (
        "import sys; sys.modules.update(optuna=None, hydra_plugins=None); "
        "from mlflow_dovetail.sweeps import SweepCallback"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
