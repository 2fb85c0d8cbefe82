"""What is in a new project, and what state it is in."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

EXPECTED = Path(__file__).with_name("expected_files.txt")
ROOT = Path(__file__).resolve().parents[2]
# GitHub's own `${{ … }}` stays.
BRACES = re.compile(r"(?<!\$)\{\{|\{%|\{#|@MLFLOW_DOVETAIL@|@YEAR@|@AUTHOR@")


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def test_exact_file_set(baked, without_hash):
    assert without_hash(git(baked, "ls-files")).splitlines() == EXPECTED.read_text().splitlines()


def test_no_braces_are_left(baked):
    left = {}
    for name in git(baked, "ls-files").splitlines():
        if not name.endswith(".whl"):
            left[name] = BRACES.findall((baked / name).read_text(encoding="utf-8"))
    assert {name: found for name, found in left.items() if found} == {}


def test_one_commit_on_main_and_nothing_left_over(baked):
    assert git(baked, "log", "--format=%an %s", "--all") == "Ada Lovelace Start from the Dovetail template"
    assert git(baked, "branch", "--show-current") == "main"
    assert git(baked, "status", "--porcelain") == ""


def test_data_is_ignored_by_git_and_in_the_cache_of_dvc(baked):
    data = baked / "data" / "raw" / "digits.csv"
    md5 = hashlib.md5(data.read_bytes()).hexdigest()
    assert git(baked, "check-ignore", str(data)) == str(data)
    assert f"md5: {md5}" in data.with_name("digits.csv.dvc").read_text()
    cached = baked / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    assert cached.read_bytes() == data.read_bytes()
    assert git(baked, "check-ignore", str(cached)) == str(cached)


def test_this_repository_tracks_the_data():
    """A clone has it, though the template's .gitignore names it."""
    assert git(ROOT, "ls-files", "template/*/data/raw/digits.csv")


def test_dvc_takes_the_data_as_its_own(bake):
    project = bake()
    (project / "data" / "raw" / "digits.csv").unlink()
    done = subprocess.run(["dvc", "checkout", "data/raw/digits.csv.dvc"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "data" / "raw" / "digits.csv").is_file()
    assert git(project, "status", "--porcelain") == ""


def test_placeholders_are_tracked_and_dvc_reads_them(baked):
    names = {"dvc.lock", "params.yaml", "metrics.json", "evaluation.json", "mlflow_run.json"}
    assert names <= set(git(baked, "ls-files").splitlines())
    done = subprocess.run(["dvc", "status"], cwd=baked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cruft_file_names_the_commit_and_the_directory(baked, repository_copy):
    state = json.loads((baked / ".cruft.json").read_text(encoding="utf-8"))
    assert state["template"] == str(repository_copy)
    assert state["commit"] == git(repository_copy, "rev-parse", "HEAD")
    assert state["directory"] == "template"
    assert state["context"]["cookiecutter"]["package_name"] == "digits_classifier"
    # What cruft renders again: the directory as it is without the move of pre_prompt.
    assert list((repository_copy / "template").glob("*cookiecutter*slug*"))
