"""What is in the store while a training goes on, and what two processes of one training make."""

from __future__ import annotations

import signal

import torch

from mlflow_dovetail import store

from .test_endings import WAIT_SECONDS, start, the_run, until


def test_checkpoints_are_there_while_training_and_true_after_a_kill(tmp_path):
    training = start(tmp_path, "dovetail", "wait")
    kept = tmp_path / "mlartifacts" / "lines"
    until(lambda: list(kept.glob("*/artifacts/checkpoints/last.ckpt")), "no checkpoint during the training")
    assert training.poll() is None
    training.send_signal(signal.SIGKILL)
    training.communicate(timeout=WAIT_SECONDS)
    until(lambda: the_run(tmp_path).status == "FAILED", "the recorder closes no run")
    run = the_run(tmp_path)
    (last,) = kept.glob("*/artifacts/checkpoints/last.ckpt")
    (newest,) = (tmp_path / "1" / run.run_id / "checkpoints").glob("*.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == torch.load(newest, weights_only=True)["global_step"]
    assert {one.name for one in last.parent.iterdir()} == {"last.ckpt"}


def test_two_processes_make_one_run_with_nothing_twice(tmp_path):
    training = start(tmp_path, "dovetail", "normal", trainer={"devices": 2, "strategy": "ddp", "accelerator": "cpu"})
    output, _ = training.communicate(timeout=2 * WAIT_SECONDS)
    assert training.returncode == 0, output
    run = the_run(tmp_path)  # there is one
    assert run.status == "FINISHED"
    with store.open(f"sqlite:///{tmp_path / 'mlflow.db'}") as opened:
        steps = [point.step for point in opened.metric_history(run.run_id, "loss")]
        validated = [point.step for point in opened.metric_history(run.run_id, "val/loss")]
    assert steps == [0, 1, 2]
    assert len(validated) == len(set(validated)) == 3
    assert len(list((tmp_path / ".dovetail" / "runs").iterdir())) == 1
