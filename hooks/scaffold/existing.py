"""The place of the project: the room on its disk, and what is there already, which only cookiecutter's -f allows."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from scaffold.errors import ScaffoldError
from scaffold.git import git_output

DATA = Path("data", "raw", "digits.csv")
# Three times what a new project takes. Cookiecutter itself says nothing readable when a disk is full.
ROOM_BYTES = 10_000_000


def check_room(project: Path) -> None:
    """Refuse a disk that is full.

    Raises:
        ScaffoldError: Less is free than a new project takes.
    """
    free = shutil.disk_usage(project).free
    if free < ROOM_BYTES:
        raise ScaffoldError(
            f"Cannot write the project to {project.parent}",
            f"its disk has {free / 1e6:.1f} MB free, and a new project takes {ROOM_BYTES / 1e6:.0f}.",
            "Make room there, or give cookiecutter another place with --output-dir.",
        )


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
