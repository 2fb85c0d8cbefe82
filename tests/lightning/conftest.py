"""A real Lightning module, small enough to train in a moment, and a store for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from mlflow_dovetail import store
from mlflow_dovetail.run.open_runs import OPEN_RUNS


class Line(pl.LightningModule):
    """y = 2x, learned."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val/loss", torch.nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Failing(Line):
    def training_step(self, batch, _):
        raise ValueError("the model is wrong")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No run outlives its test: many tests share a process."""
    yield
    for run in set(OPEN_RUNS.values()):
        run.close()
    assert OPEN_RUNS == {}


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def reader(uri: str) -> Callable[[], store.MlflowStore]:
    return lambda: store.open(uri)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., pl.Trainer]:
    def _fit(logger, module: pl.LightningModule | None = None, epochs: int = 2, callbacks=(), ckpt_path=None):
        x = torch.arange(8.0).reshape(-1, 1) / 8
        loader = DataLoader(TensorDataset(x, 2 * x), batch_size=4)
        checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "ckpt", monitor="val/loss", save_last=True)
        trainer = pl.Trainer(
            max_epochs=epochs,
            logger=logger,
            callbacks=[checkpoint, *callbacks],
            accelerator="cpu",
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module or Line(), loader, loader, ckpt_path=ckpt_path)
        return trainer

    return _fit
