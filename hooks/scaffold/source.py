"""Where the project gets mlflow-dovetail: one line of requirements.txt."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from scaffold.answers import Answers
from scaffold.errors import ScaffoldError
from scaffold.git import git_output, run_git
from scaffold.wheel import build_wheel

PLACEHOLDER = "@MLFLOW_DOVETAIL@"
REMOTE = re.compile(r"(git\+)?(https?|ssh|git)://|[\w.-]+@[\w.-]+:")
# `gh:owner/name`, and not a drive of Windows or file:.
ABBREVIATION = re.compile(r"(?!file:)\w{2,}:")


def origin_of(repo: Path) -> str:
    """The address as it is stored: `git remote get-url` could add a password from the user's settings."""
    if not (repo / ".git").exists():
        return ""
    return run_git(repo, "config", "--local", "--get", "remote.origin.url").stdout.strip()


def without_credentials(url: str) -> str:
    """A pip address without user and password; the user of ssh stays, for it is part of the address.

    Source:
        PEP 508 direct references; `git@host:path` is git's short form of ssh.
    """
    url = url.removeprefix("git+")
    short = re.fullmatch(r"([\w.-]+@[\w.-]+):(?!//)(.+)", url)
    if short:
        url = f"ssh://{short[1]}/{short[2].lstrip('/')}"
    if re.match(r"[/~]|[A-Za-z]:[\\/]", url):
        url = Path(url).expanduser().as_uri()
    url = re.sub(r"^(ssh://)([^/@:]+)(?::[^/@]*)?@", r"\1\2@", url)
    return re.sub(r"^(https?://)[^/]*@", r"\1", url)


def is_remote(template: str, origin: str) -> bool:
    """Whether cookiecutter cloned the template from an address that a colleague can reach too."""
    if template.lower().endswith(".zip"):
        return False
    return bool(REMOTE.match(origin) and (REMOTE.match(template) or ABBREVIATION.match(template)))


def git_requirement(repo: Path, origin: str) -> str:
    """Name the commit that cookiecutter copied.

    Raises:
        ScaffoldError: Nobody could install it: no remote, or the commit is not there.
    """
    remedy = "Answer `dovetail_source=wheel`, or bake from a clone whose commit is pushed."
    if not origin:
        raise ScaffoldError("Cannot name mlflow-dovetail by git", "the template has no remote `origin`.", remedy)
    commit = git_output(repo, "rev-parse", "HEAD")
    if not git_output(repo, "branch", "--remotes", "--contains", commit) and not git_output(
        repo, "tag", "--contains", commit
    ):
        why = f"commit {commit[:7]} of the template is on no remote branch."
        raise ScaffoldError("Cannot name mlflow-dovetail by git", why, remedy)
    return f"mlflow-dovetail[all] @ git+{without_credentials(origin)}@{commit}"


def warn_of_changes(repo: Path) -> None:
    if git_output(repo, "status", "--porcelain", "--", "plugins", "pyproject.toml"):
        sys.stderr.write(
            "Warning: the template has changes of mlflow-dovetail that are not committed.\n"
            "The project installs the commit, without them. Answer `dovetail_source=wheel` to take them along.\n"
        )


def wheel_requirement(repo: Path, project: Path) -> str:
    wheel = build_wheel(repo, project / "vendor")
    return f"./vendor/{wheel.name}[all]"


def requirement(answers: Answers, project: Path) -> str:
    """The line for `dovetail_source`; builds the wheel where the line names one."""
    source, repo = answers["dovetail_source"], Path(answers["_repo_dir"])
    if source not in ("auto", "wheel", "git"):
        return source
    origin = origin_of(repo)
    if source == "wheel" or (source == "auto" and not is_remote(answers["_template"], origin)):
        return wheel_requirement(repo, project)
    line = git_requirement(repo, origin)
    warn_of_changes(repo)
    return line


def write_requirement(answers: Answers, project: Path) -> None:
    """Put the line into requirements.txt.

    Raises:
        ScaffoldError: The template's file does not have the placeholder exactly once, or no line can be made.
    """
    path = project / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines.count(PLACEHOLDER) != 1:
        raise ScaffoldError(
            "Cannot finish requirements.txt",
            f"it does not have the line {PLACEHOLDER} exactly once.",
            "Restore the file in the template, then run cookiecutter again.",
        )
    line = requirement(answers, project)
    text = "\n".join(line if old == PLACEHOLDER else old for old in lines) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
