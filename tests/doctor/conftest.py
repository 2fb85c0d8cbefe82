"""A project that is well, made once with git, DVC and MLflow's tables; each test breaks a copy of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from system_metrics.conftest import nvml_library, nvml_stub  # noqa: F401 - fixtures

from mlflow_dovetail import store
from mlflow_dovetail.doctor import Check, Finding, examine
from mlflow_dovetail.doctor.examining import CHECKS, ORDER
from mlflow_dovetail.doctor.records import Place
from mlflow_dovetail.errors import DovetailError

NOT_INHERITED = ("MLFLOW_", "DVC_", "DOVETAIL_", "GIT_", "CUDA_", "SLURM_", "DO_NOT_TRACK", "PYTEST_")
# These load code of others or a driver's library, and are asked in processes of their own as `dovetail doctor` does.
APART = ("plugins", "gpu")


@dataclass
class Patient:
    """A project to examine, and the shell in which that is done."""

    root: Path
    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    is_apart: bool = False  # every check is a process

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        config = {"GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"), "DVC_GLOBAL_CONFIG_DIR": str(self.home)}
        path = os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH")]))
        own = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(self.home), "PYTHONPATH": path}
        return {**kept, **config, **own, **self.variables}

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def site(self) -> Path:
        """What is here is imported before what is installed."""
        return self.home / "site"

    def install(self, name: str, version: str, entry_points: str = "", **modules: str) -> None:
        """A package, as pip leaves it; `modules` are their code."""
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(entry_points)
        for module, code in modules.items():
            (self.site / f"{module}.py").write_text(code)

    def plug_in(self, group: str, code: str) -> None:
        """A package `sick` with one entry point, whose module is `code`."""
        self.install("sick", "1.0", f"[{group}]\nsick = sick_plugin:thing\n", sick_plugin=code)

    def execute(self, *statements: str) -> None:
        """Change the database behind MLflow's back."""
        with closing(sqlite3.connect(self.database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, check=True, capture_output=True, text=True, timeout=100
        )
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.call("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.call(sys.executable, "-m", "dvc", *arguments)

    def examine(self, *names: str, folder: Path | None = None, tracking_uri: str | None = None) -> list[Finding]:
        """What the checks of these names, or the parts of one ("plugins others"), find; all when none is named."""
        chosen = tuple(one for one in CHECKS if not names or {one.name, f"{one.name} {one.part}"} & {*names})
        where, apart = folder or self.root, tuple(one for one in chosen if self.is_apart or one.name in APART)
        found = examine(where, tracking_uri, environment=self.environment, checks=apart)
        with in_shell(where, self.environment):
            here = [one for check in chosen if check not in apart for one in ask(check, where, tracking_uri)]
        return sorted([*found, *here], key=lambda one: ORDER.index(one.check))

    def only(self, name: str, level: str, **options: object) -> Finding:
        """The one finding of a check that has this level."""
        found = self.examine(name, **options)  # type: ignore[arg-type]
        chosen = [one for one in found if one.level == level]
        assert len(chosen) == 1, found
        return chosen[0]

    def is_told(self, name: str, level: str, told: str, remedy: str) -> None:
        """A check says in its one finding of this level what is wrong, and what to do."""
        found = self.only(name, level)
        assert told in f"{found.what} {found.why}"
        assert remedy in found.do

    def is_well(self, name: str) -> None:
        """A check finds nothing to tell."""
        found = self.examine(name)
        assert found and {one.level for one in found} == {"ok"}, found
        assert not any(one.why or one.do for one in found), found


@contextmanager
def in_shell(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Be a process that was started in a folder with these variables."""
    before = Path.cwd()
    added = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    with patch.dict(os.environ, environment, clear=True), patch.object(sys, "path", [*added, *sys.path]):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def ask(check: Check, folder: Path, tracking_uri: str | None) -> list[Finding]:
    """What a check tells, in this process: as `doctor.child` has it, but that an error is one."""
    place = Place(folder, store.project_root(), tracking_uri, check.part)
    try:
        told = list(import_module(f"mlflow_dovetail.doctor.{check.module}").check(place))
    except DovetailError as error:
        told = [Finding("problem", error.what, error.why, error.remedy)]
    return [replace(one, check=check.name) for one in told if isinstance(one, Finding)]


@pytest.fixture(scope="session")
def well(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """Read only: tests share it."""
    base = tmp_path_factory.mktemp("well")
    patient = Patient(base / "project", base / "home")
    patient.home.mkdir()
    patient.root.mkdir()
    (patient.home / "gitconfig").write_text("[user]\n\tname = Ada Lovelace\n\temail = ada@example.invalid\n")
    patient.git("init", "--quiet", "--initial-branch=main")
    (base / "remote").mkdir()
    (patient.root / ".dvc").mkdir()
    (patient.root / ".dvc/config").write_text(
        "[core]\n    analytics = false\n    remote = storage\n['remote \"storage\"']\n    url = ../../remote\n"
    )
    (patient.root / ".gitignore").write_text("/mlflow.db*\n/mlartifacts\n/.dovetail\n/.env\n")
    (patient.root / "train.py").write_text("print('training')\n")
    store.open(f"sqlite:///{patient.database}", "digits").close()
    patient.database.with_name("mlflow.db.lock").unlink(missing_ok=True)
    patient.git("add", ".")
    patient.git("commit", "--quiet", "-m", "First")
    return patient


@pytest.fixture
def patient(well: Patient, tmp_path: Path) -> Patient:
    """A copy to break."""
    shutil.copytree(well.root.parent, tmp_path / "copy", symlinks=True)
    copy = Patient(tmp_path / "copy" / "project", tmp_path / "copy" / "home", {"MLFLOW_DISABLE_TELEMETRY": "true"})
    moved = f"replace(artifact_location, '{well.root.as_uri()}', '{copy.root.as_uri()}')"
    copy.execute(f"UPDATE experiments SET artifact_location = {moved}")
    return copy
