"""Any command as a run: started, heard, and its end told. POSIX only."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mlflow_dovetail import context, names, redact, store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.journal import Progress, is_complete
from mlflow_dovetail.records import RunStatus
from mlflow_dovetail.run.abandoned import OUT_OF_MEMORY, close_abandoned
from mlflow_dovetail.run.opening import open_new
from mlflow_dovetail.run.out_of_memory import read_oom_kills
from mlflow_dovetail.run.passing import Passing
from mlflow_dovetail.run.start import _experiment
from mlflow_dovetail.run.tracked import Run
from mlflow_dovetail.run_folder import RunFolder

_CANNOT_RUN, _NOT_FOUND, _SIGNALLED = 126, 127, 128  # as shells say it
_SCRIPTS = {".py", ".ipynb", ".sh", ".bash", ".r", ".R", ".jl", ".pl", ".rb", ".lua", ".js", ".ts", ".m"}
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long a signal to a whole process group may take to be felt by all of it.
_GROUP_SECONDS = 0.25


class CannotStart(DovetailError):
    """A command that does not exist, or is no program. `exit_code` is what a shell would return."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(
            f"Cannot run {program!r}.",
            f"{error.strerror}.",
            "Check what stands after `--`: a program on the PATH, or the path of one that may be executed.",
        )
        self.exit_code = _NOT_FOUND if error.errno == errno.ENOENT else _CANNOT_RUN


@dataclass(frozen=True)
class CommandResult:
    """How a tracked command ended.

    Attributes:
        run_id: MLflow's, or the token of a run that no store has yet.
        exit_code: Of the command; 128 + n after signal n.
        folder: The run folder.
        is_sent: Whether the store has all of it.
    """

    run_id: str
    token: str
    status: RunStatus
    cause: str
    exit_code: int
    folder: Path
    is_sent: bool


def run_command(
    command: Sequence[str],
    *,
    run_name: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
) -> CommandResult:
    """Run a command as a run of its own.

    Its output goes through unchanged and is kept as `console.log`. What it logs with `mlflow` or `mlflow_dovetail`
    lands in the same run; a run that it starts beside that one becomes a child. SIGINT, SIGTERM and SIGHUP are passed
    on. To be called in the main thread.

    Args:
        command: The program and its arguments.
        run_name: MLflow invents one when left out.
        experiment: `MLFLOW_EXPERIMENT_NAME` when left out, else "Default".
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.

    Raises:
        CannotStart: There is no such program.
        StoreRefused: The experiment has been deleted.
        RunFolderInvalid: No folder can be written.
        InputsChanged: The command is a DVC stage, and its inputs were edited while it ran.
    """
    if shutil.which(command[0]) is None and not Path(command[0]).exists():
        raise CannotStart(command[0], OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    uri = store.resolve_uri(tracking_uri)
    experiment = experiment or _experiment(uri, None)
    run = _open(command, run_name, experiment, uri)
    oom_kills = read_oom_kills(os.getpid())
    try:
        with (
            Passing(run.folder / "console.log") as passing,
            _Child(command, _environment(run, experiment), passing) as child,
        ):
            passing.pump(child.has_ended)
            code = child.wait()
        if code == 0 and not child.received:
            _write_link(run)
    except CannotStart as error:
        run.end("FAILED", f"cannot start: {error.why.rstrip('.')}")
        run.close()
        raise
    except BaseException as error:
        run.fail(error)
        run.close()
        raise
    # A logging process of the command may have died without a word: nothing more comes from it.
    folder = RunFolder.open(run.folder)
    close_abandoned(folder, oom_kills)
    status, cause = _verdict(code, child.received, oom_kills)
    run.end(status, cause)
    run.close()
    exit_code = code if code >= 0 else _SIGNALLED - code
    is_sent = is_complete(folder, Progress.load(folder, run.tracking_uri))
    return CommandResult(run.run_id, run.token, status, cause, exit_code, run.folder, is_sent)


class _Child:
    """The command's process; signals that this process gets while it lives are passed on to it.

    Attributes:
        received: The first of them.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], passing: Passing) -> None:
        self.received: signal.Signals | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sentinel = _spawn_sentinel()
        # One that is ignored here (nohup, a script's background job) is ignored by the command too.
        before = {number: signal.getsignal(number) for number in _PASSED_ON}
        self._before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._on_signal)
        try:
            self._process = subprocess.Popen(command, env=environment, stdout=passing.out, stderr=passing.err)
        except OSError as error:
            self.__exit__(None, None, None)
            raise CannotStart(command[0], error) from error
        passing.started()
        if self.received:
            self._process.send_signal(self.received)

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def wait(self) -> int:
        return self._process.wait() if self._process else 0

    def __enter__(self) -> _Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        _end_sentinel(self._sentinel)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.received = self.received or signal.Signals(number)
        if self._process is None:
            return
        # Ctrl-C, and `timeout`, send to the whole process group: the command has it then, and a second one would break
        # off its orderly end. A process that does nothing but feel signals tells whether it was so.
        try:
            self._sentinel.wait(_GROUP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(number)
        else:
            _end_sentinel(self._sentinel)
            self._sentinel = _spawn_sentinel()


def _spawn_sentinel() -> subprocess.Popen[bytes]:
    """A member of this process group that waits for this process's end, or for a signal."""
    nothing = subprocess.DEVNULL
    return subprocess.Popen(["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, stdout=nothing, stderr=nothing)


def _end_sentinel(sentinel: subprocess.Popen[bytes]) -> None:
    if sentinel.stdin:
        sentinel.stdin.close()
    sentinel.wait()


def _open(command: Sequence[str], run_name: str | None, experiment: str, uri: str) -> Run:
    from mlflow.tracking.context.registry import resolve_tags

    script = _script(command)
    wanted = context.seal({names.TAG_COMMAND: redact.mask_command(command)})
    return Run(open_new(uri, experiment, None, run_name, resolve_tags(wanted)), script)


def _write_link(run: Run) -> None:
    """Write the link file of the DVC stage that runs here, unless the command has done that."""
    path = run.link_path
    if path and not (path.exists() and path.stat().st_mtime * 1000 >= run.opened_info.start_time):
        run.write_link(path.parent)


def _script(command: Sequence[str]) -> Path | None:
    """The first file of a command that is a program's text."""
    # `os.path.isfile` says no where `Path.is_file` raises: to a word that is too long, in a folder that is closed.
    files = (Path(word) for word in command if not word.startswith("-") and os.path.isfile(word))  # noqa: PTH113
    return next((path.resolve() for path in files if _is_script(path)), None)


def _is_script(path: Path) -> bool:
    if path.suffix in _SCRIPTS:
        return True
    with suppress(OSError), path.open("rb") as file:
        return file.read(2) == b"#!"
    return False


def _environment(run: Run, experiment: str) -> dict[str, str]:
    """By which the command's own logging finds the run, its store and its folder, and children go beside it."""
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_EXPERIMENT_ID"}
    return {
        **kept,
        "MLFLOW_RUN_ID": run.run_id,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        names.ENV_TRACKING_URI: run.tracking_uri,
        names.ENV_PARENT_RUN: run.run_id,
        names.ENV_DIR: str(run.folder.parents[2]),
    }


def _verdict(code: int, received: signal.Signals | None, oom_kills_before: int | None) -> tuple[RunStatus, str]:
    if received:
        return "KILLED", received.name
    if code == 0:
        return "FINISHED", ""
    if code > 0:
        return "FAILED", f"exit code {code}"
    if -code == signal.SIGKILL and (read_oom_kills(os.getpid()) or 0) > (oom_kills_before or 0):
        return "FAILED", OUT_OF_MEMORY
    try:
        return "FAILED", f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal
        return "FAILED", f"signal {-code}"
