"""Lightning's face of Dovetail."""

from mlflow_dovetail.lightning.callback import DovetailCallback
from mlflow_dovetail.lightning.logger import DovetailLogger

__all__ = ["DovetailCallback", "DovetailLogger"]
