"""Tests never touch this project's own runs: each session has a store of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
        patch.delenv("DVC_ROOT", raising=False)
        patch.chdir(ROOT)
        yield os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def configure():
    """Compose configs/train.yaml with overrides, as the command line does."""

    def _configure(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs")):
            return compose(config_name="train", overrides=list(overrides))

    return _configure
