"""One Lightning training of the digits: `python fit.py ARM STEPS THREADS`, with its figures in `figures.json`.

ARM is "none" (no logger), "noop" (Lightning's logger that does nothing: what Lightning itself takes to hand metrics
over) or "dovetail". THREADS are torch's; 0 leaves torch's own choice.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

LOSS = "bench/loss"
BATCH, REPEATS, VALIDATION = 64, 80, 360
CHANNELS, CLASSES = 32, 10
FIRST_STEPS = 100


class DigitClassifier(pl.LightningModule):
    """The template's convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1), nn.BatchNorm2d(2 * CHANNELS), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8 * CHANNELS, CLASSES)),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Two metrics every step."""
        images, labels = batch
        scores = self.network(images)
        loss = nn.functional.cross_entropy(scores, labels)
        self.log_dict({LOSS: loss, "bench/accuracy": (scores.argmax(1) == labels).float().mean()})
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        self.log("val/loss", nn.functional.cross_entropy(self.network(images), labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.003)


class StepClock(Callback):
    """When the steps were done, the first of them left out."""

    first = last = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        self.last = time.perf_counter()
        if trainer.global_step == FIRST_STEPS:
            self.first = self.last


def make_loaders() -> tuple[DataLoader[object], DataLoader[object]]:
    """The training digits many times over, so that an epoch has as many steps as that of a larger set."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels))
    validation, train = torch.utils.data.random_split(data, [VALIDATION, len(data) - VALIDATION])
    return DataLoader(ConcatDataset([train] * REPEATS), BATCH, shuffle=True), DataLoader(validation, VALIDATION)


def make_logger(arm: str) -> Logger | bool:
    if arm == "noop":
        return DummyLogger()
    if arm == "dovetail":
        from mlflow_dovetail.lightning import DovetailLogger

        return DovetailLogger(Path.cwd().name)
    return False


def main() -> None:
    arm, steps, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    if threads:
        torch.set_num_threads(threads)
    pl.seed_everything(0, verbose=False)
    clock, checkpoint = StepClock(), ModelCheckpoint("checkpoints", monitor="val/loss", save_last=True)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(
        max_steps=steps, logger=make_logger(arm), log_every_n_steps=1, callbacks=[clock, checkpoint], **quiet
    )
    begun, cpu_begun = time.perf_counter(), time.process_time()
    trainer.fit(DigitClassifier(), *make_loaders())
    fit_seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    loop_us = (clock.last - clock.first) * 1e6 / (steps - FIRST_STEPS)
    figures = {"fit_seconds": fit_seconds, "cpu_seconds": cpu_seconds, "loop_us": loop_us}
    figures["threads"] = torch.get_num_threads()
    Path("figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
