"""A training that goes on in the same run: RUNNING again, one series, an attempt number."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl

from mlflow_dovetail import names
from mlflow_dovetail.lightning import DovetailLogger


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_training_is_one_series(uri, fit, reader, tmp_path):
    def every_second(name: str) -> pl.callbacks.ModelCheckpoint:
        return pl.callbacks.ModelCheckpoint(dirpath=tmp_path / name, every_n_epochs=2, save_top_k=-1)

    first = DovetailLogger("lines", tracking_uri=uri)
    first.log_hyperparams({"lr": 0.1})
    fit(first, epochs=4, callbacks=[every_second("kept")])
    before = reader().metric_history(first.run_id, "loss")

    second = DovetailLogger(tracking_uri=uri, run_id=first.run_id)
    second.log_hyperparams({"lr": 0.05})
    assert reader().get_run(first.run_id).status == "RUNNING"
    (middle,) = (tmp_path / "kept").glob("epoch=1-*.ckpt")
    fit(second, epochs=6, ckpt_path=middle, callbacks=[every_second("kept")])

    run = reader().get_run(first.run_id)
    assert run.status == "FINISHED"
    assert run.tags[names.TAG_ATTEMPT] == "2"
    assert run.params["lr"] == "0.1"
    assert run.tags[names.TAG_CHANGED_PARAMS] == '{"2": {"lr": "0.05"}}'
    steps = [point.step for point in reader().metric_history(first.run_id, "loss")]
    assert steps == sorted(set(steps)), "a step is doubled"
    assert len(steps) > len(before)
    repeated = {point.step for point in reader().metric_history(first.run_id, "attempt_2/loss")}
    assert repeated == {point.step for point in before if point.step >= 4}


def test_a_test_after_the_fit_goes_to_the_same_run(uri, fit, reader):
    logger = DovetailLogger("lines", tracking_uri=uri)
    trainer = fit(logger)
    logger.log_metrics({"test/loss": 0.25}, trainer.global_step)
    logger.finalize("success")
    run = reader().get_run(logger.run_id)
    assert (run.status, run.metrics["test/loss"]) == ("FINISHED", 0.25)
    assert names.TAG_CHANGED_PARAMS not in run.tags
