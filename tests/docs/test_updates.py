"""docs/updates.md: its commands run as they stand, in a project whose template has gone on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "updates.md"
README = "template/{{cookiecutter.__project_slug}}/README.md"
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.invalid")


def test_every_command_runs_in_order(tmp_path: Path, repository_copy, cookiecutter, shell, own_programs):
    template = tmp_path / "dovetail"
    subprocess.run(["git", "clone", "--quiet", repository_copy, template], check=True)
    assert cookiecutter(tmp_path, str(template), "--no-input").returncode == 0
    project = tmp_path / "digits-classifier"
    readme = template / README
    readme.write_text(readme.read_text(encoding="utf-8").replace("## Start", "## Begin here"), encoding="utf-8")
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "--all", "-m", "Newer"], cwd=template, check=True)
    # What is trained and what pip does is held elsewhere (test_project_readme.py).
    stand_in = ["pip() { echo pip $@; }", "dvc() { echo dvc $@; }"]
    printed = shell([stand_in, *bash_blocks(PAGE)], project, PATH=own_programs, PYTHONPATH=str(project))
    assert "the template has gone on" in printed
    assert "M  README.md" in printed
    assert " passed" in printed
    assert "## Begin here" in (project / "README.md").read_text(encoding="utf-8")
    left = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, check=True)
    assert left.stdout == ""
