"""The kernel's own count of what it killed for memory, read by a process that lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlflow_dovetail.cgroup import find_cgroup
from mlflow_dovetail.run.out_of_memory import find_oom_file, read_oom_file, read_oom_kills

LIMIT_BYTES = 64 << 20
VICTIM = """
import sys
print("ready", flush=True)
sys.stdin.readline()
kept = [bytearray(b"x" * (1 << 20)) for _ in range(int(sys.argv[1]))]
print("alive", flush=True)
sys.stdin.readline()
"""
# Swap would only make the death slow.
LIMITS = {
    1: {"memory.limit_in_bytes": LIMIT_BYTES, "memory.swappiness": 0},
    2: {"memory.max": LIMIT_BYTES, "memory.swap.max": 0},
}


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of this machine, limited to 64 MiB, with a group inside."""
    own = find_cgroup("memory")
    if own is None:
        pytest.skip("no control group with a memory controller is mounted here")
    # In version 2 a group with processes in it gives no controller to groups below: only the top can.
    parent = own.folder if own.version == 1 else own.top
    folder = parent / f"dovetail-test-{os.getpid()}"
    try:
        _make(folder, own.version)
    except OSError as error:
        pytest.skip(f"a control group can be made by root only, where the machine lends them: {error}")
    yield folder
    (folder / "inner").rmdir()
    folder.rmdir()


def _make(folder: Path, version: int) -> None:
    if version == 2:
        (folder.parent / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    for name, value in LIMITS[version].items():
        if (folder / name).exists():
            (folder / name).write_text(str(value))
    (folder / "inner").mkdir()


@pytest.fixture
def victim() -> Iterator[Callable[[Path, int], subprocess.Popen[str]]]:
    """Start a process in a group; it takes so many MiB when it is sent a line."""
    started = []

    def start(group: Path, mebibytes: int) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(mebibytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(child)
        assert child.stdout.readline() == "ready\n"
        (group / "cgroup.procs").write_text(str(child.pid))
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def let_it_take(child: subprocess.Popen[str]) -> str:
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline()


@pytest.mark.parametrize("inner", ["", "inner"])
def test_a_process_that_takes_more_than_its_limit(
    group: Path, victim: Callable[[Path, int], subprocess.Popen[str]], inner: str
) -> None:
    child = victim(group / inner, 200)
    before, file = read_oom_kills(child.pid), find_oom_file(child.pid)
    own_before = read_oom_kills(os.getpid())
    assert before == 0
    assert let_it_take(child) == ""
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert read_oom_file(file) == 1
    assert find_cgroup("memory").version == 2 or read_oom_kills(os.getpid()) == own_before


def test_a_sibling_that_lives_on_reads_the_death(
    group: Path, victim: Callable[[Path, int], subprocess.Popen[str]]
) -> None:
    trainer, recorder = victim(group, 200), victim(group, 1)
    # The kernel takes the largest; the recorder must not be it by chance.
    Path(f"/proc/{trainer.pid}/oom_score_adj").write_text("1000")
    assert read_oom_kills(recorder.pid) == 0
    assert let_it_take(trainer) == ""
    assert trainer.wait(timeout=60) == -signal.SIGKILL
    assert read_oom_kills(recorder.pid) == 1
    assert recorder.poll() is None


def test_another_death_does_not_count(group: Path, victim: Callable[[Path, int], subprocess.Popen[str]]) -> None:
    child = victim(group, 8)
    file = find_oom_file(child.pid)
    assert let_it_take(child) == "alive\n"
    child.kill()
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert read_oom_file(file) == 0


EVENTS = "low 0\nhigh 12\nmax 481\noom 7\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "31 23 0:28 {} /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "36 31 0:32 {} /sys/fs/cgroup/memory rw,nosuid shared:9 master:3 - cgroup cgroup rw,memory\n"
UNIFIED = "45 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n35 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
)
SCOPE = "user.slice/user-1000.slice/session-2.scope"

TREES = [
    ("v2", f"0::/{SCOPE}\n", V2.format("/"), {f"sys/fs/cgroup/{SCOPE}/memory.events": EVENTS.format(3)}, 3),
    (
        "v2, the controller ends above",
        f"0::/{SCOPE}\n",
        V2.format("/"),
        {f"sys/fs/cgroup/{SCOPE}/cgroup.procs": "", "sys/fs/cgroup/user.slice/memory.events": EVENTS.format(4)},
        4,
    ),
    ("v2, the root of a container", "0::/\n", V2.format("/"), {"sys/fs/cgroup/memory.events": EVENTS.format(5)}, 5),
    (
        "v2, a container that is told its host's path",
        "0::/kubepods/pod1/c1\n",
        V2.format("/"),
        {"sys/fs/cgroup/memory.events": EVENTS.format(6)},
        6,
    ),
    (
        "v2, a part is mounted",
        "0::/docker/c1/inner\n",
        V2.format("/docker/c1"),
        {"sys/fs/cgroup/inner/memory.events": EVENTS.format(7)},
        7,
    ),
    (
        "v2, outside the namespace",
        "0::/../other\n",
        V2.format("/"),
        {"sys/fs/cgroup/memory.events": EVENTS.format(8), "sys/fs/other/memory.events": EVENTS.format(1)},
        8,
    ),
    ("v2, no memory controller", "0::/a\n", V2.format("/"), {"sys/fs/cgroup/a/cgroup.procs": ""}, None),
    ("v1", "4:memory:/job\n", V1.format("/"), {"sys/fs/cgroup/memory/job/memory.oom_control": CONTROL.format(2)}, 2),
    (
        "v1, a container",
        "4:memory:/docker/c1\n",
        V1.format("/docker/c1"),
        {"sys/fs/cgroup/memory/memory.oom_control": CONTROL.format(9)},
        9,
    ),
    (
        "both, memory in v1",
        "9:name=systemd:/\n4:memory:/job\n0::/job\n",
        UNIFIED + V1.format("/"),
        {
            "sys/fs/cgroup/memory/job/memory.oom_control": CONTROL.format(2),
            "sys/fs/cgroup/unified/job/cgroup.procs": "",
        },
        2,
    ),
    (
        "both, memory in v2",
        "9:name=systemd:/\n1:cpu:/job\n0::/job\n",
        UNIFIED,
        {"sys/fs/cgroup/unified/job/memory.events": EVENTS.format(3)},
        3,
    ),
    ("v1 of old", "4:memory:/\n", V1.format("/"), {"sys/fs/cgroup/memory/memory.oom_control": "under_oom 0\n"}, None),
    ("a colon and a blank", "0::/a: b\n", V2.format("/"), {"sys/fs/cgroup/a: b/memory.events": EVENTS.format(3)}, 3),
    ("the group is gone", "0::/a (deleted)\n", V2.format("/"), {"sys/fs/cgroup/memory.events": EVENTS.format(3)}, None),
    ("nothing is mounted", "0::/\n4:memory:/\n", "", {"sys/fs/cgroup/memory.events": EVENTS.format(3)}, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "kills"), [row[1:] for row in TREES], ids=[row[0] for row in TREES]
)
def test_tree(tmp_path: Path, groups: str, mounts: str, files: dict[str, str], kills: int | None) -> None:
    root = tmp_path / "root"
    for name, text in {"proc/42/cgroup": groups, "proc/self/mountinfo": OTHERS + mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert read_oom_kills(42, root) == kills
    assert read_oom_kills(43, root) is None


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    for name, text in {
        "proc/42/cgroup": "0::/\n",
        "proc/self/mountinfo": V2.format("/").replace("/sys/fs/cgroup", r"/my\040groups"),
        "my groups/memory.events": EVENTS.format(3),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_oom_kills(42, tmp_path) == 3


def test_another_system_than_linux(tmp_path: Path) -> None:
    assert read_oom_kills(os.getpid(), tmp_path) is None


def test_a_group_that_has_gone(tmp_path: Path) -> None:
    assert read_oom_file(tmp_path / "memory.events") is None
