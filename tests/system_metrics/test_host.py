"""The host's values are true: beside the kernel's own counters, MLflow's monitors and what real processes did."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Set
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from mlflow_dovetail.cgroup import ROOT
from mlflow_dovetail.system_metrics.host import FIELDS, HostSource
from mlflow_dovetail.system_metrics.host_counters import ALL_SECONDS, BUSY_SECONDS, count_disks, count_processors
from mlflow_dovetail.system_metrics.process_tree import ProcessTree
from mlflow_dovetail.system_metrics.records import Source

from .puppet import Puppet, puppet
from .test_pressure import FULL, SOME, V2, write

linux = pytest.mark.skipif(not psutil.LINUX, reason="it is Linux that tells")
V1 = "31 23 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V1 += "32 23 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
MLFLOW_KEYS = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}
MLFLOW_TOTALS = {"network_receive_megabytes", "network_transmit_megabytes"}
OF_TREE = {key for key in FIELDS if key.startswith("process_")}
OF_LIMITS = {key for key in FIELDS if "limit" in key}
OF_SWAP = {key for key in FIELDS if key.startswith("swap_")}
OF_STORAGE = {key for key in FIELDS if key.startswith("process_disk_")}
ALWAYS = MLFLOW_KEYS | OF_TREE - OF_STORAGE | {"system_memory_available_megabytes", "load_average_1_minute"}

REPEATED = SimpleNamespace(read_bytes=10**12, write_bytes=10**12)


@pytest.fixture
def trainer() -> Iterator[Puppet]:
    with puppet() as one:
        yield one


def watch(trainer: Puppet, folder: Path = ROOT, root: Path = ROOT) -> HostSource:
    return HostSource(ProcessTree(trainer.pid), folder, root)


def close(source: HostSource, seconds: float = 0.6) -> dict[str, float]:
    """All values at the end of a window that lasts at least so long."""
    time.sleep(seconds)
    return {**source.poll(), **source.close_window()}


class Watched:
    """A source with what is known of its window: a rate is of a time between two, however busy the machine is."""

    def __init__(self, trainer: Puppet, root: Path = ROOT) -> None:
        began = time.monotonic()
        self.source = watch(trainer, root=root)
        self._opened = began, time.monotonic()

    def close(self, seconds: float = 0.6) -> dict[str, float]:
        time.sleep(seconds)
        began = time.monotonic()
        values = {**self.source.close_window()}
        closed = began, time.monotonic()
        self._shortest, self._longest = closed[0] - self._opened[1], closed[1] - self._opened[0]
        self._opened = closed
        return values

    def holds(self, rate: float, amount: float) -> bool:
        """Whether a rate is that of an amount in the last window."""
        return 0.95 * amount / self._longest <= rate <= 1.05 * amount / self._shortest


def test_this_host(trainer: Puppet) -> None:
    source: Source = watch(trainer)
    values = close(source)
    assert values.keys() >= ALWAYS
    assert values.keys() <= FIELDS.keys()
    assert source.maxima <= FIELDS.keys()
    assert all(isinstance(value, float | int) and value >= 0 for value in values.values())
    assert not source.troubles()
    assert values["process_count"] == 1
    available = psutil.virtual_memory().available / 1e6
    assert values["system_memory_available_megabytes"] == pytest.approx(available, rel=0.2)
    assert values["load_average_1_minute"] == pytest.approx(os.getloadavg()[0], abs=1)
    assert bool(psutil.swap_memory().total) == (values.keys() >= OF_SWAP) == bool(OF_SWAP & values.keys())


def test_beside_the_monitors_of_mlflow(trainer: Puppet) -> None:
    cpu, disk, network = CPUMonitor(), DiskMonitor(), NetworkMonitor()
    cpu.collect_metrics()
    cpu.clear_metrics()
    source = watch(trainer)
    send_to_itself(20_000_000)
    trainer.do("burn(1)")
    values = close(source, 0)
    for monitor in (cpu, disk, network):
        monitor.collect_metrics()
    theirs = cpu.aggregate_metrics() | disk.aggregate_metrics() | network.aggregate_metrics()
    assert theirs.keys() == MLFLOW_KEYS
    absolute = {"network_receive_megabytes": 1, "network_transmit_megabytes": 1, "system_memory_usage_megabytes": 200}
    for key, value in theirs.items():
        tolerance = absolute.get(key, 10 if key.startswith("cpu") else 2 if "percentage" in key else 0.01 * value)
        assert values[key] == pytest.approx(value, abs=tolerance), key
    assert theirs["network_receive_megabytes"] > 20


def send_to_itself(size: int) -> None:
    """Bytes over a connection of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            for _ in range(size // 50_000):
                sender.sendall(bytes(50_000))
                left = 50_000
                while left:
                    left -= len(receiver.recv(left))


def test_rates_of_the_network(trainer: Puppet) -> None:
    watched = Watched(trainer)
    send_to_itself(30_000_000)
    first = watched.close()
    for way in ("receive", "transmit"):
        assert first[f"network_{way}_megabytes"] > 30
        assert watched.holds(first[f"network_{way}_megabytes_per_second"], first[f"network_{way}_megabytes"])
    second = watched.close()
    for way in ("receive", "transmit"):
        grown = second[f"network_{way}_megabytes"] - first[f"network_{way}_megabytes"]
        assert 0 <= grown < 20
        assert watched.holds(second[f"network_{way}_megabytes_per_second"], grown)


def test_processor_time_of_the_run(trainer: Puppet) -> None:
    watched = Watched(trainer)
    before = trainer.do("said = sum(os.times()[:4])")
    trainer.do("pool = __import__('multiprocessing').get_context('fork').Pool(2)\npool.map(burn, [0.7] * 2, 1)")
    trainer.do("burn(0.3)")
    values = watched.close(0)
    used = trainer.do("pool.close()\npool.join()\nsaid = sum(os.times()[:4])") - before
    assert used > 1.6
    assert watched.holds(values["process_cpu_utilization_percentage"], 100 * used)
    assert values["process_count"] == 3
    assert values["process_threads"] >= 3
    # The workers' whole time has come to their parent: it is not counted again.
    assert watched.close()["process_cpu_utilization_percentage"] < 50


def test_memory_of_the_run(trainer: Puppet) -> None:
    source = watch(trainer)
    before = source.poll()["process_memory_megabytes"]
    trainer.do("kept = b'x' * 200_000_000")
    assert 198 < source.poll()["process_memory_megabytes"] - before < 230


@linux
def test_what_the_run_writes(trainer: Puppet, tmp_path: Path) -> None:
    watched = Watched(trainer)
    path = str(tmp_path / "x")
    trainer.do(f"file = open({path!r}, 'wb', 0)\nfile.write(bytes(40_000_000))\nos.fsync(file.fileno())")
    truth = psutil.Process(trainer.pid).io_counters().write_bytes / 1e6
    values = watched.close()
    if truth < 40:
        pytest.skip("the temporary folder is in memory: nothing is written to storage")
    assert watched.holds(values["process_disk_write_megabytes_per_second"], truth)
    assert values["process_disk_read_megabytes_per_second"] < 5
    assert values["disk_write_megabytes_per_second"] > 0


@linux
def test_what_a_busy_processor_is(monkeypatch: pytest.MonkeyPatch) -> None:
    times = psutil.cpu_times()
    # Time of a guest is in `user` already.
    told = {"user": 50.0, "guest": 30.0, "system": 8.0, "steal": 2.0, "idle": 30.0, "iowait": 10.0}
    told = dict.fromkeys(times._fields, 0.0) | told
    monkeypatch.setattr(psutil, "cpu_times", lambda: type(times)(**told))
    assert count_processors() == {BUSY_SECONDS: 60, ALL_SECONDS: 100}


@linux
def test_disks_are_counted_once(trainer: Puppet) -> None:
    disks = [disk for disk in Path("/sys/block").iterdir() if (disk / "device").exists()]
    source = watch(trainer)
    if not disks or "disk_read_megabytes_per_second" not in close(source):
        pytest.skip("no disk here")
    # Fields 3 and 7 are sectors of 512 bytes.
    fields = [(disk / "stat").read_text().split() for disk in disks]
    read = sum(int(each[2]) for each in fields) * 512 / 1e6
    written = sum(int(each[6]) for each in fields) * 512 / 1e6
    counters = source._take().counters
    assert counters["disk_read_megabytes_per_second"] == pytest.approx(read, rel=0.02)
    assert counters["disk_write_megabytes_per_second"] == pytest.approx(written, rel=0.02)


@linux
@pytest.mark.parametrize("name", ["dm-0", "md127", "loop3", "zram0", "ram1", "no-such-disk1"])
def test_what_stands_on_a_disk_is_no_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    disks = {disk: counted for disk, counted in psutil.disk_io_counters(perdisk=True).items() if disk != name}
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: disks)
    counted = count_disks()
    if not counted:
        pytest.skip("no disk here")
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: {**disks, name: REPEATED})
    assert count_disks() == counted


@linux
def test_waiting_for_a_processor(trainer: Puppet) -> None:
    watched = Watched(trainer)
    if "pressure_cpu_some_percentage" not in watched.close():
        pytest.skip("this kernel does not measure pressure")
    core = min(os.sched_getaffinity(0))
    trainer.do(f"os.sched_setaffinity(0, [{core}])\npool = __import__('multiprocessing').get_context('fork').Pool(2)")
    watched.close()
    before = psi_cpu_seconds()
    trainer.do("pool.map(burn, [0.6] * 2, 1)")
    truth = psi_cpu_seconds() - before
    values = watched.close(0)
    # Two workers that want one processor: one of them waits.
    assert truth > 0.3
    assert watched.holds(values["pressure_cpu_some_percentage"], 100 * truth)


def psi_cpu_seconds() -> float:
    return int(Path("/proc/pressure/cpu").read_text().split("total=")[1].split()[0]) / 1e6


def group(pid: int) -> dict[str, str]:
    """Control groups of version 2: memory limited above the run's group, processors in it."""
    job = "sys/fs/cgroup/a/job"
    return {
        f"proc/{pid}/cgroup": "0::/a/job\n",
        "proc/self/mountinfo": V2,
        "sys/fs/cgroup/a/memory.max": "800000000\n",
        "sys/fs/cgroup/a/memory.current": "500000000\n",
        "sys/fs/cgroup/a/memory.stat": "anon 1\nfile 2\ninactive_anon 3\ninactive_file 100000000\nactive_file 7\n",
        f"{job}/memory.max": "max\n",
        f"{job}/memory.current": "7\n",
        f"{job}/cpu.max": "25000 100000\n",
        f"{job}/cpu.pressure": SOME + FULL,
        f"{job}/memory.pressure": SOME + FULL,
        f"{job}/io.pressure": SOME + FULL,
    }


def test_limits_of_a_group(trainer: Puppet, tmp_path: Path) -> None:
    source = watch(trainer, root=write(tmp_path, group(trainer.pid)))
    trainer.do("burn(0.6)")
    values = close(source)
    assert values["memory_limit_megabytes"] == 800
    assert values["memory_usage_of_limit_percentage"] == 50
    assert values["cpu_limit_cores"] == 0.25
    used = values["process_cpu_utilization_percentage"]
    assert values["cpu_usage_of_limit_percentage"] == pytest.approx(4 * used)
    assert used > 4
    (tmp_path / "sys/fs/cgroup/a/memory.current").write_text("900000000\n")
    assert source.poll()["memory_usage_of_limit_percentage"] == 100
    assert not source.troubles()


def test_limits_of_groups_of_version_1(trainer: Puppet, tmp_path: Path) -> None:
    job = "sys/fs/cgroup/memory/job"
    files = {
        f"proc/{trainer.pid}/cgroup": "4:memory:/job\n3:cpu,cpuacct:/\n0::/\n",
        "proc/self/mountinfo": V1,
        f"{job}/memory.limit_in_bytes": "400000000\n",
        f"{job}/memory.usage_in_bytes": "300000000\n",
        f"{job}/memory.stat": "inactive_file 5\nhierarchical_memory_limit 9\ntotal_inactive_file 200000000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    }
    values = close(watch(trainer, root=write(tmp_path, files)))
    assert values["memory_limit_megabytes"] == 400
    assert values["memory_usage_of_limit_percentage"] == 25
    assert not {"cpu_limit_cores", "cpu_usage_of_limit_percentage"} & values.keys()


def test_a_limit_that_no_machine_has_is_none(trainer: Puppet, tmp_path: Path) -> None:
    files = {
        f"proc/{trainer.pid}/cgroup": "4:memory:/\n",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "300000000\n",
    }
    assert not OF_LIMITS & close(watch(trainer, root=write(tmp_path, files))).keys()


def test_pressure_is_a_share_of_the_window(trainer: Puppet, tmp_path: Path) -> None:
    watched = Watched(trainer, write(tmp_path, group(trainer.pid)))
    for resource, some, full in (("cpu", 200_000, 0), ("memory", 300_000, 100_000), ("io", 0, 0)):
        texts = [line.format(total) for line, total in ((SOME, some), (FULL, full))]
        file = tmp_path / f"sys/fs/cgroup/a/job/{resource}.pressure"
        file.write_text("".join(grow(text, total) for text, total in zip(texts, (some, full), strict=True)))
    values = watched.close()
    expected = {"cpu_some": 0.2, "memory_some": 0.3, "memory_full": 0.1, "io_some": 0, "io_full": 0}
    pressure = {key for key in values if key.startswith("pressure_")}
    assert pressure == {f"pressure_{key}_percentage" for key in expected}
    for key, stalled in expected.items():
        assert watched.holds(values[f"pressure_{key}_percentage"], 100 * stalled), key


def grow(line: str, microseconds: int) -> str:
    head, total = line.split("total=")
    return f"{head}total={int(total) + microseconds}\n"


def test_every_field_appears_and_no_other(trainer: Puppet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = psutil.swap_memory()
    # A machine may be without swap; then its shape is the real one, filled.
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap._replace(total=4_000_000_000, used=1_000_000_000))
    source = watch(trainer, root=write(tmp_path, group(trainer.pid)))
    values = close(source)
    if psutil.LINUX and psutil.disk_io_counters():
        assert values.keys() == FIELDS.keys()
    assert values.keys() <= FIELDS.keys()
    assert values["swap_usage_megabytes"] == 1000
    assert values["swap_usage_percentage"] == 25
    assert values["swap_in_megabytes_per_second"] == values["swap_out_megabytes_per_second"] == 0
    later = swap._replace(total=4_000_000_000, sin=swap.sin + 9_000_000, sout=swap.sout + 1_000_000)
    monkeypatch.setattr(psutil, "swap_memory", lambda: later)
    values = close(source, 1)
    assert 0 < values["swap_in_megabytes_per_second"] <= 9
    assert values["swap_in_megabytes_per_second"] == pytest.approx(9 * values["swap_out_megabytes_per_second"])


def test_a_window_too_short_for_rates_has_the_rest(trainer: Puppet) -> None:
    source = watch(trainer)
    first = source.close_window()
    assert first.keys() >= {"disk_usage_percentage", "process_count", "load_average_1_minute", *MLFLOW_TOTALS}
    assert not {"cpu_utilization_percentage", "process_cpu_utilization_percentage"} & first.keys()
    assert not [key for key in first if key.endswith("per_second")]
    trainer.do("burn(0.5)")
    # What was used before the short window counts in the next.
    assert source.close_window()["process_cpu_utilization_percentage"] > 4


def test_counters_that_fall_have_no_rate(trainer: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    source = watch(trainer)
    now = psutil.net_io_counters()
    monkeypatch.setattr(psutil, "net_io_counters", lambda: now._replace(bytes_recv=0))
    values = close(source)
    assert not {"network_receive_megabytes", "network_receive_megabytes_per_second"} & values.keys()
    assert {"network_transmit_megabytes", "network_transmit_megabytes_per_second"} <= values.keys()
    assert close(source)["network_receive_megabytes_per_second"] == 0


def test_a_run_that_is_gone(trainer: Puppet) -> None:
    source = watch(trainer)
    trainer.close()
    values = close(source)
    assert not OF_TREE & values.keys()
    assert values.keys() >= ALWAYS - OF_TREE
    assert not source.troubles()


def test_files_that_are_gone_lose_no_others(trainer: Puppet, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    source = watch(trainer, tmp_path / "project", write(tmp_path, group(trainer.pid)))
    whole = close(source).keys()
    (tmp_path / "project").rmdir()
    (tmp_path / "sys/fs/cgroup/a/job/memory.pressure").unlink()
    (tmp_path / "sys/fs/cgroup/a/memory.current").unlink()
    left = close(source).keys()
    assert {key for key in whole - left if not key.startswith(("disk_usage", "disk_available"))} == {
        "memory_usage_of_limit_percentage",
        "pressure_memory_some_percentage",
        "pressure_memory_full_percentage",
    }
    assert source.troubles() == {
        "the disk's use: FileNotFoundError": 1,
        "pressure of memory: FileNotFoundError": 1,
        "the control group's memory: FileNotFoundError": 1,
    }
    assert source.troubles() == {}


# What psutil is asked, and what is lost with it.
PARTS = [
    ("cpu_times", {"cpu_utilization_percentage"}),
    ("virtual_memory", {key for key in FIELDS if key.startswith("system_memory_")}),
    ("disk_io_counters", {"disk_read_megabytes_per_second", "disk_write_megabytes_per_second"}),
    ("disk_usage", {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}),
    ("net_io_counters", {key for key in FIELDS if key.startswith("network_")}),
    ("swap_memory", OF_SWAP),
    # Without it the processes that are known are read on.
    ("pids", OF_TREE - {"process_memory_megabytes"}),
]


@pytest.fixture(scope="module")
def whole() -> Set[str]:
    with puppet() as one:
        return close(watch(one)).keys()


@pytest.mark.parametrize("error", [NotImplementedError, PermissionError])
@pytest.mark.parametrize(("name", "lost"), PARTS, ids=[name for name, _ in PARTS])
def test_what_a_system_does_not_tell(
    trainer: Puppet,
    whole: Set[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    lost: set[str],
    error: type[Exception],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("no")

    monkeypatch.setattr(psutil, name, refuse)
    source = watch(trainer)
    assert whole - close(source).keys() == lost & whole
    # A system that does not have something is no trouble; one that refuses it is.
    assert bool(source.troubles()) == (error is PermissionError)
