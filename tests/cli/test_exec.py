"""`dovetail exec`: real commands, real signals, a real terminal, one sqlite store."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mlflow_dovetail import store
from mlflow_dovetail.records import Run

NOT_INHERITED = ("MLFLOW_", "DOVETAIL_", "DVC_")


class Project:
    """A folder in which commands are tracked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = f"sqlite:///{root}/mlflow.db"

    def command(self, name: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "mlflow_dovetail", "exec", "--run-name", name, "--experiment", "exec", *words]

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **variables}

    def exec(self, name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, "--", *words),
            cwd=self.root,
            env=self.environment(**variables),
            input="typed\n",
            capture_output=True,
            text=True,
            timeout=100,
        )

    def start(self, name: str, *words: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(name, "--", *words), cwd=self.root, env=self.environment(), **{"stdout": -1, **options}
        )

    def read(self, name: str) -> Run:
        with store.open(self.uri, "exec") as opened:
            return opened.find_run(name)

    def console(self, name: str) -> bytes:
        with store.open(self.uri) as opened:
            return opened.read_artifact(self.read(name).run_id, "console.log", self.root / name).read_bytes()

    def ending(self, name: str) -> tuple[str, str | None]:
        run = self.read(name)
        return run.status, run.tags.get("dovetail.end.cause")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    found = Project(tmp_path_factory.mktemp("project"))
    store.open(found.uri, "exec").close()
    (found.root / ".git").mkdir()
    return found


def talk(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_output_passes_through_is_kept_once_and_the_exit_code_is_the_commands(project):
    done = project.exec(
        "passes",
        *talk(
            "import sys, os; print(input(), os.environ['MLFLOW_RUN_ID']); print('oops', file=sys.stderr); sys.exit(3)"
        ),
        "--api-key",
        "hush",
        "--",
        "--json",
    )
    run = project.read("passes")
    assert (done.returncode, done.stdout) == (3, f"typed {run.run_id}\n")
    assert done.stderr == f"oops\ndovetail: run {run.run_id} FAILED (exit code 3)\n"
    assert sorted(project.console("passes").splitlines()) == [b"oops", f"typed {run.run_id}".encode()]
    assert project.ending("passes") == ("FAILED", "exit code 3")
    assert "hush" not in run.tags["dovetail.command"]
    assert run.tags["dovetail.command"].endswith("--api-key *** -- --json")


def test_what_the_command_logs_lands_in_the_run_and_its_output_is_kept_once(project):
    code = (
        "import mlflow_dovetail as dt\n"
        "with dt.start_run() as run:\n"
        "    run.log_metrics({'loss': 0.5}, step=0)\n"
        "    print('in it')\n"
        "with dt.start_run(run_name='beside') as run: pass\n"
    )
    done = project.exec("ours", *talk(code))
    assert (done.returncode, done.stdout) == (0, "in it\n")
    run = project.read("ours")
    assert (run.status, run.metrics["loss"], run.tags["dovetail.attempt"]) == ("FINISHED", 0.5, "1")
    assert project.console("ours") == b"in it\n"
    assert project.read("beside").tags["mlflow.parentRunId"] == run.run_id


def test_plain_mlflow_logs_to_the_run_whose_end_is_the_commands(project):
    code = (
        "import mlflow, os, signal\n"
        "mlflow.log_metric('loss', 0.25)\n"
        "mlflow.end_run()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = project.exec("plain", *talk(code))
    assert done.returncode == 137
    assert project.ending("plain") == ("FAILED", "signal 9 (SIGKILL)")
    assert project.read("plain").metrics["loss"] == 0.25


def test_a_logging_command_that_is_killed_has_the_signal_as_its_cause(project):
    code = "import os, mlflow_dovetail as dt\nrun = dt.start_run()\nrun.log_metric('a', 1)\nos.kill(os.getpid(), 9)"
    assert project.exec("killed", *talk(code)).returncode == 137
    assert project.ending("killed") == ("FAILED", "signal 9 (SIGKILL)")
    assert project.read("killed").metrics["a"] == 1


WAITS = """
import signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(number))
print("ready", flush=True)
while not seen: time.sleep(0.01)
time.sleep(1)
print("heard", *map(int, seen), flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_reaches_the_command_once_and_the_run_is_killed(project, number, group):
    """Sent to one process, as `kill` does, and to all of a group, as a terminal does on Ctrl-C."""
    name = f"signal {number}"
    with project.start(name, *talk(WAITS), start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        (os.killpg if group else os.kill)(process.pid, number)
        assert process.stdout.read() == f"heard {int(number)}\n".encode()
    assert process.returncode == 7
    assert project.ending(name) == ("KILLED", number.name)


def test_a_command_that_a_signal_ends_exits_as_a_shell_says_it(project):
    with project.start("sleeps", "sh", "-c", "echo ready; exec sleep 100") as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert project.ending("sleeps") == ("KILLED", "SIGTERM")


def test_on_a_terminal_the_command_has_one_and_output_comes_at_once(project):
    code = (
        "import os, sys, time\n"
        "print(sys.stdout.isatty(), sys.stderr.isatty(), *os.get_terminal_size())\n"
        "for share in (1, 2, 3):\n"
        "    print(f'\\r{share}/3', end='', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.3)\n"
        "print()\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 97, 0, 0))
    with project.start("tty", *talk(code), stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        heard, first = b"", 0.0
        while b"dovetail: run" not in heard:
            heard += os.read(ours, 65536)
            if b"\r1/3" in heard and not first:
                first = time.monotonic()
            if b"\r3/3" not in heard:
                before_last = time.monotonic()
    os.close(ours)
    assert heard.startswith(b"True True 97 40\r\n\r1/3\r2/3\r3/3\r\n")
    assert before_last - first > 0.2
    assert project.console("tty") == b"True True 97 40\n3/3\n"


def test_a_reader_that_stops_early_ends_the_command_as_without_dovetail(project):
    with project.start("head", "sh", "-c", "yes; echo $? >&2", stderr=-1) as process:
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        process.wait(60)
    assert process.returncode == 0
    assert project.ending("head") == ("FINISHED", None)


def test_a_child_that_stays_behind_is_not_waited_for_and_json_is_the_last_line(project):
    command = [
        *project.command("leaves", "--json", "--tracking-uri", project.uri),
        "--",
        "sh",
        "-c",
        "sleep 60 & echo out",
    ]
    begin = time.monotonic()
    done = subprocess.run(
        command, cwd=project.root, env=project.environment(), stdout=-1, text=True, timeout=100, check=True
    )
    assert time.monotonic() - begin < 50
    first, last = done.stdout.splitlines()
    told = json.loads(last)
    assert first == "out"
    run_id = project.read("leaves").run_id
    assert (told["run_id"], told["status"], told["exit_code"], told["is_sent"]) == (run_id, "FINISHED", 0, True)


def test_without_a_store_the_run_is_kept_and_sent_later(project, tmp_path):
    done = project.exec(
        "later",
        "echo",
        "kept",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        DOVETAIL_DIR=str(tmp_path),
        DOVETAIL_STRICT="",
    )
    assert (done.returncode, done.stdout) == (0, "kept\n")
    (path,) = (tmp_path / ".dovetail" / "runs").iterdir()
    assert f"is kept in {path}" in done.stderr
    from mlflow_dovetail.run.sync import sync_folder

    assert sync_folder(path, project.uri).state == "complete"
    assert project.read("later").status == "FINISHED"
    assert project.console("later") == b"kept\n"


@pytest.mark.parametrize(("what", "code", "why"), [("nosuch", 127, "No such file"), ("./notes.txt", 126, "denied")])
def test_what_cannot_be_run_leaves_no_run_running(project, what, code, why):
    (project.root / "notes.txt").write_text("no program")
    done = project.exec(f"cannot {code}", what)
    assert (done.returncode, done.stdout) == (code, "")
    assert f"Cannot run {what!r}" in done.stderr and why in done.stderr
    assert "Traceback" not in done.stderr
    if code == 126:
        status, cause = project.ending(f"cannot {code}")
        assert (status, cause) == ("FAILED", "cannot start: Permission denied")


@pytest.mark.parametrize("words", [[], ["--"], ["--run-name", "a", "--"], ["--no-such", "--", "true"]])
def test_wrong_usage_exits_2_and_says_how(tmp_path, words):
    command = [sys.executable, "-m", "mlflow_dovetail", "exec", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: dovetail")
    assert list(tmp_path.iterdir()) == []


def test_help_gives_an_example(tmp_path):
    command = [sys.executable, "-m", "mlflow_dovetail", "exec", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  dovetail exec --run-name baseline -- python train.py" in done.stdout.partition("Example")[2]
