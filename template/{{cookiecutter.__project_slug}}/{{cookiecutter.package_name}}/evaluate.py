"""Stage evaluate: test the trained model and add `test/...` to the run that made it.

`python -m {{ cookiecutter.package_name }}.evaluate` reads model.ckpt and mlflow_run.json of the project's root;
`--run-dir outputs/...` those of a run that was started by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning import DovetailLogger, PredictionTables
from omegaconf import OmegaConf

from {{ cookiecutter.package_name }}.config import PARAMS_FILE
from {{ cookiecutter.package_name }}.data import DataError
from {{ cookiecutter.package_name }}.datamodule import DigitsDataModule
from {{ cookiecutter.package_name }}.model import DigitClassifier


def main() -> None:
    """Evaluate and write evaluation.json beside the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path(), help="where model.ckpt and mlflow_run.json are")
    run_dir = parser.parse_args().run_dir
    for name in ("model.ckpt", "mlflow_run.json"):
        if not (run_dir / name).exists():
            sys.exit(f"Nothing was evaluated: {run_dir / name} does not exist. Run `dvc repro train` first.")
    try:
        evaluate(run_dir)
    except DataError as error:
        sys.exit(f"Nothing was evaluated. {error}")


def evaluate(run_dir: Path) -> None:
    """Test `run_dir`/model.ckpt on the split that it was not trained on."""
    data = DigitsDataModule.load_from_checkpoint(run_dir / "model.ckpt")
    data.setup("test")
    model = DigitClassifier.load_from_checkpoint(run_dir / "model.ckpt", map_location="cpu")

    try:
        logger = DovetailLogger.from_link(run_dir)
    except DovetailError as error:  # a colleague's clone has the results, and not the store with the run
        logger = False
        print(f"The results are written to evaluation.json and not added to the run. {error}", file=sys.stderr)
    callbacks = [PredictionTables()] if logger and keeps_predictions(run_dir) else []
    trainer = pl.Trainer(
        logger=logger,
        callbacks=callbacks,
        devices=1,
        default_root_dir=run_dir,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():  # the callbacks of the training have nothing to do here
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
        # By its path, for the table to know the epoch and the step that it was saved at.
        (metrics,) = trainer.test(model, datamodule=data, ckpt_path=run_dir / "model.ckpt")
    (run_dir / "evaluation.json").write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def keeps_predictions(run_dir: Path) -> bool:
    """What the training was told by `callbacks.predictions`: in DVC's params.yaml, or in what Hydra kept of a run by hand."""
    kept = [path for path in (run_dir / ".hydra" / "config.yaml", run_dir / PARAMS_FILE) if path.exists()]
    return bool(OmegaConf.select(OmegaConf.load(kept[0]), "callbacks.predictions", default=True)) if kept else True


if __name__ == "__main__":
    main()
