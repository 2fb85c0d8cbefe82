"""The networks and how they learn. A new one: a class here, a schema in config.py, a file in configs/model/."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

CLASSES = 10


def cnn(channels: int, dropout: float) -> nn.Module:
    """A convolution, a normalisation and a pool, twice; then a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * channels * 2 * 2, CLASSES),
    )


def mlp(hidden: int, dropout: float) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, CLASSES),
    )


NETWORKS = {"cnn": cnn, "mlp": mlp}


class DigitClassifier(pl.LightningModule):
    """Images (batch, 1, 8, 8) in 0-1 to scores (batch, 10).

    Args:
        model: The `model` group of the configuration, as plain values: a checkpoint keeps them.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        arguments = {key: value for key, value in model.items() if key not in ("name", "lr", "weight_decay")}
        self.network = NETWORKS[model["name"]](**arguments)
        self.lr, self.weight_decay = model["lr"], model["weight_decay"]
        self.loss = nn.CrossEntropyLoss()
        self.accuracy = nn.ModuleDict(
            {f"{stage}_acc": MulticlassAccuracy(CLASSES, average="micro") for stage in ("val", "test")}
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores before the softmax."""
        scores: Tensor = self.network(images)
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Cross entropy, as `train/loss`."""
        images, labels = batch
        loss: Tensor = self.loss(self(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Tensor]:
        """`val/loss` and `val/acc`; what it returns is the run's prediction table."""
        return self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Tensor]:
        """`test/loss` and `test/acc`."""
        return self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        scores = self(images)
        accuracy = self.accuracy[f"{stage}_acc"]
        accuracy(scores, labels)
        losses = nn.functional.cross_entropy(scores, labels, reduction="none")
        self.log(f"{stage}/loss", losses.mean(), on_epoch=True, on_step=False, sync_dist=True)
        self.log(f"{stage}/acc", accuracy, on_epoch=True, on_step=False, prog_bar=True)
        return {"scores": scores, "loss": losses}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
