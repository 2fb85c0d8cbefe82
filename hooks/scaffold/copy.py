"""Cookiecutter's temporary copy of the repository, which it leaves behind when a bake fails."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def is_temporary_copy(repo: Path) -> bool:
    """Whether this is `<temporary folder>/cookiecutter<letters>/<name>`, as cookiecutter 2.4 and newer make it."""
    base = repo.resolve().parent
    return base.name.startswith("cookiecutter") and base.parent == Path(tempfile.gettempdir()).resolve()


def remove_temporary_copy(repo: Path) -> None:
    """Remove the copy, or what can be removed of it; anything else stays."""
    if is_temporary_copy(repo):
        shutil.rmtree(repo.resolve().parent, ignore_errors=True)
