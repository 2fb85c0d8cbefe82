"""Git repositories that a commit, a capture or a colleague would stumble over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .conftest import Patient


def no_repository(patient: Patient) -> None:
    shutil.rmtree(patient.root / ".git")


def no_commit(patient: Patient) -> None:
    no_repository(patient)
    patient.git("init", "--quiet")


def no_identity(patient: Patient) -> None:
    (patient.home / "gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")


def not_owned(patient: Patient) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    for path in (patient.root, patient.root / ".git"):
        os.chown(path, 65534, 65534)


def broken_head(patient: Patient) -> None:
    (patient.root / ".git/config").write_text("[core\n")


def tracked_database(patient: Patient) -> None:
    patient.git("add", "--force", "mlflow.db")


def tracked_env(patient: Patient) -> None:
    (patient.root / ".env").write_text("PASSWORD=1\n")
    patient.git("add", "--force", ".env")


def tracked_large(patient: Patient) -> None:
    with (patient.root / "big file.bin").open("wb") as file:
        file.truncate(11 << 20)
    patient.git("add", "big file.bin")


def open_to_git(patient: Patient) -> None:
    (patient.root / ".gitignore").write_text("/mlartifacts\n")


def broken_index(patient: Patient) -> None:
    (patient.root / ".git/index").write_bytes(b"no index")


def hook(patient: Patient, content: str, mode: int, name: str = "pre-commit") -> None:
    path = patient.root / ".git/hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def test_a_repository_that_is_well(patient: Patient):
    (patient.root / ".pre-commit-config.yaml").write_text("repos: []\n")
    hook(patient, "#!/bin/sh\n", 0o755)
    hook(patient, "#!/bin/sh\n", 0o644, "pre-push.sample")
    patient.is_well("git")
    (repository, _) = patient.examine("git")
    assert "on main at" in repository.what and "Ada Lovelace" in repository.what


def idle_hook(patient: Patient) -> None:
    hook(patient, "#!/bin/sh\n", 0o644)


def old_hook(patient: Patient) -> None:
    hook(patient, "#!/bin/sh\nINSTALL_PYTHON=/gone/bin/python\n", 0o755)


def hooks_elsewhere(patient: Patient) -> None:
    (patient.root / "hooks").mkdir()
    (patient.root / "hooks/post-commit").write_text("#!/bin/sh\n")
    patient.git("config", "core.hooksPath", "hooks")


def no_hooks(patient: Patient) -> None:
    (patient.root / ".pre-commit-config.yaml").write_text("repos: []\n")


@pytest.mark.parametrize(
    ("hurt", "level", "told", "remedy"),
    [
        (no_repository, "warning", "in no git repository", "git init"),
        (no_commit, "warning", "has no commit", "git commit"),
        (no_identity, "problem", "who commits", "user.email"),
        (not_owned, "problem", "dubious ownership", "safe.directory"),
        (broken_head, "problem", "bad config", "git status"),
        (tracked_database, "problem", "tracks what runs write: mlflow.db", "git rm -r --cached mlflow.db"),
        (tracked_env, "problem", "tracks .env", "git rm --cached .env"),
        (tracked_large, "warning", "big file.bin (12 MB)", "'big file.bin'; then dvc add"),
        (open_to_git, "warning", "take in what runs write: mlflow.db", ".gitignore"),
        (broken_index, "problem", "index cannot be read", "git status"),
        (idle_hook, "warning", "not executable", "chmod +x"),
        (old_hook, "warning", "Python that is gone", "pre-commit install"),
        (hooks_elsewhere, "warning", "post-commit does not run", "chmod +x"),
        (no_hooks, "note", "not installed", "pre-commit install"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(patient: Patient, hurt, level, told, remedy):
    hurt(patient)
    patient.is_told("git", level, told, remedy)


def test_a_machine_without_git(patient: Patient, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    patient.variables["PATH"] = str(tmp_path / "empty")
    assert "Git is not installed" in patient.only("git", "problem").what


def test_a_subfolder_sees_the_whole_index(patient: Patient):
    (patient.root / "deep").mkdir()
    tracked_database(patient)
    assert "write: mlflow.db." in patient.only("git", "problem", folder=patient.root / "deep").what
