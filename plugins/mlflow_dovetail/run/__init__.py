"""A run from its start to its end: the rooms put together, in the trainer and in the recorder beside it."""

from mlflow_dovetail.run.lookup import revs, runs
from mlflow_dovetail.run.predictions import load_predictions
from mlflow_dovetail.run.start import ActiveRun, start_run, track
from mlflow_dovetail.run.tracked import Run

__all__ = ["ActiveRun", "Run", "load_predictions", "revs", "runs", "start_run", "track"]
