"""A training to be watched, resumed and hurt: `python training.py KIND URI END [ARGUMENTS]`.

KIND is the logger, dovetail or mlflow, and ARGUMENTS are its own, as JSON. END: normal, exception, sys.exit(0),
sys.exit(3), or wait, which trains until somebody ends it. It makes the file `ready` after some steps, and prints the
run's id at the end.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

kind, uri, end = sys.argv[1:4]
arguments = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
trainer_arguments = arguments.pop("trainer", {})
ckpt_path = arguments.pop("ckpt_path", None)


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def on_train_start(self) -> None:
        print("hello from the training")

    def training_step(self, batch, _):
        if self.global_step == 4:
            Path("ready").touch()
            stop()
        if end == "wait":
            time.sleep(0.02)
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val/loss", torch.nn.functional.mse_loss(self.layer(x), y), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def stop() -> None:
    if end == "exception":
        raise ValueError("the model is wrong")
    if end.startswith("sys.exit"):
        sys.exit(int(end[9:-1]))


def make_logger():
    if kind == "dovetail":
        from mlflow_dovetail.lightning import DovetailLogger

        return DovetailLogger("lines", tracking_uri=uri, **arguments)
    from pytorch_lightning.loggers import MLFlowLogger

    from mlflow_dovetail import store

    store.open(uri, "lines").close()
    return MLFlowLogger("lines", tracking_uri=uri, **arguments)


if __name__ == "__main__":
    pl.seed_everything(1, verbose=False)
    x = torch.arange(8.0).reshape(-1, 1) / 8
    batches = DataLoader(TensorDataset(x, 2 * x), batch_size=4)
    logger = make_logger()
    settings = {
        "max_epochs": 2000 if end == "wait" else 3,
        "logger": logger,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "devices": 1,
        **trainer_arguments,
    }
    trainer = pl.Trainer(**settings)
    trainer.fit(Line(), batches, batches, ckpt_path=ckpt_path)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print("run", logger.run_id)
