"""{{ cookiecutter.project_name }}."""

import logging
import os
import warnings
from pathlib import Path

from dotenv import load_dotenv

# A queued DVC experiment runs in a temporary copy that holds no .env: DVC_ROOT names the project itself.
load_dotenv(Path(os.environ.get("DVC_ROOT", ".")) / ".env")
# Nothing leaves the house: MLflow counts its users unless told not to. DVC's switch stands in .dvc/config.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# What the libraries say that nobody can act on here: loader processes for data that is in memory, a deprecation inside
# Lightning 2.6 with torch 2.13, checkpoints of the last run that this one replaces, and advertisements for cloud services.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
