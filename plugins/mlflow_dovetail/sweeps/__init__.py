"""Hydra's face of Dovetail: a multirun is one parent run with a child run for each job."""

from mlflow_dovetail.sweeps.callback import SweepCallback

__all__ = ["SweepCallback"]
