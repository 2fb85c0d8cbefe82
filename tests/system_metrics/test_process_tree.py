"""A run's processes are all its own and no others, and what they use is counted once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_dovetail.system_metrics import process_tree
from mlflow_dovetail.system_metrics.process_reading import Process, read_process, read_storage_bytes, read_with_psutil
from mlflow_dovetail.system_metrics.process_tree import ProcessTree, find_root, gain

from .puppet import Puppet, puppet

linux = pytest.mark.skipif(not psutil.LINUX, reason="it is Linux that tells")
WAIT = "print(flush=True); import sys; sys.stdin.readline()"


@pytest.fixture
def trainer() -> Iterator[Puppet]:
    with puppet() as one:
        yield one


def test_children_and_grandchildren_belong_to_it(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    assert tree.pids() == {trainer.pid}
    nested = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {WAIT!r}]); p.wait()"
    child = trainer.start(nested)
    trainer.start(WAIT)
    family = {trainer.pid, *(process.pid for process in psutil.Process(trainer.pid).children(recursive=True))}
    assert len(family) == 4 and child in family
    assert tree.pids() == family == ProcessTree(trainer.pid).pids()
    assert tree.sample().processes == 4
    trainer.do("kept[1].communicate()")
    assert len(tree.pids()) == 3


def test_a_pool_of_workers(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    trainer.do("import multiprocessing\npool = multiprocessing.get_context('fork').Pool(3)\npool.map(burn, [0.3] * 6)")
    sample = tree.sample()
    assert sample.processes == 4
    assert sample.threads == sum(psutil.Process(pid).num_threads() for pid in tree.pids())
    # Each has slept or waited for the others: not before 6 times 0.3 s were used.
    assert 1.7 < sample.cpu_seconds < 4
    trainer.do("pool.close()\npool.join()")
    after = tree.sample()
    assert after.processes == 1
    assert sample.cpu_seconds <= after.cpu_seconds < sample.cpu_seconds + 0.5


def test_processor_time_is_counted_once(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    start = tree.sample().cpu_seconds
    burn = "import time\nwhile time.process_time() < 0.6: pass\n"
    trainer.start(burn + WAIT)
    trainer.do("burn(0.4)")
    seen = tree.sample().cpu_seconds
    assert 0.9 < seen - start < 1.6
    # A child that is waited for gives all its time to its parent; one that no look has seen does, too.
    trainer.do("kept[0].communicate()")
    trainer.start(burn + "print(flush=True)")
    truth = trainer.do("[p.wait() for p in kept]\nsaid = sum(os.times()[:4])")
    assert tree.sample().cpu_seconds == pytest.approx(truth, abs=0.1)


def test_what_a_worker_used_that_nobody_waited_for_stays(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    orphan = start_orphan_later(trainer, "import time\nwhile time.process_time() < 0.5: pass\n" + WAIT)
    assert orphan in tree.pids()
    trainer.do("middle.communicate()")
    assert psutil.Process(orphan).ppid() not in (trainer.pid, os.getpid())
    used = wait_until(lambda: (sample := tree.sample()).cpu_seconds > 0.5 and sample).cpu_seconds
    assert orphan in tree.pids()
    psutil.Process(orphan).kill()
    wait_until(lambda: orphan not in tree.pids())
    assert used <= tree.sample().cpu_seconds < used + 0.3


def start_orphan_later(trainer: Puppet, code: str) -> int:
    """A grandchild whose parent ends when `middle` gets a line."""
    middle = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=subprocess.PIPE, "
    middle += "stdout=subprocess.DEVNULL); print(p.pid, flush=True); sys.stdin.readline(); import os; os._exit(0)"
    orphan = trainer.do(
        f"middle = subprocess.Popen([sys.executable, '-c', {middle!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)"
        "\nsaid = int(middle.stdout.readline())"
    )
    trainer.ends_with(orphan)
    return orphan


def wait_until(look):
    deadline = time.monotonic() + 8
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_memory_of_all(trainer: Puppet) -> None:
    trainer.start(WAIT)
    tree = ProcessTree(trainer.pid)
    before = tree.sample().memory_bytes
    assert tree.read_memory() == pytest.approx(before, rel=0.1)
    trainer.start("kept = b'x' * 200_000_000; " + WAIT)
    grown = tree.sample().memory_bytes - before
    assert 198e6 < grown < 260e6
    assert tree.read_memory() - before == pytest.approx(grown, rel=0.05)
    resident = sum(psutil.Process(pid).memory_info().rss for pid in tree.pids())
    assert tree.sample().memory_bytes == pytest.approx(resident, rel=0.05)


def test_knowledge_may_be_old(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    assert len(tree.pids(60)) == 1
    trainer.start(WAIT)
    assert len(tree.pids(60)) == 1
    assert len(tree.pids()) == 2
    trainer.do("kept[0].communicate()")
    assert len(tree.pids(60)) == 1


@linux
def test_storage_is_counted_once(trainer: Puppet, tmp_path: Path) -> None:
    tree = ProcessTree(trainer.pid)
    before = tree.sample().written_bytes
    write = f"import os; file = open({str(tmp_path / 'x')!r}, 'wb', 0); file.write(b'x' * 20_000_000); os.fsync(file); "
    child = trainer.start(write + WAIT)
    _, truth = read_storage_bytes(child)
    if truth < 20_000_000:
        pytest.skip("the temporary folder is in memory: nothing is written to storage")
    assert tree.sample().written_bytes - before == truth
    trainer.do("kept[0].communicate()")
    assert read_storage_bytes(trainer.pid)[1] >= truth, "the kernel adds a child's bytes to its parent's"
    assert truth <= tree.sample().written_bytes - before < truth + 1_000_000


@linux
def test_storage_that_is_not_told_for_a_while(trainer: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"read": (5_000, 70_000)}
    monkeypatch.setattr(process_tree, "read_storage_bytes", lambda pid: told.get("read"))
    tree = ProcessTree(trainer.pid)
    assert tree.sample().written_bytes == 70_000
    told.clear()
    assert tree.sample().written_bytes == 70_000
    told["read"] = (6_000, 90_000)
    sample = tree.sample()
    assert (sample.read_bytes, sample.written_bytes) == (6_000, 90_000)


@linux
def test_storage_that_is_never_told(trainer: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "read_storage_bytes", lambda pid: None)
    sample = ProcessTree(trainer.pid).sample()
    assert sample.read_bytes is None and sample.written_bytes is None
    assert sample.processes == 1


def test_the_process_that_asks_is_not_in_it(trainer: Puppet) -> None:
    asks = (
        "import os, subprocess, sys\n"
        "from mlflow_dovetail.system_metrics.process_tree import ProcessTree\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "tree = ProcessTree(os.getppid())\n"
        "print(sorted(tree.pids()), flush=True)\n"
        "child.communicate()\n"
    )
    worker = trainer.start(WAIT)
    said = trainer.do(f"said = subprocess.run([sys.executable, '-c', {asks!r}], capture_output=True).stdout.decode()")
    assert said == f"{sorted([trainer.pid, worker])}\n"


def test_another_process_under_a_known_pid_is_not_in_it(trainer: Puppet) -> None:
    worker = trainer.start(WAIT)
    tree = ProcessTree(trainer.pid)
    assert worker in tree.pids()
    trainer.do("kept[0].communicate()")
    # As the kernel gives a pid again, to a process that is no child here: this test's own stands in for it.
    with puppet() as stranger:
        reading = read_process(stranger.pid)
        tree._members[stranger.pid] = reading._replace(process=Process(stranger.pid, reading.process.started - 1))
        assert tree.pids() == {trainer.pid}
        assert tree.pids() == {trainer.pid}


def test_a_new_child_under_the_pid_of_an_ended_one(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    worker = trainer.start(WAIT)
    assert worker in tree.pids()
    old = tree._members[worker]
    tree._members[worker] = old._replace(process=Process(worker, old.process.started - 1))
    assert tree.pids() == {trainer.pid, worker}
    assert tree._members[worker].process == old.process


def test_a_root_that_is_gone(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    worker = trainer.start("print(flush=True); import time; time.sleep(60)")
    assert tree.sample().processes == 2
    psutil.Process(trainer.pid).kill()
    wait_until(lambda: tree.sample().processes == 1)
    psutil.Process(worker).kill()
    wait_until(lambda: tree.sample() is None)
    assert tree.read_memory() is None
    trainer.close()
    assert ProcessTree(trainer.pid).sample() is None
    assert ProcessTree(trainer.pid).pids() == frozenset()


def test_threads_may_share_one(trainer: Puppet) -> None:
    tree = ProcessTree(trainer.pid)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(50):
                assert trainer.pid in tree.pids()
                assert tree.sample().processes >= 1
        except BaseException as error:  # noqa: BLE001 - the test's own thread tells it
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        trainer.start(WAIT)
    for thread in threads:
        thread.join()
    assert not failed
    assert len(tree.pids()) == 6


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}


def test_the_root_of_a_plain_trainer_is_itself(trainer: Puppet) -> None:
    assert find_root(trainer.pid, {}) == trainer.pid


def test_the_root_under_torchrun_is_the_launcher(trainer: Puppet) -> None:
    assert find_root(trainer.pid, TORCHRUN) == os.getpid()


def test_the_root_under_srun_is_the_step(tmp_path: Path) -> None:
    shutil.copy(os.path.realpath("/bin/sh"), tmp_path / "slurmstepd")
    command = [str(tmp_path / "slurmstepd"), "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as step:
        rank = int(step.stdout.readline())
        try:
            assert find_root(rank, {}) == step.pid
        finally:
            os.kill(rank, 9)


def test_the_root_of_a_rank_that_torchrun_has_left_is_itself(trainer: Puppet) -> None:
    orphan = start_orphan_later(trainer, WAIT)
    trainer.do("middle.communicate()")
    parent = psutil.Process(psutil.Process(orphan).ppid())
    if parent.pid != 1 or "python" in parent.cmdline()[0]:
        pytest.skip("orphans come to another process than init here")
    assert find_root(orphan, TORCHRUN) == orphan


def test_the_root_of_nothing() -> None:
    with puppet() as one:
        pass
    assert find_root(one.pid, TORCHRUN) == one.pid


@linux
def test_a_process_is_read_as_psutil_reads_it(trainer: Puppet) -> None:
    trainer.do(
        "burn(0.5)\nwaiting = threading.Event()\nfor _ in range(3): threading.Thread(target=waiting.wait).start()"
    )
    trainer.do("subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.5: pass'])")
    ours, theirs = read_process(trainer.pid), read_with_psutil(trainer.pid)
    assert ours.threads == theirs.threads == 4
    assert ours.parent_pid == theirs.parent_pid == os.getpid()
    assert ours.runs and theirs.runs
    assert ours.cpu_seconds == pytest.approx(theirs.cpu_seconds, abs=0.02)
    assert ours.cpu_seconds > 0.95, "with the child's"
    assert ours.memory_bytes == pytest.approx(theirs.memory_bytes, rel=0.02)
    counted = psutil.Process(trainer.pid).io_counters()
    assert read_storage_bytes(trainer.pid) == (counted.read_bytes, counted.write_bytes)


@linux
def test_a_name_that_looks_like_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as process:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "a) Z 1 (b\n")
        reading = read_process(process.pid)
        process.kill()
    assert reading.parent_pid == os.getpid()
    assert reading.runs and reading.threads == 1


def test_one_that_has_ended_and_was_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: not read_process(process.pid).runs)
    assert not read_with_psutil(process.pid).runs
    process.wait()
    assert read_process(process.pid) is None
    assert read_with_psutil(process.pid) is None


TOLD = {"worker": "root", "other": "root", "nested": "worker", "orphan": None, "root": None}
GAINS = [
    ("new processes count from nothing", {}, {"root": 5, "worker": 3}, 8),
    ("more of the same", {"root": 5}, {"root": 7}, 2),
    ("waited for: its last second is new, the rest is not", {"root": 5, "worker": 10}, {"root": 17}, 2),
    ("two are waited for", {"root": 5, "worker": 10, "other": 4}, {"root": 20}, 1),
    ("the parent has ended with it", {"root": 5, "worker": 10, "nested": 4}, {"root": 21}, 2),
    ("its parent lives", {"root": 5, "worker": 10, "nested": 4}, {"root": 6, "worker": 15}, 2),
    ("nobody waited for it", {"root": 5, "orphan": 10}, {"root": 6}, 1),
    ("its parent does not wait", {"root": 5, "worker": 10}, {"root": 5}, 0),
    ("all have ended", {"root": 5, "worker": 10}, {}, 0),
]


@pytest.mark.parametrize(("before", "now", "expected"), [row[1:] for row in GAINS], ids=[row[0] for row in GAINS])
def test_gain(before: dict[str, float], now: dict[str, float], expected: float) -> None:
    assert gain(before, now, TOLD) == expected


@given(
    parents=st.lists(st.integers(0, 7), min_size=1, max_size=7),
    rounds=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=8, max_size=8), st.sets(st.integers(1, 7))), max_size=5
    ),
)
def test_gains_are_what_was_used(parents: list[int], rounds: list[tuple[tuple[int, ...], set[int]]]) -> None:
    """Processes that use, end and are waited for by those that live: the sum of all gains is all that was used."""
    parent = {0: None} | {child: min(of, child - 1) for child, of in enumerate(parents, 1)}
    counters, before, truth, total = dict.fromkeys(parent, 0.0), {}, 0.0, 0.0
    for uses, ends in rounds:
        for process in counters:
            counters[process] += uses[process]
            truth += uses[process]
        # The youngest first, so that a parent has waited for its children when it ends.
        for process in sorted(ends & counters.keys(), reverse=True):
            if not any(parent[other] == process for other in counters):
                counters[parent[process]] += counters.pop(process)
        total += gain(before, counters, parent)
        before = dict(counters)
    assert total == truth
