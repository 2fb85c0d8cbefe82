"""A repository, looked at without touching it: git asked, and what in a work tree is not code."""

from mlflow_dovetail.repository.dvc_outs import DvcOuts, is_dvc_file, read_dvc_outs
from mlflow_dovetail.repository.git_call import Git, GitAnswer, GitFailed, ask_git
from mlflow_dovetail.repository.leftovers import is_left_by_a_run
from mlflow_dovetail.repository.settings import SETTINGS_CALL, RepositorySettings, absolute_remote, advice, branch_name

__all__ = [
    "SETTINGS_CALL",
    "DvcOuts",
    "Git",
    "GitAnswer",
    "GitFailed",
    "RepositorySettings",
    "absolute_remote",
    "advice",
    "ask_git",
    "branch_name",
    "is_dvc_file",
    "is_left_by_a_run",
    "read_dvc_outs",
]
