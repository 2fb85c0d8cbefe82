"""The stored contract: every name that Dovetail writes into a run, a folder or an environment.

A name that has been released is never renamed or reused: runs of years ago are read by it.
A new meaning gets a new name and raises `SCHEMA_VERSION`.
"""

SCHEMA_VERSION = 1

# Tags. All of Dovetail's own begin with "dovetail.".
TAG_SCHEMA = "dovetail.schema"
TAG_TOKEN = "dovetail.token"
TAG_GIT_COMMIT = "dovetail.git.commit"
TAG_GIT_BRANCH = "dovetail.git.branch"
TAG_GIT_DIRTY = "dovetail.git.dirty"
TAG_GIT_REMOTE = "dovetail.git.remote"
TAG_CODE_VERDICT = "dovetail.code.verdict"
TAG_CODE_TREE = "dovetail.code.tree"
TAG_CODE_DIGEST = "dovetail.code.digest"
TAG_CODE_BASE = "dovetail.code.base"
TAG_COMMAND = "dovetail.command"
TAG_HOST = "dovetail.host"
TAG_OS = "dovetail.os"
TAG_PYTHON = "dovetail.python"
TAG_CUDA = "dovetail.cuda"
TAG_GPUS = "dovetail.gpus"
TAG_GPU_DEVICES = "dovetail.gpu.devices"
TAG_GPU_DRIVER = "dovetail.gpu.driver"
TAG_GPU_CHOSEN = "dovetail.gpu.chosen"
TAG_ADVICE = "dovetail.advice"
TAG_SLURM_JOB = "dovetail.slurm.job"
TAG_DVC_STAGE = "dovetail.dvc.stage"
TAG_DVC_EXPERIMENT = "dovetail.dvc.experiment"
TAG_DVC_BASELINE_REV = "dovetail.dvc.baseline_rev"
TAG_DVC_INPUT_ID = "dovetail.dvc.input_id"
TAG_DVC_LINK = "dovetail.dvc.link"
TAG_DVC_DEPENDENCIES = "dovetail.dvc.deps"
TAG_DVC_OUTPUTS = "dovetail.dvc.outs"
TAG_DVC_CHANGED = "dovetail.dvc.changed"
TAG_SWEEP = "dovetail.sweep"
TAG_STATUS_PREFIX = "dovetail.status."
TAG_STATUS_JOURNAL = "dovetail.status.journal"
TAG_END_CAUSE = "dovetail.end.cause"
TAG_ATTEMPT = "dovetail.attempt"
TAG_BEST = "dovetail.best"
TAG_NONFINITE = "dovetail.nonfinite"
TAG_RENAMED = "dovetail.renamed"
TAG_CHANGED_PARAMS = "dovetail.changed_params"

# Tags of a sweep's children: the job's number, what it tries, and what it returned.
TAG_SWEEP_JOB = "dovetail.sweep.job"
TAG_SWEEP_PARAMS = "dovetail.sweep.params"
TAG_SWEEP_VALUE = "dovetail.sweep.value"
# Tags of a sweep's parent.
TAG_SWEEP_STUDY = "dovetail.sweep.study"
TAG_SWEEP_DIRECTION = "dovetail.sweep.direction"
TAG_SWEEP_PROGRESS = "dovetail.sweep.progress"
TAG_SWEEP_BEST_RUN = "dovetail.sweep.best_run"
TAG_SWEEP_BEST_VALUE = "dovetail.sweep.best_value"
TAG_SWEEP_BEST_PARAMS = "dovetail.sweep.best_params"

# MLflow's own tags that Dovetail sets.
TAG_MLFLOW_RUN_NAME = "mlflow.runName"
TAG_MLFLOW_NOTE = "mlflow.note.content"
TAG_MLFLOW_PARENT = "mlflow.parentRunId"

# Artifacts, relative to the run's artifact root.
ARTIFACT_CODE = "code"
ARTIFACT_DVC = "dvc/state.json"
ARTIFACT_CONFIG = "config"
ARTIFACT_CHECKPOINTS = "checkpoints"
ARTIFACT_CONSOLE = "console.log"
ARTIFACT_REQUIREMENTS = "environment/requirements.txt"
ARTIFACT_HOST = "environment/host.json"
ARTIFACT_SYSTEM = "system/summary.json"
ARTIFACT_TRACEBACK = "traceback.txt"
ARTIFACT_PREDICTIONS = "predictions"
ARTIFACT_IMAGES = "images"
ARTIFACT_FIGURES = "figures"

# Of a prediction table, in its folder: the list that MLflow's artifact viewer shows.
PREDICTIONS_LIST = "table.json"

# Metrics.
METRIC_BEST_PREFIX = "best/"
METRIC_SYSTEM_PREFIX = "system/"

# The type of our dataset source: MLflow stores it with every dataset, and finds the source by it.
DATASET_SOURCE_DVC = "dvc"

# Files in a project.
RUN_LINK_FILE = "mlflow_run.json"
DATABASE_FILE = "mlflow.db"
ARTIFACT_ROOT = "mlartifacts"
DOVETAIL_FOLDER = ".dovetail"
# In it: what the other machines of a training have recorded, each under its name.
HOSTS_FOLDER = "hosts"

# Environment variables.
ENV_DISABLED = "DOVETAIL_DISABLED"
ENV_STRICT = "DOVETAIL_STRICT"
ENV_OFFLINE = "DOVETAIL_OFFLINE"
ENV_DIR = "DOVETAIL_DIR"
ENV_CODE_FILE_MIB = "DOVETAIL_CODE_FILE_MIB"
ENV_CODE_TOTAL_MIB = "DOVETAIL_CODE_TOTAL_MIB"
ENV_CODE_UNTRACKED = "DOVETAIL_CODE_UNTRACKED"
ENV_CODE_SECONDS = "DOVETAIL_CODE_SECONDS"
ENV_CHANGED_INPUTS = "DOVETAIL_CHANGED_INPUTS"
ENV_PARENT_RUN = "DOVETAIL_PARENT_RUN"
ENV_SWEEP_JOB = "DOVETAIL_SWEEP_JOB"
ENV_SWEEP_PARAMS = "DOVETAIL_SWEEP_PARAMS"
ENV_TRACKING_URI = "MLFLOW_TRACKING_URI"
ENV_SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
ENV_DVC_ROOT = "DVC_ROOT"
ENV_DVC_STAGE = "DVC_STAGE"
ENV_DVC_EXPERIMENT = "DVC_EXP_NAME"
ENV_DVC_BASELINE_REV = "DVC_EXP_BASELINE_REV"

# MLflow's limits (mlflow.utils.validation). Tags given to create_run are not checked by MLflow: cut them here.
MAX_TAG_LENGTH = 8000
MAX_PARAM_LENGTH = 6000
MAX_KEY_LENGTH = 250
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
MAX_TAGS_PER_BATCH = 100
