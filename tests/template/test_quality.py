"""The project's own hooks and CI. Its own tests are run by tests/docs, as its README says."""

from __future__ import annotations

import re

import pytest
import yaml

from .project import Project

NAMES = ["a", "a" + "bcd_efghi_" * 4]


def checked(project: Project) -> None:
    """`pre-commit run --all-files` passes and changes nothing."""
    done = project.attempt("pre-commit", "run", "--all-files", "--color=never")
    assert done.code == 0, done.output
    assert len(re.findall(r"\.(Passed|Skipped|\(no files to check\)Skipped)$", done.output, re.MULTILINE)) == 8
    assert project.git("status", "--porcelain") == ""


def test_the_hooks_pass_in_a_new_project(new_project):
    checked(new_project())


def test_the_hooks_pass_after_a_training_that_is_committed(trained):
    checked(trained.project)


@pytest.mark.parametrize("package", NAMES, ids=[f"{len(name)} letters" for name in NAMES])
def test_formatting_holds_for_any_package_name(bake, project_environment, package):
    checked(Project(bake(package_name=package), project_environment, package))


def test_the_hooks_find_what_they_are_for(new_project):
    project = new_project()
    (project.path / "digits_classifier" / "extra.py").write_text("import os\nx = 'a'  \n", encoding="utf-8")
    (project.path / "big.bin").write_bytes(b"0" * 2_000_000)
    (project.path / "work.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    project.git("add", "-A")
    done = project.attempt("pre-commit", "run", "--all-files", "--color=never")
    assert done.code != 0
    failed = re.findall(r"^(.+?)\.+Failed$", done.output, re.MULTILINE)
    assert {"ruff format", "ruff check", "large files belong to dvc add", "strip notebook outputs"} <= set(failed)
    assert "secret output" not in (project.path / "work.ipynb").read_text(encoding="utf-8")


NOTEBOOK = """{"cells": [{"cell_type": "code", "execution_count": 1, "id": "a", "metadata": {}, "outputs":
[{"name": "stdout", "output_type": "stream", "text": ["secret output"]}], "source": ["print(1)"]}],
"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
"""


def test_ci_runs_lint_tests_and_the_pipeline_on_three_systems(baked):
    text = (baked / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["test"]
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert job["runs-on"] == "${{ matrix.os }}"
    assert re.findall(r"(?<!\$)\{\{|\{%|%\}", text) == []
    commands = [step["run"] for step in job["steps"] if "run" in step]
    wanted = ["pip install -r requirements.txt", "pre-commit run --all-files", "pytest", "dvc repro"]
    assert [command for command in commands if command in wanted] == wanted
