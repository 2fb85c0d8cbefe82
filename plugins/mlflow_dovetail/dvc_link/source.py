"""MLflow's dataset source for data that DVC has.

Whoever imports it from here has MLflow imported first, and whole: MLflow loads the class through an entry point, which
would find it half made if it were what imports MLflow.
"""

import mlflow.data  # noqa: F401

from mlflow_dovetail.dvc_link.dataset_source import DvcDatasetSource

__all__ = ["DvcDatasetSource"]
