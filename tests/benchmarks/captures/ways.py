"""The ways to keep a repository's state that are compared: each gives the patch that it keeps."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Milliseconds = list[float]


@dataclass
class Way:
    """One way, in the working directory.

    Args:
        label: Its columns' name.
        keep: Called for each measurement; returns the milliseconds of its stages, each with those before.
        patch: What `keep` kept last, to apply to the commit; a commit alone is an empty one.
        needs: The module to look for.
        note: What is to be said of what it kept last.
    """

    label: str
    keep: Callable[[], Milliseconds]
    patch: Callable[[], bytes] = bytes
    needs: str = ""
    note: Callable[[], str] = str

    @property
    def installed(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def git_status() -> Milliseconds:
    """What all others are compared with."""
    started = time.perf_counter()
    subprocess.run(["git", "--no-optional-locks", "status", "--porcelain"], check=True, stdout=subprocess.DEVNULL)
    return [(time.perf_counter() - started) * 1000]


@dataclass
class Dovetail:
    """Capture, as the trainer does, and then the patch and its proof, as the recorder does.

    Each time in a new folder, and the old ones stay: ext4 is slow to make files in the seconds after it deleted many.
    """

    scratch: Path
    count: int = 0
    verdict: str = ""
    uploaded: bytes = field(default=b"", repr=False)

    def keep(self) -> Milliseconds:
        from mlflow_dovetail.git_patch import Limits, capture, finish

        self.count += 1
        into, target = self.scratch / f"private-{self.count}", self.scratch / f"uploaded-{self.count}"
        started = time.perf_counter()
        told = capture([Path.cwd()], into, attempt=1, leave_out=(), limits=Limits())
        captured = time.perf_counter()
        state = finish(told, into, target, "code")
        finished = time.perf_counter()
        patch = target / "diff.patch"
        self.uploaded, self.verdict = patch.read_bytes() if patch.exists() else b"", state.verdict
        return [(captured - started) * 1000, (finished - started) * 1000]


@dataclass
class WandB:
    """The call of wandb-core, which writes what git says, errors too, to `diff.patch`; no `@{u}` is there.

    Source:
        wandb/wandb, core/internal/gitops/git.go, `SavePatch`.
    """

    target: Path

    def keep(self) -> Milliseconds:
        self.target.unlink(missing_ok=True)
        started = time.perf_counter()
        command = ["git", "diff", "HEAD", "--submodule=diff"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.stdout:
            self.target.write_bytes(done.stdout)
        return [(time.perf_counter() - started) * 1000]

    def patch(self) -> bytes:
        return self.target.read_bytes() if self.target.exists() else b""


def mlflow_run() -> Milliseconds:
    """What MLflow notes at the creation of a run: commit, branch and URL, no change."""
    from mlflow.utils.git_utils import get_git_branch, get_git_commit, get_git_repo_url

    folder = str(Path.cwd())
    started = time.perf_counter()
    found = get_git_commit(folder), get_git_branch(folder), get_git_repo_url(folder)
    took = (time.perf_counter() - started) * 1000
    if not found[0]:
        raise RuntimeError("MLflow finds no commit")
    return [took]


@dataclass
class MLflowVersioning:
    """What `mlflow.genai.enable_git_model_versioning` puts into a tag of a logged model."""

    diff: str = ""

    def keep(self) -> Milliseconds:
        from mlflow.genai.git_versioning.git_info import GitInfo

        started = time.perf_counter()
        info = GitInfo.from_env("origin")
        took = (time.perf_counter() - started) * 1000
        self.diff = info.diff or ""
        return [took]

    def patch(self) -> bytes:
        """GitPython takes the last line's end away; whoever restores gives it back."""
        return (self.diff + "\n").encode("utf-8", "surrogateescape") if self.diff else b""


def all_ways(scratch: Path) -> list[Way]:
    """Dovetail's first."""
    for name in ("mlflow.genai.git_versioning.git_info", "git"):
        logging.getLogger(name).setLevel(logging.ERROR)
    dovetail, wandb, versioning = Dovetail(scratch / "dovetail"), WandB(scratch / "diff.patch"), MLflowVersioning()
    return [
        Way("Dovetail", dovetail.keep, lambda: dovetail.uploaded, note=lambda: dovetail.verdict),
        Way("W&B's `git diff HEAD`", wandb.keep, wandb.patch),
        Way("MLflow, a run", mlflow_run, needs="mlflow"),
        Way("MLflow, GenAI", versioning.keep, versioning.patch, needs="git"),
    ]


@contextlib.contextmanager
def working_in(folder: Path):
    """As a training does: in the repository."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
