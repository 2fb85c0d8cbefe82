"""The hooks under an interpreter that has the standard library alone, as pipx or uvx give cookiecutter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

EXPECTED = Path(__file__).with_name("expected_files.txt")


def bare(directory: Path) -> str:
    venv.EnvBuilder(with_pip=False).create(directory)
    return str(directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def real(python: str) -> str | None:
    found = shutil.which(python)
    if found is None:
        return None
    done = subprocess.run([found, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    return done.stdout.strip() or None


def assert_bakes(
    python: str, directory: Path, repository_copy: Path, cookiecutter, without_hash: Callable[[str], str]
) -> None:
    (directory / "in").mkdir()
    done = cookiecutter(directory / "in", str(repository_copy), "--no-input", hook_python=python)
    assert done.returncode == 0, done.stdout + done.stderr
    project = directory / "in" / "digits-classifier"
    tracked = subprocess.run(["git", "ls-files"], cwd=project, check=True, capture_output=True, text=True).stdout
    assert without_hash(tracked).splitlines() == EXPECTED.read_text().splitlines()


@pytest.mark.parametrize("module", ["mlflow", "pip", "yaml", "cookiecutter"])
def test_the_bare_interpreter_is_bare(module, tmp_path):
    done = subprocess.run([bare(tmp_path), "-c", f"import {module}"], capture_output=True, text=True)
    assert "ModuleNotFoundError" in done.stderr


def test_bakes_with_the_standard_library_alone(tmp_path, repository_copy, cookiecutter, without_hash):
    assert_bakes(bare(tmp_path / "bare"), tmp_path, repository_copy, cookiecutter, without_hash)


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_bakes_on_every_python(version, tmp_path, repository_copy, cookiecutter, without_hash):
    python = sys.executable if f"{sys.version_info[0]}.{sys.version_info[1]}" == version else real(f"python{version}")
    if python is None:
        pytest.skip(f"no python{version} here")
    assert_bakes(python, tmp_path, repository_copy, cookiecutter, without_hash)
