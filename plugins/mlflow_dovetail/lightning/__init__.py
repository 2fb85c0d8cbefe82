"""Lightning's face of Dovetail."""

from mlflow_dovetail.lightning.callback import DovetailCallback
from mlflow_dovetail.lightning.logger import DovetailLogger
from mlflow_dovetail.lightning.prediction_tables import PredictionTables

__all__ = ["DovetailCallback", "DovetailLogger", "PredictionTables"]
