"""Trainers as child processes: started, watched, hurt and, with their recorders, ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from faults.truth import Truth, read_truth

TRAINER = Path(__file__).with_name("trainer.py")
PREFIXES_NOT_INHERITED = ("MLFLOW_", "DVC_", "DOVETAIL_", "GIT_")
START_SECONDS = 60
QUIET_SECONDS = 60


def child_environment(**variables: str) -> dict[str, str]:
    """What the person at the keyboard has set must not decide where children write."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(PREFIXES_NOT_INHERITED)}
    path = os.pathsep.join([str(TRAINER.parent.parent), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    fixed = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return {**kept, **fixed, **variables}


def wait_until(is_so: Callable[[], Any], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds} s still waiting until {what}"
        time.sleep(0.02)


class Training:
    """One trainer in a folder of its own.

    Args:
        folder: An empty one: `DOVETAIL_DIR`, unless that is given, and working directory.
        uri: Of the store that it logs to.
        options: The trainer's arguments, as `steps=100` or `artifact_every=10`.
        variables: Environment of the trainer and its recorder.
        before: A command to run it under, such as `setpriv --bounding-set -dac_override`.
        through: A shell's tail, such as `| cat`; the child is then the shell.
        piped: Whether its output goes to a pipe, `process.stdout`, instead of files.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        *,
        variables: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        through: str = "",
        piped: bool = False,
        **options: object,
    ) -> None:
        self.folder, self.uri = folder, uri
        self.experiment = f"faults {uuid.uuid4().hex[:8]}"
        self.truth_file, self._early = folder / "truth.jsonl", folder / "early.json"
        self._until = folder / "until"
        files = {"early": self._early, "truth": self.truth_file, "until": self._until}
        given = {**files, "uri": uri, "experiment": self.experiment, **options}
        arguments = [f"--{name.replace('_', '-')}={text}" for name, text in given.items()]
        command = [*before, sys.executable, str(TRAINER), *arguments]
        if through:
            command = ["bash", "-c", f'"$@" {through}', "bash", *command]
        self.variables = {"DOVETAIL_DIR": str(folder), **(variables or {})}
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as talk:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=child_environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out,
                stderr=subprocess.STDOUT if piped else talk,
                start_new_session=True,
            )

    # What it says.

    @property
    def facts(self) -> dict[str, Any]:
        """What it told once it ran: pid, token, run_id, folder, start_seconds."""
        return dict(json.loads(self._early.read_text()))

    @property
    def token(self) -> str:
        """From its own words, else from the run folder that it made."""
        if self._early.exists():
            return str(self.facts["token"])
        (folder,) = self.run_folders()
        return folder.name

    @property
    def run_folder(self) -> Path:
        return Path(self.facts["folder"])

    def run_folders(self) -> list[Path]:
        root = Path(self.variables["DOVETAIL_DIR"])
        return [path.parent for path in root.glob(".dovetail/runs/*/run.json")]

    @property
    def truth(self) -> Truth:
        return read_truth(self.truth_file)

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    def report(self) -> str:
        """Everything that helps to understand a failure."""
        roots = {self.folder, Path(self.variables["DOVETAIL_DIR"])}
        recorder_logs = [log for root in roots for log in root.rglob("recorder.log")]
        logs = [self.folder / "stdout", self.folder / "stderr", *recorder_logs]
        parts = [f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs]
        return f"exit code {self.process.poll()}\n" + "\n".join(parts)

    # Waiting.

    def wait_starting(self) -> None:
        """Until it is about to call `start_run`."""
        self._wait(self._early.with_suffix(".starting").exists, "it has imported", START_SECONDS)

    def wait_started(self) -> None:
        """Until `start_run` has returned."""
        self._wait(self._early.exists, "start_run has returned", START_SECONDS)

    def wait_steps(self, count: int, seconds: float = 30) -> None:
        """Until so many more steps are logged than when this is called."""
        self.wait_started()
        self.wait_logged(self._lines() + count, seconds)

    def wait_logged(self, count: int, seconds: float = 30) -> None:
        """Until so many steps and artifacts are logged in all."""
        self.wait_started()
        self._wait(lambda: self._lines() >= count, f"{count} steps are logged", seconds)

    def wait(self, seconds: float = 60) -> int:
        """Until it ends; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the trainer has not ended after {seconds} s\n{self.report()}") from None

    def wait_quiet(self, seconds: float = QUIET_SECONDS) -> None:
        """Until no recorder of it is left."""
        try:
            wait_until(lambda: not self.recorders(), "the recorder has ended", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None

    # Doing.

    def stop(self) -> None:
        """Have it end after the present step, as `end` says."""
        self._until.touch()

    def finish(self, seconds: float = 60) -> int:
        """Stop it, wait for it and for its recorder; its exit code."""
        self.stop()
        code = self.wait(seconds)
        self.wait_quiet(seconds)
        return code

    def signal(self, number: int) -> None:
        os.kill(self.facts["pid"] if self._early.exists() else self.process.pid, number)

    def recorders(self) -> list[int]:
        """Process ids of its recorders."""
        folder = self.facts["folder"] if self._early.exists() else f"{self.variables['DOVETAIL_DIR']}/"
        return processes_with("mlflow_dovetail.run.recorder", folder)

    def kill_recorders(self) -> int:
        """SIGKILL them; how many there were."""
        found = self.recorders()
        for pid in found:
            kill(pid)
        return len(found)

    def dovetail(
        self, *arguments: str, before: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command `dovetail` beside it."""
        return dovetail(self.folder, *arguments, before=before, **{**self.variables, **variables})

    def sync(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`dovetail sync` of its folder, which must succeed."""
        done = self.dovetail("sync", *arguments, **variables)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.report()}"
        return done

    def close(self) -> None:
        """End everything that is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        for folder in {str(self.folder), self.variables["DOVETAIL_DIR"]}:
            for pid in processes_with(f"{folder}/"):
                kill(pid)

    def __enter__(self) -> Training:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lines(self) -> int:
        return self.truth_file.read_bytes().count(b"\n") if self.truth_file.exists() else 0

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        def so_or_ended() -> bool:
            return is_so() or self.process.poll() is not None

        try:
            wait_until(so_or_ended, what, seconds)
            assert is_so(), f"the trainer ended before {what}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None


class Copied:
    """A copy of a trainer's run folder, made a run of its own: one trainer serves many tests of what lies on the disk.

    Args:
        training: Which has ended.
        project: Where the copy's `.dovetail` lies.
    """

    def __init__(self, training: Training, project: Path) -> None:
        self.project, self.truth, self.token = project, training.truth, uuid.uuid4().hex
        self.run_folder = project / ".dovetail" / "runs" / self.token
        shutil.copytree(training.run_folder, self.run_folder)
        about = json.loads((self.run_folder / "run.json").read_text())
        (self.run_folder / "run.json").write_text(json.dumps({**about, "token": self.token}))

    def dovetail(
        self, *arguments: str, before: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command `dovetail` in its project."""
        return dovetail(self.project, *arguments, before=before, DOVETAIL_DIR=str(self.project), **variables)

    def sync(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`dovetail sync` of its project, which must succeed."""
        done = self.dovetail("sync", *arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done


def dovetail(
    folder: Path, *arguments: str, before: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command `dovetail` in a folder."""
    command = [*before, sys.executable, "-m", "mlflow_dovetail", *arguments]
    environment = child_environment(**variables)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def processes_with(*parts: str) -> list[int]:
    """Processes in whose command line all of these stand."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(part in command for part in parts):
                found.append(int(entry.name))
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
