"""Projects: baked once, copied for each test file that changes one, and trained once for those that only look."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .project import Done, Project

FOREIGN = ("MLFLOW_", "DVC_", "DOVETAIL_", "HYDRA_", "PYTEST_", "PRE_COMMIT")


@pytest.fixture(scope="session")
def project_environment(bake_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a person's shell has: this Python's programs first, and no setting of these tools."""
    config = tmp_path_factory.mktemp("dvc")
    kept = {key: value for key, value in bake_environment.items() if not key.startswith(FOREIGN)}
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "DVC_GLOBAL_CONFIG_DIR": str(config / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(config / "system"),
        "DVC_SITE_CACHE_DIR": str(config / "site"),
        # A thread a training: two at once on two cores, each with two threads, take three times as long.
        "OMP_NUM_THREADS": "1",
    }
    return {**kept, **own}


@pytest.fixture(scope="session")
def new_project(
    baked: Path, project_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Project]:
    """`new_project(epochs=1)`: a copy of the default bake that trains for so long, committed."""

    def make(epochs: int | None = None) -> Project:
        path = tmp_path_factory.mktemp("project") / baked.name
        shutil.copytree(baked, path, symlinks=True)
        project = Project(path, project_environment)
        if epochs is not None:
            project.edit("configs/trainer/default.yaml", "max_epochs: 15", f"max_epochs: {epochs}")
            project.edit("configs/trainer/default.yaml", "enable_progress_bar: true", "enable_progress_bar: false")
            project.git("commit", "-qam", "Train for a moment")
        return project

    return make


@dataclass(frozen=True)
class Trained:
    """A project after its first `dvc repro` with the default configuration, committed.

    `first` is that `dvc repro`; `baseline` the commit it ran on; `status` what git said before the commit.
    """

    project: Project
    first: Done
    baseline: str
    status: list[str]


@pytest.fixture(scope="session")
def trained(new_project: Callable[..., Project]) -> Trained:
    """Shared: a test that changes something puts it back."""
    project = new_project()
    baseline = project.git("rev-parse", "HEAD")
    first = project.dvc("repro")
    status = [line.strip() for line in project.git("status", "--porcelain").splitlines()]
    project.git("commit", "-qam", "First results")
    return Trained(project, first, baseline, status)
