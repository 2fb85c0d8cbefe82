"""Check what a bake needs, then make `template/` the template.

Runs in cookiecutter's temporary copy of the repository, before the first question. It must parse on any Python 3,
so that an old one gets a message and no syntax error.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from scaffold.copy import remove_temporary_copy

PYTHON_FLOOR = (3, 10)
COOKIECUTTER_FLOOR = (2, 6)


def python_problem(version: tuple[int, ...]) -> str | None:
    if version[:2] >= PYTHON_FLOOR:
        return None
    return (
        f"Cannot make a project: cookiecutter runs on Python {version[0]}.{version[1]}.\n"
        "Dovetail's hooks and the packages of the project need Python 3.10 or newer.\n"
        "Install cookiecutter for a newer Python, for example `python3.11 -m pip install cookiecutter`."
    )


def cookiecutter_problem(version: str) -> str | None:
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found >= COOKIECUTTER_FLOOR:
        return None
    return (
        f"Cannot make a project: this is cookiecutter {version}.\n"
        "Older ones than 2.6 do not run the hooks that finish the project.\n"
        "Run `python -m pip install --upgrade cookiecutter`."
    )


def git_problem(git: str | None) -> str | None:
    if git:
        return None
    return (
        "Cannot make a project: there is no `git` on PATH.\n"
        "The project starts as a git repository, which DVC needs.\n"
        "Install git, open a new terminal, and check that `git --version` prints a version."
    )


def cookiecutter_version() -> str:
    # Not in Python 3.7, which never gets here.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cookiecutter")
    except PackageNotFoundError:  # frozen into one file: nothing to compare
        return "99.0"


def first_problem() -> str | None:
    return (
        python_problem(sys.version_info[:3])
        or cookiecutter_problem(cookiecutter_version())
        or git_problem(shutil.which("git"))
    )


def warn_of_environments(root: Path) -> None:
    """Cookiecutter copies the whole root first: 1.8 GB of environment made a bake take 110 s."""
    for marker in sorted(root.glob("*/pyvenv.cfg")):
        sys.stderr.write(
            f"Warning: the template's directory holds a virtual environment, `{marker.parent.name}`.\n"
            "Cookiecutter copies it for each new project, which is slow.\n"
            "Keep it outside, or bake from git: `cookiecutter git+file:///path/to/the/template`.\n"
        )


def hoist(root: Path) -> None:
    """Move `template/*` to the root: no menu of one, and the hooks at the root run instead of those for cruft."""
    shutil.rmtree(root / "template" / "hooks", ignore_errors=True)
    for source in sorted((root / "template").iterdir()):
        source.replace(root / source.name)
    (root / "template").rmdir()


def main(root: Path) -> int:
    problem = first_problem()
    if problem:
        sys.stderr.write(problem + "\n")
        remove_temporary_copy(root)
        return 1
    warn_of_environments(root)
    hoist(root)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
