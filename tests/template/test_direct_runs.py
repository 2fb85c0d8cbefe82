"""Runs outside DVC: `python -m <package>.train ...` writes to Hydra's output directory and nowhere else."""

from __future__ import annotations

import json

import pytest
import torch

from mlflow_dovetail import names

from .project import QUIET, RESULTS


@pytest.fixture(autouse=True)
def _leaves_the_project_alone(trained):
    before = trained.project.results()
    yield
    assert trained.project.results() == before
    assert trained.project.git("status", "--porcelain") == ""
    assert "up to date" in trained.project.dvc("status").output


def train(trained, output, *overrides):
    """One run with its own output directory."""
    with trained.project.new_runs() as made:
        trained.project.train(f"hydra.run.dir={output}", *overrides)
    (run,) = made
    assert run.status == "FINISHED"
    assert names.TAG_DVC_STAGE not in run.tags
    return run


def test_by_default_the_output_directory_is_under_outputs(trained):
    project = trained.project
    top = {path.name for path in project.path.iterdir()}
    before = set(project.path.glob("outputs/*/*"))
    with project.new_runs() as made:
        project.train("model=mlp", "trainer.max_epochs=3")
    (output,) = set(project.path.glob("outputs/*/*")) - before
    assert {*RESULTS[:3], "checkpoints", ".hydra"} <= {path.name for path in output.iterdir()}
    assert {path.name for path in project.path.iterdir()} <= top | {"outputs"}
    assert made[0].params["model.name"] == "mlp"
    assert len(project.store.metric_history(made[0].run_id, "val/acc")) == 3


def test_debug_is_one_batch(trained, tmp_path):
    run = train(trained, tmp_path, "debug=default")
    assert torch.load(tmp_path / "model.ckpt", weights_only=True)["global_step"] == 1
    assert run.tags["debug"] == "true"


def test_name_tags_and_notes_become_the_runs(trained, tmp_path):
    run = train(trained, tmp_path, "experiment=baseline", "logger.register=digits")
    assert run.name == "baseline"
    assert run.tags["experiment"] == "baseline"
    assert run.tags[names.TAG_MLFLOW_NOTE].startswith("**Baseline**: the plain network")
    assert (run.params["model.name"], run.params["trainer.max_epochs"]) == ("mlp", "5")
    # And registered under the name that was given.
    (version,) = trained.project.client.search_model_versions("name = 'digits'")
    assert (version.run_id, int(version.version)) == (run.run_id, 1)


def test_resuming_goes_on_where_the_checkpoint_stopped(trained, tmp_path):
    last = trained.project.path / "checkpoints" / "last.ckpt"
    steps = torch.load(last, weights_only=True)["global_step"]
    assert steps == 15 * 20
    run = train(trained, tmp_path, f"ckpt_path={last}", "trainer.max_epochs=16")
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 16 * 20
    assert run.params["ckpt_path"] == str(last)


def test_other_splits_never_touch_dvcs_outputs(trained, tmp_path):
    train(trained, tmp_path, "debug=default", "data.val_fraction=0.3")
    done = trained.project.attempt(*trained.project.module("evaluate", "--run-dir", str(tmp_path)))
    assert done.code == 0, done.output
    assert (tmp_path / "evaluation.json").is_file()


def test_a_store_that_does_not_answer_stops_no_training(trained, tmp_path):
    """The run is kept, and named by its token until `dovetail sync` has sent it."""
    nobody = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    arguments = trained.project.module("train", QUIET, "debug=default", f"hydra.run.dir={tmp_path}")
    done = trained.project.attempt(*arguments, **nobody)
    assert done.code == 0, done.output
    assert "http://127.0.0.1:9 does not answer" in done.output
    assert "Traceback" not in done.output
    link = json.loads((tmp_path / "mlflow_run.json").read_text())
    assert link["run_id"] == link["token"]
    assert (trained.project.path / ".dovetail" / "runs" / link["token"] / "run.json").exists()
    elsewhere = ("--tracking-uri", f"sqlite:///{tmp_path / 'other.db'}")
    sent = trained.project.attempt("dovetail", "sync", f".dovetail/runs/{link['token']}", *elsewhere)
    assert sent.code == 0, sent.output
    shown = trained.project.attempt("dovetail", "show", link["token"], *elsewhere)
    assert "FINISHED" in shown.output
    assert "checkpoints/last.ckpt" in shown.output
