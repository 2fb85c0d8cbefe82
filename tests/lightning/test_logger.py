"""DovetailLogger: MLFlowLogger to its users, true in what it keeps."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger

from mlflow_dovetail import names
from mlflow_dovetail.errors import RunNotFound, StoreUnavailable, is_interrupt
from mlflow_dovetail.lightning import DovetailLogger

from .conftest import Failing


def test_a_finished_run_has_its_metrics_and_checkpoints(uri, fit, reader, tmp_path):
    logger = DovetailLogger("lines", tracking_uri=uri, run_name="first", tags={"team": "a"}, notes="**why**")
    trainer = fit(logger)
    run = reader().get_run(logger.run_id)
    assert isinstance(logger, MLFlowLogger)
    assert (run.status, run.name, run.experiment_name) == ("FINISHED", "first", "lines")
    assert run.tags["team"] == "a"
    assert run.tags[names.TAG_MLFLOW_NOTE] == "**why**"
    assert len(reader().metric_history(run.run_id, "loss")) == 4
    kept = {artifact.path: artifact for artifact in reader().list_artifacts(run.run_id)}
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= kept.keys()
    best = Path(trainer.checkpoint_callback.best_model_path)
    stored = tmp_path / "mlartifacts" / "lines" / run.run_id / "artifacts" / "checkpoints" / "best.ckpt"
    assert stored.read_bytes() == best.read_bytes()
    assert not stored.is_symlink()


def test_a_failed_run_says_so(uri, fit, reader):
    logger = DovetailLogger("lines", tracking_uri=uri)
    with pytest.raises(ValueError, match="the model is wrong"):
        fit(logger, Failing())
    assert reader().get_run(logger.run_id).status == "FAILED"


def test_appending_makes_a_run_running_and_finished_again(uri, fit, reader):
    first = DovetailLogger("lines", tracking_uri=uri)
    fit(first)
    second = DovetailLogger(tracking_uri=uri, run_id=first.run_id)
    second.log_metrics({"test/loss": 0.5})
    assert reader().get_run(first.run_id).status == "RUNNING"
    second.finalize("success")
    again = reader().get_run(first.run_id)
    assert again.status == "FINISHED"
    assert {"loss", "val/loss", "test/loss"} <= again.metrics.keys()


def test_params_are_whole_and_secrets_masked(uri, reader):
    logger = DovetailLogger("lines", tracking_uri=uri)
    long = "x" * 3000
    logger.log_config({"model": {"lr": 0.1, "layers": []}, "text": long, "db": {"password": "hunter2"}, "n": 10**20})
    logger.finalize()
    params = reader().get_run(logger.run_id).params
    assert params["model.lr"] == "0.1"
    assert params["model.layers"] == "[]"
    assert params["text"] == long
    assert params["n"] == "1" + "0" * 20
    config = next(Path.cwd().rglob("config/config.yaml")).read_text()
    assert "hunter2" not in config + str(params)
    assert "lr: 0.1" in config


def test_a_param_over_the_limit_is_cut_and_marked(uri, reader):
    logger = DovetailLogger("lines", tracking_uri=uri)
    logger.log_hyperparams({"text": "x" * 7000})
    logger.finalize()
    value = reader().get_run(logger.run_id).params["text"]
    assert len(value) == names.MAX_PARAM_LENGTH
    assert value.endswith("…")


def test_a_dataset_has_the_digest_that_dvc_knows(uri, reader, tmp_path):
    (tmp_path / "data.csv").write_bytes(b"a,b\n1,2\n")
    logger = DovetailLogger("lines", tracking_uri=uri)
    logger.log_dataset("data.csv", name="numbers", context="training")
    logger.finalize()
    (data,) = reader().get_run(logger.run_id).inputs
    assert data.digest == hashlib.md5(b"a,b\n1,2\n").hexdigest()
    assert (data.name, data.context) == ("numbers", "training")
    assert str(tmp_path) in str(data.source)


def test_a_model_loads_without_the_code_that_made_it(uri, fit, reader, monkeypatch):
    import mlflow

    logger = DovetailLogger("lines", tracking_uri=uri)
    trainer = fit(logger)
    network, example = trainer.lightning_module.layer, torch.zeros(2, 1)
    model_id = logger.log_torch_model(network, example, registered_name="line")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    loaded = mlflow.pytorch.load_model(f"models:/{model_id}")
    x = torch.linspace(0, 1, 5).reshape(-1, 1)
    assert torch.allclose(loaded(x), network(x))
    version = mlflow.MlflowClient(uri).get_model_version("line", "1")
    assert version.run_id == logger.run_id
    assert not list(Path.cwd().rglob("*.pkl"))
    logger.log_torch_model(network, example, registered_name="line")
    assert mlflow.MlflowClient(uri).get_model_version("line", "2").run_id == logger.run_id


def test_the_link_file_names_the_run_and_no_password(uri, tmp_path):
    logger = DovetailLogger("lines", tracking_uri=uri)
    link = json.loads(logger.write_link(tmp_path).read_text())
    assert link == {"run_id": logger.run_id, "store": "sqlite:///mlflow.db", "token": logger.token}
    assert len(link["token"]) == 32


def test_logging_does_not_disturb_the_training_and_names_differ(uri, reader):
    names_seen = set()
    for _ in range(3):
        random.seed(1)
        expected = random.Random(1).random()
        logger = DovetailLogger("lines", tracking_uri=uri)
        names_seen.add(reader().get_run(logger.run_id).name)
        assert random.random() == expected
    assert len(names_seen) > 1


def test_the_address_is_read_when_the_logger_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    logger = DovetailLogger("lines")
    assert logger.run_id
    assert (tmp_path / "elsewhere.db").exists()


def test_a_folder_store_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"sqlite:///mlflow\.db"):
        DovetailLogger("lines", tracking_uri="file:./mlruns")


def test_processes_that_start_at_once_on_a_fresh_database_all_log(tmp_path):
    code = (
        "from mlflow_dovetail.lightning import DovetailLogger\n"
        f"logger = DovetailLogger('lines', tracking_uri='sqlite:///{tmp_path / 'mlflow.db'}')\n"
        "logger.log_metrics({'x': 1.0}); logger.finalize('success')"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    from mlflow_dovetail import store

    with store.open(f"sqlite:///{tmp_path / 'mlflow.db'}") as runs:
        found = runs.search(names.TAG_SCHEMA, str(names.SCHEMA_VERSION))
    assert [(run.status, run.metrics["x"]) for run in found] == [("FINISHED", 1.0)] * 3


def test_the_last_checkpoint_is_the_last_one(uri, fit, reader, tmp_path):
    """`save_last` of a callback with a monitor keeps the epoch of the last improvement."""
    logger = DovetailLogger("lines", tracking_uri=uri, log_model="all")
    last = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "newest", filename="newest")
    fit(logger, epochs=3, callbacks=[last])
    stored = tmp_path / "mlartifacts" / "lines" / logger.run_id / "artifacts" / "checkpoints"
    assert torch.load(stored / "last.ckpt", weights_only=True)["epoch"] == 2
    assert {path.name.partition("=")[0] for path in stored.iterdir()} == {"best.ckpt", "last.ckpt", "epoch"}


def test_a_network_that_cannot_be_exported_costs_a_warning(uri, reader):
    class Branching(torch.nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    logger = DovetailLogger("lines", tracking_uri=uri)
    with pytest.warns(UserWarning, match="The model is not in MLflow, its checkpoint is"):
        assert logger.log_torch_model(Branching(), torch.ones(2, 1)) is None
    logger.finalize()
    assert reader().get_run(logger.run_id).tags["dovetail.status.model"].startswith("degraded: ")
    with pytest.raises(Exception, match="data-dependent"):
        logger.log_torch_model(Branching(), torch.ones(2, 1), registered_name="branching")


def test_checkpoints_that_cannot_be_stored_do_not_hide_the_end(uri, fit, reader, tmp_path):
    logger = DovetailLogger("lines", tracking_uri=uri)
    artifacts = tmp_path / "mlartifacts" / "lines" / logger.run_id / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / "checkpoints").write_text("a file where the folder belongs")
    fit(logger)
    run = reader().get_run(logger.run_id)
    assert run.status == "FINISHED"
    assert run.tags["dovetail.status.journal"].startswith("degraded: not stored yet, ")
    assert len(reader().metric_history(run.run_id, "loss")) == 4


def test_a_link_leads_back_to_its_run_also_in_another_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = DovetailLogger("lines", tracking_uri="sqlite:///runs/other.db")
    first.write_link(tmp_path)
    again = DovetailLogger.from_link(tmp_path)
    assert again.run_id == first.run_id
    with pytest.raises(RunNotFound):
        (tmp_path / "mlflow_run.json").write_text(json.dumps({"run_id": "0" * 32, "store": "sqlite:///runs/other.db"}))
        DovetailLogger.from_link(tmp_path)


def test_what_fails_within_the_block_fails_the_run(uri, reader):
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(error), DovetailLogger("lines", tracking_uri=uri) as logger:
            run_id = logger.run_id
            raise error("after the training")
        assert reader().get_run(run_id).status == status


def test_a_ring_of_causes_ends():
    error = ValueError("itself")
    error.__cause__ = error
    assert not is_interrupt(error)
