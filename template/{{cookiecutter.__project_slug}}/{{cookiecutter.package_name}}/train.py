"""Train one model: `python -m {{ cookiecutter.package_name }}.train model=mlp trainer.max_epochs=3`.

Hydra chooses the configuration and the output directory. The DVC stage calls the same program with the composed
`params.yaml` and the project's root as output directory (dvc.yaml); by hand, each run has its own under `outputs/`.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning import DovetailLogger, PredictionTables
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from {{ cookiecutter.package_name }} import config, ranks
from {{ cookiecutter.package_name }}.data import DataError
from {{ cookiecutter.package_name }}.datamodule import DigitsDataModule
from {{ cookiecutter.package_name }}.model import DigitClassifier

log = logging.getLogger(__name__)


# The classes that a configuration may have Hydra make: the sweep's parent run and Optuna's samplers.
@hydra.main(
    config_path="../configs", config_name="train", execution_whitelist=["mlflow_dovetail.*", "optuna.samplers.*"]
)
def main(cfg: DictConfig) -> float:
    """Validate, train, and return the monitored metric's best value: what a sweep optimises."""
    try:
        return train(config.validate(cfg), Path(HydraConfig.get().runtime.output_dir))
    except (config.ConfigError, DataError) as error:
        sys.exit(f"Nothing was trained. {error}")
    except DovetailError as error:
        sys.exit(f"The run could not be recorded. {error}")


def train(cfg: DictConfig, output_dir: Path) -> float:
    """Train with a valid configuration; write model.ckpt, metrics.json and mlflow_run.json to `output_dir`."""
    processes = ranks.count(cfg.trainer)
    # Tensor cores for float32 matrix products where the GPU has them; no effect elsewhere.
    torch.set_float32_matmul_precision("high")
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    values = OmegaConf.to_container(cfg, resolve=True)
    data = DigitsDataModule(values["data"])
    data.setup("fit")
    model = DigitClassifier(values["model"])
    if values["trainer"].pop("compile"):
        model.compile()  # in place: a checkpoint has the names of the network as it was written

    logger = DovetailLogger(
        experiment_name=cfg.logger.experiment_name,
        tracking_uri=cfg.logger.tracking_uri,
        run_name=cfg.name,
        tags=values["tags"],
        run_id=cfg.logger.run_id,
        notes=cfg.notes,
    )
    with logger:
        with ranks.started(processes, train, cfg, output_dir) as plugins:
            logger.log_config(cfg)
            logger.log_dataset(cfg.data.raw, name=Path(cfg.data.raw).stem, context="training", digest=data.raw_md5)

            kept = {"dirpath": output_dir / "checkpoints", "enable_version_counter": False}
            best = ModelCheckpoint(filename="best", monitor=cfg.callbacks.monitor, mode=cfg.callbacks.mode, **kept)
            last = ModelCheckpoint(filename="last", **kept)  # `save_last` would keep the epoch of the last improvement
            trainer = pl.Trainer(
                **values["trainer"],
                logger=logger,
                plugins=plugins,
                callbacks=[best, last, *callbacks(cfg.callbacks)],
                default_root_dir=output_dir,
            )
            trainer.fit(model, datamodule=data, ckpt_path=cfg.ckpt_path)

        score = float(best.best_model_score)
        if trainer.is_global_zero:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            write_json(output_dir / "metrics.json", {**metrics, f"best/{cfg.callbacks.monitor}": score})
            shutil.copyfile(best.best_model_path, output_dir / "model.ckpt")
            logger.write_link(output_dir)
            trained = DigitClassifier.load_from_checkpoint(output_dir / "model.ckpt", map_location="cpu")
            logger.log_torch_model(trained.network, data.splits["val"][:4][0], registered_name=cfg.logger.register)
    log.info("%s %.4f (best), run %s", cfg.callbacks.monitor, score, logger.run_id)
    return score


def callbacks(cfg: DictConfig) -> list[Callback]:
    """The optional callbacks that the configuration turns on."""
    chosen: list[Callback] = []
    if cfg.predictions:
        chosen.append(PredictionTables())
    if cfg.early_stopping_patience is not None:
        chosen.append(EarlyStopping(monitor=cfg.monitor, mode=cfg.mode, patience=cfg.early_stopping_patience))
    return chosen


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write as DVC's metrics are read: sorted, indented."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        config.check_syntax()
    except config.ConfigError as error:
        sys.exit(f"Nothing was trained. {error}")
    main()
