"""Every command of docs/code.md does what it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlflow_dovetail import names
from mlflow_dovetail.git_patch import Limits
from mlflow_dovetail.git_patch.verdicts import EXACT, NONE, PARTIAL, REDACTED

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "code.md"


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.invalid")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commands_bring_the_code_back(tmp_path: Path, shell):
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("print('committed')\n")
    (project / ".gitignore").write_text("mlflow.db*\nmlartifacts/\n")
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    (project / "train.py").write_text("print('tuned')\n")
    (project / "fix.py").write_text("fix = 1\n")
    trained, look, apply = bash_blocks(PAGE)
    shell([trained], project)
    git(project, "stash", "--include-untracked")
    printed = shell([look], project)
    assert "+print('tuned')" in printed and "gives the exact tree" in printed
    assert (tmp_path / "tuned" / "train.py").read_text() == "print('tuned')\n"
    assert (tmp_path / "tuned" / "fix.py").exists()
    assert not (project / "fix.py").exists()
    shell([apply], project)
    assert (project / "fix.py").read_text() == "fix = 1\n"
    assert git(project, "diff", "--cached") == ""


def test_the_page_names_what_is_stored_and_every_bound():
    text = PAGE.read_text(encoding="utf-8")
    stored = [
        names.TAG_CODE_VERDICT,
        names.TAG_CODE_TREE,
        names.TAG_CODE_DIGEST,
        names.TAG_CODE_BASE,
        f"`{EXACT}`",
        f"`{REDACTED}",
        f"`{PARTIAL}",
        f"`{NONE}",
    ]
    assert [name for name in stored if name not in text] == []
    bounds = Limits()
    rows = {
        names.ENV_CODE_FILE_MIB: f"{bounds.file_bytes >> 20} MiB",
        names.ENV_CODE_TOTAL_MIB: f"{bounds.total_bytes >> 20} MiB",
        names.ENV_CODE_UNTRACKED: str(bounds.untracked),
        names.ENV_CODE_SECONDS: f"{bounds.seconds:g}",
    }
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert {row[0].strip("`"): row[2] for row in table if row[0].strip("`") in rows} == rows
