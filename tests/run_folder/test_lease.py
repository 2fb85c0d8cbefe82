"""Which process writes, and whether it lives: never a living one taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlflow_dovetail.run_folder import Lease, lease

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

TELL = """
import msgspec, sys
from mlflow_dovetail.run_folder import Lease
print(msgspec.json.encode(Lease.own()).decode(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], Lease]]:
    process = subprocess.Popen([sys.executable, "-c", TELL], stdin=-1, stdout=-1, text=True)
    assert process.stdin and process.stdout
    try:
        yield process, msgspec.json.decode(process.stdout.readline(), type=Lease)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_this_process_lives():
    own = Lease.own()
    assert own.life() == "alive"
    assert own.pid == os.getpid() and own.start and own.boot_id


def test_another_process_lives_until_it_is_dead_also_while_nobody_has_waited_for_it(child):
    process, theirs = child
    assert theirs.pid == process.pid
    assert theirs.life() == "alive"
    process.send_signal(signal.SIGSTOP)
    assert theirs.life() == "alive"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()  # a zombie
    assert theirs.life() == "dead"
    process.wait()
    assert theirs.life() == "dead"


def test_a_pid_that_another_process_has_now_is_dead():
    assert msgspec.structs.replace(Lease.own(), start="1").life() == "dead"


def test_a_machine_that_has_started_again_is_dead_and_another_one_is_unknown():
    rebooted = msgspec.structs.replace(Lease.own(), boot_id="00000000-0000-4000-8000-000000000000")
    assert rebooted.life() == "dead"
    assert msgspec.structs.replace(rebooted, host="elsewhere").life() == "unknown"
    assert msgspec.structs.replace(rebooted, boot_id="").life() == "unknown"


def test_another_container_of_this_machine_is_unknown():
    assert msgspec.structs.replace(Lease.own(), pid_namespace="pid:[1]").life() == "unknown"


def test_a_lease_that_could_not_read_its_start_is_unknown():
    assert msgspec.structs.replace(Lease.own(), start="").life() == "unknown"


def test_a_process_whose_name_holds_parentheses_and_blanks(tmp_path: Path):
    program = tmp_path / "a) Z (b 1 2"
    program.symlink_to(Path("/bin/sleep").resolve())
    process = subprocess.Popen([str(program), "60"])
    try:
        (fields,) = [Path(f"/proc/{process.pid}/stat").read_text()]
        assert lease._start_of(process.pid) == fields.rpartition(") ")[2].split()[19]
    finally:
        process.kill()
        process.wait()
