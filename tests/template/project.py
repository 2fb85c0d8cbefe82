"""A baked project as a person uses it: its commands, its files, its runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from mlflow_dovetail import store
from mlflow_dovetail.records import Run

PACKAGE = "digits_classifier"
RESULTS = ("model.ckpt", "metrics.json", "mlflow_run.json", "evaluation.json")
QUIET = "trainer.enable_progress_bar=false"
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Done:
    """A command that has ended; `output` is what it printed, both streams together."""

    code: int
    output: str

    @property
    def ran(self) -> list[str]:
        """The DVC stages that ran, in order."""
        return re.findall(r"^Running stage '(.+)':", self.output, re.MULTILINE)

    @property
    def restored(self) -> list[str]:
        """The DVC stages whose results came from the run cache."""
        return re.findall(r"^Stage '(.+)' is cached - skipping run", self.output, re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A directory with a baked project, and the environment in which its commands run."""

    path: Path
    environment: Mapping[str, str]
    package: str = PACKAGE

    def attempt(self, *command: str, **variables: str) -> Done:
        """Run a command, whether or not it succeeds."""
        ended = subprocess.run(
            command,
            cwd=self.path,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=TIMEOUT_SECONDS,
        )
        return Done(ended.returncode, ended.stdout)

    def run(self, *command: str, **variables: str) -> Done:
        """Run a command that must succeed."""
        done = self.attempt(*command, **variables)
        assert done.code == 0, f"{command} exited with {done.code}\n{done.output}"
        return done

    def dvc(self, *arguments: str, **variables: str) -> Done:
        return self.run("dvc", *arguments, **variables)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).output.strip()

    def module(self, name: str, *arguments: str) -> list[str]:
        """The command `python -m <package>.<name> ...`."""
        return [sys.executable, "-m", f"{self.package}.{name}", *arguments]

    def train(self, *overrides: str, **variables: str) -> Done:
        return self.run(*self.module("train", QUIET, *overrides), **variables)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place in a file where `old` stands."""
        file = self.path / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """Edit a file for the length of a block."""
        before = (self.path / name).read_bytes()
        self.edit(name, old, new)
        try:
            yield
        finally:
            (self.path / name).write_bytes(before)

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @property
    def run_id(self) -> str:
        """The run that made the results of the workspace."""
        return str(self.json("mlflow_run.json")["run_id"])

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def store(self) -> store.MlflowStore:
        return store.open(self.uri)

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def runs(self, uri: str | None = None) -> list[Run]:
        """Every run of the project's store, or of another one; none where no store has been made."""
        if uri is None and not (self.path / "mlflow.db").exists():
            return []
        client = mlflow.MlflowClient(uri or self.uri)
        found = client.search_runs([one.experiment_id for one in client.search_experiments()])
        reader = store.open(uri or self.uri)
        return [reader.get_run(run.info.run_id) for run in found]

    @contextmanager
    def new_runs(self) -> Iterator[list[Run]]:
        """The runs that were made within a block, in the order of their start; filled when it ends."""
        before = {run.run_id for run in self.runs()}
        made: list[Run] = []
        yield made
        made += sorted((run for run in self.runs() if run.run_id not in before), key=lambda run: run.start_time_ms)

    def results(self) -> dict[str, bytes]:
        """The bytes of what `dvc repro` makes, and of every file that git tracks."""
        names = [*RESULTS, *self.git("ls-files").splitlines()]
        names += [str(path.relative_to(self.path)) for path in (self.path / "data").rglob("*.*")]
        return {name: (self.path / name).read_bytes() for name in names if (self.path / name).is_file()}
