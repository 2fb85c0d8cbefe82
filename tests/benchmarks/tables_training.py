"""What prediction tables with images of 224×224 cost a training: `python tests/benchmarks/tables_training.py`.

One Lightning fit of a small residual network on normalised images, in which every other epoch's validation is kept: so
both kinds of epoch meet the same load of the machine. The first epoch, in which the images are new, stands apart. The
callback's own share, which noise does not hide, is the CPU time of its hook over that of the whole epoch. `ids` are of
the batch; without them `PredictionTables` names each example by its content.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mlflow_dovetail.lightning import DovetailLogger, PredictionTables

SIDE = 224


class Images(Dataset[dict[str, Any]]):
    """Normalised float images, with an id where it is wanted."""

    def __init__(self, count: int, *, has_ids: bool) -> None:
        random = torch.Generator().manual_seed(0)
        self._images = (torch.rand((count, 3, SIDE, SIDE), generator=random) - 0.45) / 0.225
        self._has_ids = has_ids

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {"image": self._images[index], "label": index % 10}
        return row | {"id": f"img_{index:06d}.jpg"} if self._has_ids else row


def block(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU())


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 7, 4, 3), nn.ReLU())
        self.net = nn.Sequential(stem, block(32, 64), block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(128, 10)

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.head(self.net(batch["image"])), batch["label"])

    def validation_step(self, batch: dict[str, Any], _: int) -> dict[str, torch.Tensor]:
        scores = self.head(self.net(batch["image"]))
        return {"scores": scores, "loss": nn.functional.cross_entropy(scores, batch["label"], reduction="none")}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


class EveryOther(PredictionTables):
    """Keeps the epochs 0, 2, 4, ..., and measures what that takes."""

    cpu = 0.0

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.current_epoch % 2 == 0:
            begun = time.thread_time()
            super().on_validation_batch_end(trainer, *rest)
            self.cpu += time.thread_time() - begun


class Clock(Callback):
    """Wall and CPU seconds of each epoch, and of them the callback's."""

    def __init__(self, tables: EveryOther) -> None:
        self._tables = tables
        self.epochs: list[tuple[float, float, float]] = []

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), self._tables.cpu

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._now()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wall, cpu, own = (now - before for now, before in zip(self._now(), self._began, strict=True))
        self.epochs.append((wall, cpu, own))


def measure(options: argparse.Namespace, *, has_ids: bool) -> tuple[str, ...]:
    tables = EveryOther()
    clock = Clock(tables)
    with tempfile.TemporaryDirectory(prefix="tables-", ignore_cleanup_errors=True) as root:
        os.chdir(root)
        trainer = Trainer(
            max_epochs=options.epochs,
            logger=DovetailLogger("bench", tracking_uri=f"sqlite:///{root}/mlflow.db"),
            callbacks=[tables, clock],
            accelerator="cpu",
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        train, val = (Images(count, has_ids=has_ids) for count in (options.train, options.val))
        trainer.fit(Net(), DataLoader(train, options.batch), DataLoader(val, options.batch))
        trainer.loggers[0].finalize("success")
    first, kept, plain = clock.epochs[0], clock.epochs[2::2], clock.epochs[1::2]
    ratio = statistics.median(one[0] for one in kept) / statistics.median(one[0] for one in plain)
    own = statistics.median(one[2] for one in kept)
    share = own / statistics.median(one[1] for one in plain)
    return (
        "ids of the batch" if has_ids else "ids by content",
        f"{statistics.median(one[0] for one in plain):.2f}",
        f"{100 * (ratio - 1):+.2f} %",
        f"{100 * share:.2f} %",
        f"{1e6 * own / options.val:,.0f}",
        f"{1e6 * first[2] / options.val:,.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=512, help="images an epoch")
    parser.add_argument("--val", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, torch {torch.__version__}: {options.train} and {options.val} images\n")
    print("| | s an epoch without | with, by the clock | by CPU time | µs an image | of them in the first epoch |")
    print("|---|---|---|---|---|---|")
    for has_ids in (True, False):
        print(f"| {' | '.join(measure(options, has_ids=has_ids))} |", flush=True)


if __name__ == "__main__":
    main()
