"""Hydra's multiruns in a project: one parent run, a child run for each job, nothing in DVC's outputs."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from hydra import compose, initialize_config_dir

from mlflow_dovetail import names

from .project import QUIET

FAST = "debug=default"
LONG = "trainer.max_epochs=1000"


@pytest.fixture(scope="module")
def project(new_project):
    return new_project()


@pytest.fixture
def sweep(project):
    """Run a multirun that succeeds: its parent and its children."""

    def run(*overrides):
        with project.new_runs() as made:
            project.train("-m", *overrides)
        return family(made)

    before = project.results()
    yield run
    assert project.results() == before
    assert project.git("status", "--porcelain") == ""


def family(made):
    """The parent and its children among some runs."""
    (parent,) = [run for run in made if names.TAG_MLFLOW_PARENT not in run.tags]
    children = [run for run in made if run.tags.get(names.TAG_MLFLOW_PARENT) == parent.run_id]
    assert len(made) == 1 + len(children)
    return parent, children


def statuses(runs):
    return {run.status for run in runs}


def test_the_command_line_sweeps(project, sweep):
    parent, children = sweep(FAST, "model.lr=1e-3,1e-2", "seed=1,2")
    assert parent.status == "FINISHED"
    assert "model.lr=1e-3,1e-2 seed=1,2" in parent.tags[names.TAG_SWEEP]
    assert statuses(children) == {"FINISHED"}
    tried = sorted((child.params["model.lr"], child.params["seed"]) for child in children)
    assert tried == [("0.001", "1"), ("0.001", "2"), ("0.01", "1"), ("0.01", "2")]
    (folder,) = project.path.glob("outputs/multirun/*/*")
    assert len(list(folder.glob("[0-3]/model.ckpt"))) == 4


def test_the_grid_sweeps_two_at_once(project, sweep):
    parent, children = sweep(FAST, "sweep=grid", "seed=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (parent.status, len(children), statuses(children)) == ("FINISHED", 3, {"FINISHED"})
    assert "model.lr=0.001,0.003,0.01" in parent.tags[names.TAG_SWEEP]
    assert parent.tags[names.TAG_SWEEP_PROGRESS] == "3 of 3"
    assert {child.tags[names.TAG_SWEEP_PARAMS] for child in children} == {
        f"model.lr={lr}" for lr in (0.001, 0.003, 0.01)
    }


def test_optuna_goes_on_with_its_study(project, sweep):
    parent, children = sweep(FAST, "sweep=optuna", "hydra.sweeper.n_trials=1")
    assert (parent.status, len(children)) == ("FINISHED", 1)
    with project.new_runs() as made:
        done = project.train(FAST, "-m", "sweep=optuna", "hydra.sweeper.n_trials=2")
    assert [run.tags[names.TAG_MLFLOW_PARENT] for run in made] == [parent.run_id]
    assert "1 of 2 trials are complete" in done.output
    again = project.store.get_run(parent.run_id)
    best = max([*children, *made], key=lambda child: child.metrics["best/val/acc"])
    assert again.status == "FINISHED"
    assert again.tags[names.TAG_SWEEP_BEST_RUN] == best.run_id
    assert again.metrics["best/val/acc"] == best.metrics["best/val/acc"]
    assert again.tags[names.TAG_SWEEP_BEST_PARAMS].startswith(f"model.lr={best.params['model.lr']} model.dropout=")
    assert float(again.tags[names.TAG_SWEEP_BEST_VALUE]) == pytest.approx(best.metrics["best/val/acc"])
    shown = project.run("dovetail", "show", parent.run_id).output
    assert shown.index(best.run_id, shown.index("Children")) < min(
        shown.index(child.run_id, shown.index("Children")) for child in [*children, *made] if child is not best
    )
    assert (project.path / "optuna.db").exists()


@pytest.mark.parametrize(
    ("overrides", "sampler", "launcher"),
    [
        (["sweep=random"], "optuna.samplers.RandomSampler", "BasicLauncher"),
        (["sweep=optuna", "callbacks.mode=min"], "optuna.samplers.TPESampler", "BasicLauncher"),
        (
            ["sweep=grid", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"],
            "optuna.samplers.GridSampler",
            "SlurmLauncher",
        ),
    ],
)
def test_what_a_sweep_is_composed_of(project, overrides, sampler, launcher):
    with initialize_config_dir(str(project.path / "configs")):
        hydra = compose("train", overrides, return_hydra_config=True).hydra
    assert (hydra.sweeper.sampler._target_, hydra.launcher._target_.rpartition(".")[2]) == (sampler, launcher)
    direction = "minimize" if "callbacks.mode=min" in overrides else "maximize"
    assert (hydra.sweeper.direction, hydra.callbacks.dovetail.direction) == (direction, direction)
    assert hydra.sweeper.n_jobs == 1


def test_a_plain_run_has_no_parent(project):
    with project.new_runs() as made:
        project.train(FAST)
    assert len(made) == 1
    assert names.TAG_MLFLOW_PARENT not in made[0].tags


def test_a_wrong_value_stops_the_sweep_and_the_parent_is_failed(project):
    with project.new_runs() as made:
        done = project.attempt(*project.module("train", QUIET, FAST, "-m", "model.lr=0.01,-1"))
    assert done.code != 0
    assert "'model.lr' must be above 0, not -1.0" in done.output
    parent, children = family(made)
    assert (parent.status, statuses(children)) == ("FAILED", {"FINISHED"})


def test_ctrl_c_ends_the_sweep_and_its_job_as_killed(project):
    command = project.module("train", QUIET, LONG, "-m", "seed=1,2")
    with project.new_runs() as made:
        process = subprocess.Popen(
            command, cwd=project.path, env=project.environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            wait_for_metrics(project)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) != 0
        finally:
            process.kill()
            process.wait()
    parent, children = family(made)
    assert (parent.status, [child.status for child in children]) == ("KILLED", ["KILLED"])


def wait_for_metrics(project):
    """Until the running job has validated once."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(run.status == "RUNNING" and "val/acc" in run.metrics for run in project.runs()):
            return
        time.sleep(0.5)
    raise AssertionError("no job has begun to train")
