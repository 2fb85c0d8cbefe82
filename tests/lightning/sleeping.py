"""A training that sleeps where it is told to, and knows how long it slept: what a measurement is held against.

As a script, `python sleeping.py FOLDER` trains in two processes, and each writes what it measured and what it slept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mlflow_dovetail.lightning.speed import SpeedMeter


class Sleeps:
    """`seconds` to sleep by place, and the `naps` that were had there, which are longer on a busy machine."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.naps: defaultdict[str, list[float]] = defaultdict(list)

    def at(self, place: str) -> None:
        if place in self.seconds:
            began = time.perf_counter()
            time.sleep(self.seconds[place])
            self.naps[place].append(time.perf_counter() - began)

    def slept(self, place: str, *, after: int = 0) -> float:
        """In all naps but the first ones."""
        return sum(self.naps[place][after:])


class Rows(Dataset):
    def __init__(self, sleeps: Sleeps, place: str, count: int) -> None:
        self.sleeps, self.place, self.count = sleeps, place, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        self.sleeps.at(self.place)
        return torch.full((1,), index / self.count)


class Stream(IterableDataset):
    """As Rows, but nobody knows how many; so Lightning asks for one more ahead."""

    def __init__(self, sleeps: Sleeps, place: str, count: int) -> None:
        self.rows = Rows(sleeps, place, count)

    def __iter__(self):
        return (self.rows[index] for index in range(self.rows.count))


class SleepingLoader(DataLoader):
    """As one whose workers take long to start: that happens in `iter`."""

    def __iter__(self):
        self.dataset.sleeps.at(f"{self.dataset.place}_iter")
        return super().__iter__()


class SleepingModule(pl.LightningModule):
    def __init__(self, sleeps: Sleeps) -> None:
        super().__init__()
        self.sleeps = sleeps
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        self.sleeps.at("training_step")
        loss = self.layer(first_tensor(batch)).pow(2).mean()
        self.log("loss", loss, batch_size=1)
        return loss

    def on_train_batch_end(self, *_):
        self.sleeps.at("hook")

    def validation_step(self, batch, _):
        self.sleeps.at("sanity" if self.trainer.sanity_checking else "validation_step")
        self.log("val/loss", self.layer(batch).mean(), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SleepingLogger(Logger):
    """Somebody else's logger."""

    name, version = "sleeping", 0

    def __init__(self, sleeps: Sleeps) -> None:
        super().__init__()
        self.sleeps = sleeps

    def log_hyperparams(self, *_):
        pass

    def log_metrics(self, metrics, step=None):
        self.sleeps.at("validation_logger" if "val/loss" in metrics else "logger")


class SleepingCheckpoint(Callback):
    def __init__(self, sleeps: Sleeps) -> None:
        self.sleeps = sleeps

    def on_train_epoch_end(self, *_):
        self.sleeps.at("epoch_end")


def first_tensor(batch):
    while not isinstance(batch, torch.Tensor):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return batch


def train(meter: SpeedMeter, sleeps: Sleeps, *, loader=None, module=None, ckpt_path=None, **arguments) -> pl.Trainer:
    """Two epochs of three batches of two, each with a validation of two batches, unless it is said otherwise."""
    validation = SleepingLoader(Rows(sleeps, "validation", 4), batch_size=2)
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": SleepingLogger(sleeps),
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **arguments,
        "callbacks": [meter, SleepingCheckpoint(sleeps), *arguments.get("callbacks", [])],
    }
    trainer = pl.Trainer(**settings)
    rows = SleepingLoader(Rows(sleeps, "data", 6), batch_size=2) if loader is None else loader
    trainer.fit(module or SleepingModule(sleeps), rows, validation, ckpt_path=ckpt_path)
    return trainer


if __name__ == "__main__":
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    folder, sleeps, kept, logged = Path(sys.argv[1]), Sleeps(data=0.02 * (rank + 1)), [], []
    train(SpeedMeter(kept.append, logged.append), sleeps, devices=2, strategy="ddp")
    record = {"kept": [asdict(one) for one in kept], "logged": logged, "slept": sleeps.slept("data")}
    (folder / f"rank_{rank}.json").write_text(json.dumps(record))
