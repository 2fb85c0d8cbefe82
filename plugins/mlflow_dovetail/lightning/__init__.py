"""Lightning's face of Dovetail."""

from typing import TYPE_CHECKING, Any

from mlflow_dovetail.lightning.callback import DovetailCallback
from mlflow_dovetail.lightning.logger import DovetailLogger

if TYPE_CHECKING:
    from mlflow_dovetail.lightning.prediction_tables import PredictionTables

__all__ = ["DovetailCallback", "DovetailLogger", "PredictionTables"]


def __getattr__(name: str) -> Any:
    if name == "PredictionTables":  # it loads Arrow, which a training without tables does not need
        from mlflow_dovetail.lightning.prediction_tables import PredictionTables

        return PredictionTables
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
