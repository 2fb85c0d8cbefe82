"""Where runs are kept: one contract, MLflow behind it, and a fake in memory."""

from mlflow_dovetail.store.address import database_path, project_root, resolve_uri
from mlflow_dovetail.store.contract import RunStore
from mlflow_dovetail.store.memory_store import MemoryStore
from mlflow_dovetail.store.mlflow_store import MlflowStore
from mlflow_dovetail.store.opening import open
from mlflow_dovetail.store.reach import is_reachable

__all__ = [
    "MemoryStore",
    "MlflowStore",
    "RunStore",
    "database_path",
    "is_reachable",
    "open",
    "project_root",
    "resolve_uri",
]
