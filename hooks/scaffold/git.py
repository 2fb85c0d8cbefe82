"""Git, free of what a surrounding git command or the user's settings would do to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scaffold.errors import ScaffoldError

# An identity in the environment is the user's; GIT_DIR, GIT_INDEX_FILE and so on belong to a caller's repository.
KEPT = frozenset(
    {
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"),
    }
)
# For the first commit alone: no signing, no hooks, nothing left out by a global ignore file. Line ends are the business
# of the project's .gitattributes.
PLAIN = ("-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", "-c", "core.excludesFile=/dev/null")
NEUTRAL = ("-c", "user.name=Dovetail", "-c", "user.email=dovetail@example.invalid")


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in KEPT}


def run_git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def git_output(directory: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
        ScaffoldError: Git failed; its own message is the reason.
    """
    done = run_git(directory, *arguments)
    if done.returncode == 0:
        return done.stdout.strip()
    command = next((word for word in arguments if "=" not in word and word != "-c"), "")
    raise ScaffoldError(
        f"Cannot run `git {command}` in {directory}",
        (done.stderr or done.stdout).strip(),
        "Repair what git names, then run cookiecutter again.",
    )


def identity_options(project: Path) -> tuple[str, ...]:
    """Nothing where the user has a name and an address, else a neutral identity."""
    strict = ("-c", "user.useConfigOnly=true", "var")
    if all(run_git(project, *strict, who).returncode == 0 for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")):
        return ()
    sys.stderr.write(
        "Note: git knows no name for you, so the first commit is by Dovetail <dovetail@example.invalid>.\n"
        'Set yours: git config --global user.name "Your Name"; git config --global user.email you@example.com\n'
    )
    return NEUTRAL


def start_repository(project: Path) -> None:
    """Make the repository and its first commit; a repository that is there with commits is left for its owner."""
    if not (project / ".git").exists():
        git_output(project, "init", "--quiet", "--template=")
        git_output(project, "symbolic-ref", "HEAD", "refs/heads/main")
    elif run_git(project, "rev-parse", "--verify", "--quiet", "HEAD").returncode == 0:
        sys.stderr.write("Note: this is a git repository already. Review `git diff`, then commit.\n")
        return
    git_output(project, *PLAIN, "add", "--all")
    message = "Start from the Dovetail template"
    git_output(project, *PLAIN, *identity_options(project), "commit", "--quiet", "--no-verify", "-m", message)
