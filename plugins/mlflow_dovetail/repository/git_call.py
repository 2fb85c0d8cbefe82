"""Ask git about a repository that must not be touched, within a time limit.

Git may write when it is asked: `status` refreshes the index, a clean filter stores objects, a hook or a file-system
monitor runs what it likes. Every way that is known is closed here, and inherited `GIT_*` variables are dropped, so that
the answer is about the folder and not about the caller's environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.redact import mask_text

CALL_LIMIT_SECONDS = 1.0

_SAFE_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_SSH_COMMAND": "false",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",  # causes are read by people and by tests: one language
}
_SAFE_SETTINGS = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "protocol.allow=never",
)
# A killed process that hangs in the kernel (a dead network drive) is left behind rather than waited for.
_REAP_SECONDS = 0.2


class GitAnswer(NamedTuple):
    """What one git call gave.

    Args:
        code: The exit status; -1 when git did not start or was killed at its limit.
        output: Standard output.
        cause: Why there is no good answer, one line; empty after exit status 0.
    """

    code: int
    output: bytes
    cause: str


class GitFailed(DovetailError):
    """A git call gave no good answer; `why` is what git said."""

    def __init__(self, verb: str, cause: str) -> None:
        super().__init__(f"git {verb} gives no answer.", f"{cause}.", "Look at the repository with git itself.")
        self.cause = cause


def ask_git(
    calls: Sequence[Sequence[str]],
    folder: str,
    *,
    deadline: float,
    limit_seconds: float = CALL_LIMIT_SECONDS,
    settings: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    feed: bytes = b"",
) -> list[GitAnswer]:
    """Run git calls side by side and wait for all of them, for `limit_seconds` at most.

    Args:
        calls: Arguments after `git`, the verb first.
        folder: Working directory of every call.
        deadline: On `time.monotonic()`'s clock; the limit is shortened to it.
        settings: More of git's settings, each `key=value`.
        environment: More variables, such as `GIT_INDEX_FILE`.
        feed: Standard input of every call.

    Returns:
        One answer a call, in order. A call that is not done in time is killed with its whole process group.
    """
    given_seconds = max(min(limit_seconds, deadline - time.monotonic()), 0)
    limit = time.monotonic() + given_seconds
    started = [_start(arguments, folder, settings, environment or {}) for arguments in calls]
    return [
        _finish(each, arguments[0], limit, given_seconds, feed) for each, arguments in zip(started, calls, strict=True)
    ]


class Git:
    """Calls about one repository, until one deadline.

    Args:
        folder: Working directory of every call.
        deadline: On `time.monotonic()`'s clock.
        settings: More of git's settings, each `key=value`.
        environment: More variables, such as `GIT_INDEX_FILE`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        deadline: float,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.deadline = deadline
        self.settings = tuple(settings)
        self.environment = dict(environment or {})

    def given(self, *settings: str, **environment: str) -> Git:
        """The same with more settings and variables."""
        both = {**self.environment, **environment}
        return Git(self.folder, deadline=self.deadline, settings=(*self.settings, *settings), environment=both)

    def run(self, *arguments: str, feed: bytes = b"") -> bytes:
        """The standard output of one call.

        Raises:
            GitFailed: It failed, or was not done by the deadline.
        """
        return self.run_all(arguments, feed=feed)[0]

    def run_all(self, *calls: Sequence[str], feed: bytes = b"") -> list[bytes]:
        """The standard outputs of calls side by side.

        Raises:
            GitFailed: One failed, or was not done by the deadline.
        """
        answers = self.ask(*calls, feed=feed)
        for arguments, answer in zip(calls, answers, strict=True):
            if answer.cause:
                raise GitFailed(arguments[0], answer.cause)
        return [answer.output for answer in answers]

    def ask(self, *calls: Sequence[str], feed: bytes = b"") -> list[GitAnswer]:
        """What calls side by side gave, good or not."""
        return ask_git(
            calls,
            str(self.folder),
            deadline=self.deadline,
            limit_seconds=float("inf"),
            settings=self.settings,
            environment=self.environment,
            feed=feed,
        )

    def write(self, target: Path, *arguments: str, feed: bytes = b"") -> None:
        """Write the standard output of one call to a file that only its owner can read.

        Raises:
            GitFailed: It failed, or was not done by the deadline.
            OSError: There is no room.
        """
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            given_seconds = max(self.deadline - time.monotonic(), 0)
            started = _start(arguments, str(self.folder), self.settings, self.environment, file)
            answer = _finish(started, arguments[0], self.deadline, given_seconds, feed)
        if answer.cause:
            raise GitFailed(arguments[0], answer.cause)


def safe_environment() -> dict[str, str]:
    """The environment of this process without `GIT_*`, with what keeps git quiet, local and read-only."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | _SAFE_ENVIRONMENT


def _start(
    arguments: Sequence[str],
    folder: str,
    settings: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int = subprocess.PIPE,
) -> subprocess.Popen[bytes] | GitAnswer:
    switches = [part for setting in (*_SAFE_SETTINGS, *settings) for part in ("-c", setting)]
    try:
        return subprocess.Popen(
            ["git", *switches, *arguments],
            cwd=folder,
            env=safe_environment() | dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        return GitAnswer(-1, b"", "git is not on PATH" if Path(folder).is_dir() else "the folder is gone")
    except OSError as error:
        return GitAnswer(-1, b"", f"git does not start: {error.strerror}")


def _finish(
    process: subprocess.Popen[bytes] | GitAnswer, verb: str, limit: float, given_seconds: float, feed: bytes
) -> GitAnswer:
    if isinstance(process, GitAnswer):
        return process
    try:
        output, errors = process.communicate(feed, timeout=max(limit - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return GitAnswer(-1, b"", f"git {verb} took over {given_seconds:.2g} s")
    finally:
        _end(process)
    code = process.returncode
    return GitAnswer(code, output or b"", "" if code == 0 else _first_line(errors) or f"git {verb} exited with {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group if the call is not over, however it was left: at the limit, or by Ctrl-C."""
    is_over = process.poll() is not None
    if not is_over and os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    elif not is_over:
        process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(BrokenPipeError):  # what it was fed and did not read
                pipe.close()
    try:
        process.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _first_line(errors: bytes) -> str:
    """What went wrong; a warning only where git says no more."""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    told = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[0] if lines else "")
    return mask_text(told.removeprefix("fatal: ").removeprefix("error: "))
