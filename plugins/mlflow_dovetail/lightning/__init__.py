"""Lightning's face of Dovetail."""

from mlflow_dovetail.lightning.logger import DovetailLogger

__all__ = ["DovetailLogger"]
