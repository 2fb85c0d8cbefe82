"""What `dovetail doctor` looks at: a project and its machine, read and never changed, each check by itself."""

from mlflow_dovetail.doctor.examining import examine
from mlflow_dovetail.doctor.records import Check, Finding, Level

__all__ = ["Check", "Finding", "Level", "examine"]
