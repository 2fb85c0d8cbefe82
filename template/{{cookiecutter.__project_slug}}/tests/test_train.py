"""Training behaves: it resumes where it stopped, keeps the configuration it used, and can be evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch

FAST = ["debug=default", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"]


def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"{{ cookiecutter.package_name }}.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    done = run("train", *FAST, "name=first", f"hydra.run.dir={output}")
    assert done.returncode == 0, done.stderr
    return output


def test_a_run_writes_its_results_and_its_link(trained):
    assert {"model.ckpt", "metrics.json", "mlflow_run.json"} <= {path.name for path in trained.iterdir()}
    assert "val/acc" in json.loads((trained / "metrics.json").read_text(encoding="utf-8"))


def test_the_kept_configuration_is_the_used_one(trained, _own_store):
    run_id = json.loads((trained / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"]
    kept = mlflow.MlflowClient(_own_store).get_run(run_id)
    used = torch.load(trained / "model.ckpt", weights_only=True)["hyper_parameters"]["model"]
    assert kept.info.status == "FINISHED"
    assert {f"model.{key}": str(value) for key, value in used.items()}.items() <= kept.data.params.items()


def test_resuming_doubles_the_steps(trained, tmp_path):
    last = trained / "checkpoints" / "last.ckpt"
    done = run("train", *FAST, "trainer.max_epochs=2", f"ckpt_path={last}", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    before, after = (
        torch.load(path, weights_only=True)["global_step"] for path in (last, tmp_path / "checkpoints" / "last.ckpt")
    )
    assert after == 2 * before


def test_evaluate_adds_to_the_same_run(trained, _own_store):
    done = run("evaluate", "--run-dir", trained)
    assert done.returncode == 0, done.stderr
    run_id = json.loads((trained / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"]
    kept = mlflow.MlflowClient(_own_store).get_run(run_id)
    assert kept.info.status == "FINISHED"
    assert {"val/acc", "test/acc"} <= kept.data.metrics.keys()


def test_predict_writes_a_row_an_example(trained, tmp_path):
    done = run("predict", trained / "model.ckpt", "data/raw/digits.csv", "-o", tmp_path / "predictions.csv")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 1 + 1797


def test_a_wrong_key_stops_the_run_before_it_starts(tmp_path):
    done = run("train", "+model.chanels=8", f"hydra.run.dir={tmp_path}")
    assert done.returncode != 0
    assert "Did you mean 'model.channels'" in done.stderr
