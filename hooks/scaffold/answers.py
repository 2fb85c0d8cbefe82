"""What the six answers may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from scaffold.errors import ScaffoldError
from scaffold.taken import locked_names, owner_of

Answers = Mapping[str, str]

LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PACKAGE = re.compile(r"[a-z][a-z0-9_]*")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Windows keeps these names for devices, as folders too.
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
# A name, extras, and versions or an address, and no options of pip. Pip says the rest.
VERSION = r"(===?|~=|!=|[<>]=?) *[\w.!*+]+"
REQUIREMENT = re.compile(
    rf"mlflow[-_.]dovetail *(\[[a-z0-9_, -]*\])? *({VERSION}( *, *{VERSION})*|@ *[a-z][a-z+]*://\S+)?", re.IGNORECASE
)
# A password, and over http any user: there it is a token.
PASSWORD = re.compile(r"://[^/@\s]*:[^/\s]*@|https?://[^/\s]*@")


def check_project_name(answers: Answers, repo: Path) -> None:
    name, slug = answers["project_name"], answers["__project_slug"]
    bad = sorted({char for char in name if char in '"\\`<>{}' or not char.isprintable()})
    if bad:
        raise ScaffoldError(
            f"Cannot use project_name {name!r}",
            f"it holds {' '.join(map(repr, bad))}, which breaks the files that quote it.",
            "Use letters, digits, spaces and hyphens, for example `Digits Classifier`.",
        )
    if slug == "unnamed" or not SLUG.fullmatch(slug):
        raise ScaffoldError(
            f"Cannot use project_name {name!r}",
            f"the directory of the project would be called {slug!r}.",
            "Give a name with letters or digits, for example `Digits Classifier`.",
        )
    if slug in DEVICES:
        raise ScaffoldError(
            f"Cannot use project_name {name!r}",
            f"Windows can make no directory called {slug}, so no colleague there could clone the project.",
            f"Use for example `project_name='{name} Project'`.",
        )
    if slug.replace("-", "_") in {*locked_names(repo), "mlflow_dovetail"}:
        raise ScaffoldError(
            f"Cannot use project_name {name!r}",
            f"the project installs a package called {slug}, and pip keeps one of a name.",
            f"Use for example `project_name='{name} Project'`.",
        )


def check_package_name(answers: Answers, repo: Path) -> None:
    name = answers["package_name"]
    suggestion = re.sub(r"\W+|_+", "_", name.lower(), flags=re.ASCII).strip("_") or "project"
    if not PACKAGE.fullmatch(name):
        suggestion = suggestion if PACKAGE.fullmatch(suggestion) else f"project_{suggestion}"
        raise ScaffoldError(
            f"Cannot use package_name {name!r}",
            "it is no Python package name of lower-case letters, digits and underscores.",
            f"Use for example `package_name={suggestion}`.",
        )
    owner = owner_of(name, repo)
    if owner:
        raise ScaffoldError(
            f"Cannot use package_name {name!r}",
            f"`import {name}` is {owner}.",
            f"Use for example `package_name={suggestion}_project`.",
        )


def check_author(answers: Answers) -> None:
    author = answers["author"]
    if author.strip() and author.isprintable() and len(author) <= 200:
        return
    raise ScaffoldError(
        f"Cannot use author {author[:60]!r}",
        "it is empty, has more than one line or control characters, or is longer than 200.",
        "Give one line, for example `author='Ada Lovelace'`.",
    )


def one_of(key: str, choices: tuple[str, ...], given: str, value: str) -> None:
    if value not in choices:
        raise ScaffoldError(
            f"Cannot use {key} {given!r}",
            f"it is none of {', '.join(choices)}.",
            f"Use for example `{key}={choices[0]}`.",
        )


def check_dovetail_source(answers: Answers) -> None:
    source = answers["dovetail_source"]
    if PASSWORD.search(source):
        raise ScaffoldError(
            "Cannot use dovetail_source",
            "its address holds a password, which would be committed in requirements.txt.",
            "Use the address without it, and let git's credential helper or .netrc answer.",
        )
    if source in ("auto", "wheel", "git") or REQUIREMENT.fullmatch(source):
        return
    raise ScaffoldError(
        f"Cannot use dovetail_source {source!r}",
        "it is not `auto`, `wheel` or `git`, and no pip requirement for mlflow-dovetail.",
        "Use `dovetail_source=auto`, or for example `dovetail_source='mlflow-dovetail[all]==0.1.0'`.",
    )


def check_answers(answers: Answers, repo: Path) -> None:
    """Raise for the first bad answer.

    Args:
        answers: Cookiecutter's context.
        repo: Its temporary copy of the template's repository.

    Raises:
        ScaffoldError: With a better answer as the remedy.
    """
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_project_name(answers, repo),
        lambda: check_package_name(answers, repo),
        lambda: check_author(answers),
        lambda: one_of("license", LICENSES, answers["license"], answers["__license_name"]),
        lambda: one_of("python_version", PYTHONS, answers["python_version"], answers["python_version"]),
        lambda: check_dovetail_source(answers),
    )
    for check in checks:
        check()
