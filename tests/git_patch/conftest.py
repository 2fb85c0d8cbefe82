"""Real repositories, captured and restored elsewhere."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from context.conftest import Git, git, home, repo  # noqa: F401 - fixtures

from mlflow_dovetail.git_patch import CodeState, Limits, capture, finish

Files = dict[bytes, tuple[int, bytes]]
# A program: capture a repository into a folder; as another user, if one is given.
CAPTURE = """
import os, sys
from pathlib import Path
from mlflow_dovetail.git_patch import Limits, capture
if len(sys.argv) > 3:
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
print("ready", flush=True)
told = capture([Path(sys.argv[1])], Path(sys.argv[2]), attempt=1, leave_out=[], limits=Limits())
print(told.cause)
"""


@dataclass(frozen=True)
class Kept:
    """What a capture left behind: its own folder, and what is uploaded."""

    state: CodeState
    private: Path
    uploaded: Path

    @property
    def patch(self) -> Path:
        return self.uploaded / "diff.patch"


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Kept]:
    """Capture and finish: `keep(folder, leave_out=..., limits=..., script=...)`."""

    def run(folder: Path, *, leave_out=(), limits: Limits | None = None, script: Path | None = None) -> Kept:
        private = tmp_path / f"private-{len(list(tmp_path.glob('private-*')))}"
        told = capture([folder], private, attempt=1, leave_out=leave_out, limits=limits or Limits(), script=script)
        uploaded = private.with_name(private.name.replace("private", "uploaded"))
        return Kept(finish(told, private, uploaded, "code"), private, uploaded)

    return run


@pytest.fixture
def restored(tmp_path: Path) -> Callable[..., Path]:
    """A clone elsewhere, with a patch applied by plain git: `restored(repository, commit, patch)`."""

    def run(repository: Path, commit: str | None, patch: Path) -> Path:
        target = tmp_path / f"restored-{len(list(tmp_path.glob('restored-*')))}"
        call("clone", "--quiet", "--no-checkout", str(repository), str(target))
        if commit:
            call("-C", str(target), "checkout", "--quiet", "--detach", commit)
        if patch.exists():
            call("-C", str(target), "apply", "--index", "--binary", "--whitespace=nowarn", str(patch))
        return target

    return run


def call(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True)
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def files(root: Path) -> Files:
    """Mode and content of everything below a folder, git's own things apart."""
    found: Files = {}
    for path in sorted(root.rglob("*")):
        if ".git" not in path.relative_to(root).parts and (path.is_symlink() or not path.is_dir()):
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[os.fsencode(path.relative_to(root))] = (path.lstat().st_mode & 0o170111, content)
    return found


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that a capture must not touch: every file, link and folder of work tree and repository, with its time.

    Of git's objects and shared indexes not the time: git notes there which ones are still of use.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        is_noted = "objects" in path.parts or path.name.startswith("sharedindex.")
        if stat.S_ISREG(state.st_mode):
            found[str(path)] = (state.st_mode, 0 if is_noted else state.st_mtime_ns, path.read_bytes())
        else:
            found[str(path)] = (state.st_mode, 0, os.fsencode(path.readlink()) if path.is_symlink() else b"")
    return found


def edit(root: Path) -> None:
    """One tracked file of `repo`, and a new one."""
    (root / "train.py").write_text("print(2)\n")
    (root / "new.py").write_text("new = 1\n")
