"""What the run of a `dvc repro` holds."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import yaml

from mlflow_dovetail import names
from mlflow_dovetail.run import values

PREDICT = """
import sys, mlflow, numpy
images = numpy.zeros((3, 1, 8, 8), dtype=numpy.float32)
print("pyfunc", mlflow.pyfunc.load_model(sys.argv[1]).predict(images).shape)
import torch
print("pytorch", tuple(mlflow.pytorch.load_model(sys.argv[1])(torch.from_numpy(images)).shape))
"""


@pytest.fixture(scope="module")
def run(trained):
    return trained.project.store.get_run(trained.project.run_id)


def artifacts(run) -> Path:
    return Path(url2pathname(urlsplit(run.artifact_uri).path))


def test_params_are_the_whole_configuration(trained, run):
    params = yaml.safe_load((trained.project.path / "params.yaml").read_text(encoding="utf-8"))
    assert run.params == values.flatten(params)
    assert run.params["model.lr"] == "0.003"
    assert run.params["trainer.max_epochs"] == "15"


def test_metrics_have_a_history(trained, run):
    reader = trained.project.store
    accuracy = reader.metric_history(run.run_id, "val/acc")
    assert len(accuracy) == 15
    assert max(point.value for point in accuracy) == pytest.approx(trained.project.json("metrics.json")["best/val/acc"])
    assert len({point.step for point in reader.metric_history(run.run_id, "train/loss")}) > 15
    assert run.metrics["test/acc"] == pytest.approx(trained.project.json("evaluation.json")["test/acc"])


def test_artifacts_lie_in_the_project(trained, run):
    folder = artifacts(run)
    assert folder.is_absolute()
    assert folder.is_relative_to(trained.project.path / "mlartifacts")
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == (trained.project.path / "model.ckpt").read_bytes()
    assert (folder / "checkpoints" / "last.ckpt").stat().st_size > 1000


def test_the_kept_configuration_is_params_yaml(trained, run):
    kept = yaml.safe_load((artifacts(run) / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert kept == yaml.safe_load((trained.project.path / "params.yaml").read_text(encoding="utf-8"))


def test_the_logged_model_predicts(trained, run, tmp_path):
    outputs = trained.project.client.get_run(run.run_id).outputs.model_outputs
    assert len(outputs) == 1
    environment = {"MLFLOW_TRACKING_URI": trained.project.uri}
    done = trained.project.run(sys.executable, "-c", PREDICT, f"models:/{outputs[0].model_id}", **environment)
    assert "pyfunc (3, 10)" in done.output
    assert "pytorch (3, 10)" in done.output


def test_the_dataset_is_named_by_dvcs_hash(trained, run):
    raw = trained.project.path / "data" / "raw" / "digits.csv"
    assert {one.name for one in run.inputs} == {"digits", "data/prepared", "model.ckpt"}
    (data,) = [one for one in run.inputs if one.name == "digits"]
    assert data.context == "training"
    assert data.digest == hashlib.md5(raw.read_bytes()).hexdigest()
    assert data.digest in raw.with_name("digits.csv.dvc").read_text(encoding="utf-8")
    assert raw.as_uri() in data.source


def test_the_code_is_kept_whole_without_data_and_stores(trained, run):
    assert run.tags[names.TAG_CODE_VERDICT] == "exact"
    done = trained.project.run("dovetail", "patch", "show", run.run_id, "--stat")
    changed = {line.split("|")[0].strip() for line in done.output.splitlines() if "|" in line}
    assert changed == {"dvc.lock", "params.yaml"}, "the pipeline's own notes, as they were when the training began"


def test_tags_say_where_the_run_comes_from(trained, run):
    assert run.tags[names.TAG_GIT_COMMIT] == trained.baseline
    assert run.tags[names.TAG_GIT_BRANCH] == "main"
    assert run.tags[names.TAG_GIT_DIRTY] == "false"
    assert run.tags[names.TAG_DVC_STAGE] == "train"
    assert "digits_classifier.train" in run.tags[names.TAG_COMMAND]
    assert run.tags[names.TAG_STATUS_PREFIX + "context"] == "ok"
    assert run.token == run.tags[names.TAG_TOKEN] == trained.project.json("mlflow_run.json")["token"]
