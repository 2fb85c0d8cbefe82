"""The digits in batches, for training and evaluation."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from {{ cookiecutter.package_name }}.data import load_splits


class DigitsDataModule(pl.LightningDataModule):
    """Batches of images (batch, 1, 8, 8) float32 and labels (batch,) int64.

    Args:
        data: The `data` group of the configuration, as plain values: a checkpoint keeps them.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.data = data
        self.splits: dict[str, TensorDataset] = {}
        self.raw_md5 = ""

    def setup(self, stage: str) -> None:
        """Load the splits once."""
        if not self.splits:
            arrays, self.raw_md5 = load_splits(self.data)
            self.splits = {
                name: TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
                for name, (images, labels) in arrays.items()
            }

    def train_dataloader(self) -> DataLoader[Any]:
        """The training split, shuffled anew in each epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split, in order."""
        return self._loader("test")

    def _loader(self, name: str, *, shuffle: bool = False) -> DataLoader[Any]:
        workers = self.data["num_workers"]
        return DataLoader(
            self.splits[name],
            batch_size=self.data["batch_size"],
            shuffle=shuffle,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
