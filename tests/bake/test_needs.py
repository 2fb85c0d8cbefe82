"""What pre_prompt asks of the machine, and its warning of a slow bake."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pre_prompt
import pytest

HOOK = Path(pre_prompt.__file__)


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 9, 18)])
def test_python_too_old(version):
    assert "python3.11 -m pip install cookiecutter" in (pre_prompt.python_problem(version) or "")


@pytest.mark.parametrize("version", [(3, 10), (3, 13, 0, "final", 0), (4, 0)])
def test_python_new_enough(version):
    assert pre_prompt.python_problem(version) is None


@pytest.mark.parametrize(("version", "fine"), [("2.5.0", False), ("1.7.3", False), ("2.6", True), ("2.10.1", True)])
def test_cookiecutter_version(version, fine):
    problem = pre_prompt.cookiecutter_problem(version)
    assert problem is None if fine else "pip install --upgrade cookiecutter" in problem


def runs(python: str) -> bool:
    found = shutil.which(python)
    return bool(found) and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0


@pytest.mark.parametrize("python", ["python3.7", "python3.8", "python3.9"])
def test_real_old_python_gets_a_message(python, tmp_path):
    if not runs(python):
        pytest.skip(f"no {python} here")
    (tmp_path / "template").mkdir()
    done = subprocess.run([python, str(HOOK)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 3 and "Python 3.10 or newer" in done.stderr
    assert (tmp_path / "template").is_dir()


def test_environment_in_the_root_is_named(tmp_path, capsys):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    pre_prompt.warn_of_environments(tmp_path)
    warned = capsys.readouterr().err
    assert "`.venv`" in warned and "Keep it outside" in warned


def test_no_warning_without_one(tmp_path, capsys):
    (tmp_path / "plugins").mkdir()
    pre_prompt.warn_of_environments(tmp_path)
    assert capsys.readouterr().err == ""


def test_hoist_replaces_files_of_the_same_name(tmp_path):
    (tmp_path / "template" / "{{project}}").mkdir(parents=True)
    (tmp_path / "template" / "cookiecutter.json").write_text("questions")
    (tmp_path / "cookiecutter.json").write_text("pointer")
    pre_prompt.hoist(tmp_path)
    assert (tmp_path / "cookiecutter.json").read_text() == "questions"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cookiecutter.json", "{{project}}"]


def test_hoist_leaves_the_hooks_for_cruft_out(tmp_path):
    for place in ("hooks", "template/hooks"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "post_gen_project.py").write_text(place)
    pre_prompt.hoist(tmp_path)
    assert (tmp_path / "hooks" / "post_gen_project.py").read_text() == "hooks"
