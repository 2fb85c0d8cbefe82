"""What the repository has that it should not: runs and large files in git, and hooks that do not work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlflow_dovetail.doctor.git_repository import users_git
from mlflow_dovetail.doctor.records import Finding, Place, Told, listed, note, ok, problem, warning
from mlflow_dovetail.repository.leftovers import is_left_by_a_run

LARGE_BYTES = 10 << 20
_PRE_COMMIT_PYTHON = re.compile(r"^INSTALL_PYTHON=(?P<quote>['\"]?)(?P<path>.+)(?P=quote)$", re.MULTILINE)


def check(place: Place) -> Told:
    """Nothing in a folder that is no repository: another check says so."""
    git = users_git(place.folder)
    top, listing, folder, hooks_paths = git.ask(
        ("rev-parse", "--show-toplevel"),
        ("ls-files", "-z", "--cached", "--full-name", ":/"),
        ("rev-parse", "--git-common-dir"),
        ("config", "--get-all", "core.hooksPath"),
    )
    if top.cause:
        return
    root = Path(os.fsdecode(top.output).rstrip("\n"))
    found = [*_tracked(root, [os.fsdecode(name) for name in listing.output.split(b"\0") if name])]
    if listing.cause:
        found.append(problem("Git's index cannot be read.", f"{listing.cause}.", "Run: git status"))
    # The last path is the one that keeps hooks from running while git is asked.
    own = [line for line in os.fsdecode(hooks_paths.output).splitlines() if line][:-1]
    common = place.folder / os.fsdecode(folder.output).strip()
    found += _hooks(root, root / own[-1] if own else common / "hooks")
    found += _ignored(root)
    yield from found
    if not found:
        yield ok("Git's index has no runs and no large files; the hooks can run.")


def _tracked(root: Path, names: list[str]) -> Iterator[Finding]:
    runs = [name for name in names if is_left_by_a_run(name)]
    if runs:
        yield problem(
            f"Git tracks what runs write: {listed(runs)}.",
            "Each run changes it: the tree is never clean, checkouts overwrite runs, and merges break the database.",
            f"Run: git rm -r --cached {_quoted(runs[0])}; and list it in .gitignore.",
        )
    if ".env" in {name.rpartition("/")[2] for name in names}:
        yield problem(
            "Git tracks .env.",
            "It is for what only this machine knows, such as passwords; whoever clones the repository gets it.",
            "Run: git rm --cached .env; list it in .gitignore; and change the passwords that were in it.",
        )
    large = [f"{name} ({size / 1e6:.0f} MB)" for name in names if (size := _size(root / name)) > LARGE_BYTES]
    if large:
        yield warning(
            f"Git tracks large files: {listed(large)}.",
            "Every clone carries every version of them for good.",
            f"Have DVC version them: git rm --cached {_quoted(large[0].rpartition(' (')[0])}; then dvc add it.",
        )


def _hooks(root: Path, folder: Path) -> Iterator[Finding]:
    if (root / ".pre-commit-config.yaml").is_file() and not (folder / "pre-commit").exists():
        yield note(
            "The hooks of .pre-commit-config.yaml are not installed.",
            "`git commit` runs no check.",
            "Run: pre-commit install",
        )
    for hook in sorted(folder.glob("*")) if folder.is_dir() else []:
        if hook.is_file() and hook.suffix == "":
            yield from _hook(hook)


def _hook(hook: Path) -> Iterator[Finding]:
    if not os.access(hook, os.X_OK):
        yield warning(f"The hook {hook.name} does not run.", "It is not executable.", f"Run: chmod +x {hook}")
    python = _PRE_COMMIT_PYTHON.search(hook.read_text("utf-8", "replace"))
    if python and not Path(python["path"]).exists():
        yield warning(
            f"The hook {hook.name} was installed by a Python that is gone.",
            f"There is no {python['path']}: without `pre-commit` on PATH, git refuses to commit.",
            "Run: pre-commit install --overwrite",
        )


def _ignored(root: Path) -> Iterator[Finding]:
    """Runs that `git add .` would take."""
    names = [name for name in ("mlflow.db", "mlartifacts", "mlruns") if (root / name).exists()]
    if not names:
        return
    (answer,) = users_git(root).ask(("ls-files", "--others", "--exclude-standard", "--directory", "--", *names))
    open_to_git = os.fsdecode(answer.output).splitlines()
    if open_to_git:
        yield warning(
            f"Git would take in what runs write: {listed(open_to_git)}.",
            "`git add .` adds it, and each run changes it.",
            "List it in .gitignore.",
        )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w./-]+", name) else f"'{name}'"
