"""Every way to start a bake gives the same project."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(project: Path) -> dict[str, str]:
    """Path to blob of the first commit."""
    listing = subprocess.run(["git", "ls-files", "-s"], cwd=project, check=True, capture_output=True, text=True).stdout
    return {line.split("\t")[1]: line.split()[1] for line in listing.splitlines()}


def make_zip(repository: Path, target: Path) -> Path:
    subprocess.run(
        ["git", "archive", "--format=zip", "--prefix=dovetail/", "-o", str(target), "HEAD"], cwd=repository, check=True
    )
    return target


@pytest.mark.parametrize("way", ["relative path", "zip", "git url", "file url"])
def test_same_project(way, tmp_path, repository_copy, cookiecutter, baked):
    sources = {
        "relative path": lambda: "../dovetail",
        "zip": lambda: str(make_zip(repository_copy, tmp_path / "dovetail.zip")),
        "git url": lambda: f"git+{repository_copy.as_uri()}",
        "file url": lambda: link_as_git(repository_copy, tmp_path).as_uri(),
    }
    (tmp_path / "dovetail").symlink_to(repository_copy)
    (tmp_path / "out").mkdir()
    done = cookiecutter(tmp_path / "out", sources[way](), "--no-input")
    assert done.returncode == 0, done.stdout + done.stderr

    made, expected = tracked(tmp_path / "out" / "digits-classifier"), tracked(baked)
    origin = made.pop(".cruft.json", None), expected.pop(".cruft.json")
    assert made == expected
    assert (origin[0] is None) == (way == "zip")
    state = tmp_path / "out" / "digits-classifier" / ".cruft.json"
    assert way != "relative path" or json.loads(state.read_text())["template"] == str(repository_copy)


def link_as_git(repository: Path, directory: Path) -> Path:
    """Cookiecutter takes a file:// address for git only when it holds the word."""
    link = directory / "dovetail.git"
    link.symlink_to(repository)
    return link


def test_answers_on_the_command_line(bake):
    project = bake(project_name="Ocean Waves", package_name="waves")
    assert project.name == "ocean-waves"
    assert (project / "waves" / "__init__.py").is_file()


def test_replay(tmp_path, repository_copy, cookiecutter):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    cookiecutter(tmp_path / "first", str(repository_copy), "--no-input", "project_name=Ocean Waves")
    done = cookiecutter(tmp_path / "second", str(repository_copy), "--replay")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tracked(tmp_path / "first" / "ocean-waves") == tracked(tmp_path / "second" / "ocean-waves")


def test_asks_six_questions_and_shows_no_menu(tmp_path, repository_copy, cookiecutter):
    done = cookiecutter(tmp_path, str(repository_copy), stdin="\n" * 6)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"\[(\d+)/(\d+)\]", done.stdout) == [(str(number), "6") for number in range(1, 7)]
    assert "Select" not in done.stdout
    assert "Choose" not in done.stdout


def test_takes_typed_answers(tmp_path, repository_copy, cookiecutter):
    answers = ["Ocean Waves", "waves", "Grace Hopper", "bsd-3-clause", "3.12", "wheel"]
    done = cookiecutter(tmp_path, str(repository_copy), stdin="\n".join(answers) + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Grace Hopper" in (tmp_path / "ocean-waves" / "LICENSE").read_text()


def test_bakes_from_the_checkout_in_ten_seconds(tmp_path, cookiecutter):
    start = time.perf_counter()
    done = cookiecutter(tmp_path, str(ROOT), "--no-input")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.perf_counter() - start < 10


def test_ends_with_the_next_steps(tmp_path, repository_copy, cookiecutter):
    done = cookiecutter(tmp_path, str(repository_copy), "--no-input")
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert commands[0] == 'cd "digits-classifier"'
    assert "pip install -r requirements.txt" in commands[1]
    assert commands[2:] == ["dvc repro", "mlflow ui --workers 1"]
    assert done.stderr == ""
