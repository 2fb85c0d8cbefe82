"""A project that nobody will finish is removed: cookiecutter, interrupted while it renders, leaves what it has written.

The hook before the first file leaves a small process behind, which waits until the project is finished or its maker is
gone. Who the maker is stands in a file in cookiecutter's temporary copy: cookiecutter itself, then the hook at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scaffold.copy import remove_temporary_copy
from scaffold.git import run_git

MAKER = "maker.pid"
# A bake takes seconds. A number that another process has by now must not hold this one for ever.
LONGEST_SECONDS = 600


def begin(project: Path, repo: Path) -> None:
    """Watch over a directory that cookiecutter has just made; one with files in it is somebody's, and stays.

    Not on Windows, where a process cannot be asked for without harm.
    """
    cookiecutter = os.getppid()
    if os.name != "posix" or cookiecutter == 1 or any(project.iterdir()):
        return
    name_maker(repo, cookiecutter)
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-B", "-m", "scaffold.unfinished", str(project), str(repo)]
    # A session of its own: Ctrl-C is for cookiecutter and its hooks.
    subprocess.Popen(command, cwd=repo / "hooks", start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)


def take_over(repo: Path) -> int | None:
    """From here on this process makes the project, also when cookiecutter is gone; the process of cookiecutter."""
    cookiecutter = maker_of(repo)
    if cookiecutter:
        name_maker(repo, os.getpid())
    return cookiecutter


def fail(repo: Path, cookiecutter: int | None) -> None:
    """Cookiecutter hears of the failure, and removes the project unless it was asked to keep it."""
    if cookiecutter and lives(cookiecutter):
        end(repo)
    else:
        give_up(repo, cookiecutter)


def give_up(repo: Path, cookiecutter: int | None) -> None:
    """Cookiecutter is interrupted too and leaves everything: the one who watches removes the project."""
    if cookiecutter:
        name_maker(repo, cookiecutter)
    else:
        remove_temporary_copy(repo)


def end(repo: Path) -> None:
    """The project is finished."""
    (repo / MAKER).unlink(missing_ok=True)


def name_maker(repo: Path, pid: int) -> None:
    new = repo / f"{MAKER}.new"
    new.write_text(str(pid))
    new.replace(repo / MAKER)


def maker_of(repo: Path) -> int | None:
    """The process that makes the project; None once that is settled."""
    try:
        return int((repo / MAKER).read_text())
    except FileNotFoundError:
        return None


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):  # another user's; or a system without /proc
        return True


def remove(project: Path) -> None:
    """Again while something is left: a program that the maker had started may still write its last."""
    for _ in range(100):
        shutil.rmtree(project, ignore_errors=True)
        if not project.exists():
            return
        time.sleep(0.05)


def is_finished(project: Path) -> bool:
    """Whether a later bake of the same Python session has come to its end there: its last step is the commit."""
    return (project / ".git").exists() and run_git(project, "rev-parse", "-q", "--verify", "HEAD").returncode == 0


def watch(project: Path, repo: Path) -> None:
    cookiecutter = maker_of(repo)
    deadline = time.monotonic() + LONGEST_SECONDS
    while (maker := maker_of(repo)) and time.monotonic() < deadline:
        # Asked again: the hook at the end may have taken over while its cookiecutter ended.
        if not lives(maker) and maker_of(repo) == maker:
            if not is_finished(project):
                remove(project)
            break
        time.sleep(0.05)
    # Cookiecutter removes its copy only where all went well.
    while repo.exists() and cookiecutter and lives(cookiecutter) and time.monotonic() < deadline:
        time.sleep(0.05)
    if cookiecutter and not lives(cookiecutter):
        remove_temporary_copy(repo)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), Path(sys.argv[2]))
