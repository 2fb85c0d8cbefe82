"""Every check in a process of its own, side by side, each until its limit: none can hang, crash or change another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mlflow_dovetail.doctor.records import Check, Finding, Step, problem
from mlflow_dovetail.errors import DovetailError

# The slowest come first: they set how long it all takes.
CHECKS = (
    Check("plugins", "plugins", 40.0, "mlflow"),
    Check("plugins", "plugins", 40.0, "others"),
    Check("gpu", "gpu", 40.0),
    Check("dvc", "dvc_project"),
    Check("dvc", "dvc_remote"),
    Check("store", "tracking_store"),
    Check("runs", "run_folders"),
    Check("git", "git_repository"),
    Check("git", "git_content"),
    Check("versions", "versions"),
    Check("telemetry", "telemetry"),
    Check("settings", "settings"),
    Check("machine", "machine"),
)
ORDER = ("versions", "plugins", "git", "dvc", "store", "runs", "settings", "gpu", "machine", "telemetry")
_REAP_SECONDS = 1.0


def examine(
    folder: Path,
    tracking_uri: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    checks: tuple[Check, ...] = CHECKS,
) -> list[Finding]:
    """Look at a project and its machine; nothing of them is changed.

    Args:
        folder: Of the project, or in it.
        tracking_uri: As `store.resolve_uri` takes it.
        environment: The variables under which the user works; this process's when left out.
        checks: Which to run.

    Returns:
        What was found, by check. A check that could not be finished is a problem itself: what it looks at
        may be anything.

    Raises:
        DovetailError: The folder is not there.
    """
    if not folder.is_dir():
        raise DovetailError(f"Cannot examine {folder}.", "There is no such folder.", "Name the folder of a project.")
    started = [_Child(check, folder.resolve(), tracking_uri, environment) for check in checks]
    try:
        found = [finding for child in started for finding in child.findings()]
    finally:
        for child in started:
            child.end()
    return sorted(found, key=lambda finding: ORDER.index(finding.check) if finding.check in ORDER else len(ORDER))


class _Child:
    """The process of one check."""

    def __init__(
        self, check: Check, folder: Path, tracking_uri: str | None, environment: Mapping[str, str] | None
    ) -> None:
        self._check = check
        self._until = time.monotonic() + check.seconds
        given = json.dumps([check.module, check.part, str(folder), tracking_uri])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_dovetail.doctor.child", given],
            # `-m` looks for modules in the working directory first, and a project may have files of any name.
            cwd=Path(sys.executable).parent,
            env=_with_absolute_path(os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def findings(self) -> list[Finding]:
        """What it tells until it ends or its limit has come."""
        try:
            output, _ = self._process.communicate(timeout=max(self._until - time.monotonic(), 0))
            cause = "" if self._process.returncode == 0 else _ending(self._process.returncode)
        except subprocess.TimeoutExpired as late:
            output, cause = late.output or b"", f"It took over {self._check.seconds:.0f} s"
        told = [one for line in output.splitlines() if (one := _read(line))]
        found = [replace(one, check=self._check.name) for one in told if isinstance(one, Finding)]
        if cause:
            last = told[-1] if told else None
            found.append(self._unfinished(cause, last.doing if isinstance(last, Step) else ""))
        return found

    def end(self) -> None:
        """Kill what is left of it; one that hangs in the kernel is left behind."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                if os.name == "posix":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
        if self._process.stdout:
            self._process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)

    def _unfinished(self, cause: str, doing: str) -> Finding:
        what = "This check could not be finished." if self._check.name != "plugins" else "Not every plugin loads."
        found = problem(
            what,
            f"{cause}{f' while {doing}' if doing else ''}.",
            "Mend what is named here, or do that by hand to see more. All other checks have been made.",
        )
        return replace(found, check=self._check.name)


def _read(line: bytes) -> Finding | Step | None:
    """None of a line that was not written to its end."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return Step(**fields) if "doing" in fields else Finding(**fields)


def _ending(code: int) -> str:
    if code >= 0:
        return f"Its process ended with {code}"
    with suppress(ValueError):
        return f"Its process was ended by {signal.Signals(-code).name}"
    return f"Its process was ended by the signal {-code}"


def _with_absolute_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The child starts elsewhere: relative parts of PYTHONPATH are those of this process."""
    parts = [str(Path(part).resolve()) for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    rest = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return {**rest, "PYTHONPATH": os.pathsep.join(parts)} if parts else rest
