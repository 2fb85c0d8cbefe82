"""A directory that is there already, which only cookiecutter's -f lets through."""

from __future__ import annotations

import filecmp
from pathlib import Path

from scaffold.errors import ScaffoldError
from scaffold.git import git_output

DATA = Path("data", "raw", "digits.csv")


def check_existing(project: Path, repo: Path) -> None:
    """Refuse to write over what git could not give back.

    Raises:
        ScaffoldError: The directory has uncommitted work, or data of its own.
    """
    if (project / ".git").exists() and git_output(project, "status", "--porcelain"):
        raise ScaffoldError(
            f"Cannot write over {project}",
            "it is a git repository with uncommitted changes, which would be lost.",
            "Commit or stash them, or choose another project_name.",
        )
    template = next(repo.glob("*cookiecutter*/data/raw/digits.csv"), None)
    if template and (project / DATA).exists() and not filecmp.cmp(template, project / DATA, shallow=False):
        raise ScaffoldError(
            f"Cannot write over {project}",
            f"its {DATA.as_posix()} is not the template's, and would be lost.",
            "Move it away, or choose another project_name.",
        )
