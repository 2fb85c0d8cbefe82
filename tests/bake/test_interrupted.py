"""A bake that is interrupted, has no room, or is not alone: a whole project or none, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

# How far a bake has come, by what lies in the project's directory. The last is written by the hook at the end.
MOMENTS = {"first file": ".dvc/config", "half of the files": "configs/train.yaml", "the hook": ".cruft.json"}
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(repository_copy: Path, bake_environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start bakes, each in a process group of its own as a shell would; none is left at the end."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "temporary").mkdir()

    def run(directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cookiecutter", str(repository_copy), "--no-input", *arguments]
        environment = {**bake_environment, "PWD": str(directory), "TMPDIR": str(tmp_path / "temporary")}
        with (tmp_path / f"output{len(started)}.txt").open("wb") as output:
            started.append(
                subprocess.Popen(
                    command, cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True
                )
            )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def is_whole(project: Path) -> bool:
    def git(*arguments: str) -> str:
        # Without a lock of its own: the hook that is looked at needs it.
        command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    subject = git("log", "--format=%s")
    return (subject, git("status", "--porcelain")) == ("Start from the Dovetail template", "")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_interrupted(signal_name, moment, tmp_path, start):
    """Ctrl-C reaches the whole group, the others cookiecutter alone. Then the same command works."""
    target = tmp_path / "in"
    target.mkdir()
    project = target / "digits-classifier"
    process = start(target)
    wait_until(lambda: (project / MOMENTS[moment]).exists() or process.poll() is not None)
    number = getattr(signal, signal_name)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.wait(20)
    # A hook that was running may finish the project; nothing may be half-made.
    wait_until(lambda: not project.exists() or is_whole(project))
    wait_until(lambda: not list((tmp_path / "temporary").glob("cookiecutter*")))
    if not project.exists():
        assert list(target.iterdir()) == []
        if signal_name == "SIGKILL":
            assert start(target).wait(60) == 0
            assert is_whole(project)


def test_a_directory_of_ones_own_survives_an_interruption(tmp_path, start):
    """With -f the directory was there before: what is in it is not removed."""
    project = tmp_path / "in" / "digits-classifier"
    project.mkdir(parents=True)
    (project / "notes.txt").write_text("mine")
    process = start(project.parent, "--overwrite-if-exists")
    wait_until((project / "configs/train.yaml").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
    time.sleep(1)
    assert (project / "notes.txt").read_text() == "mine"


AGAIN = """
import itertools, sys
from pathlib import Path
from cookiecutter import generate
from cookiecutter.main import cookiecutter

write, files = generate.generate_file, itertools.count(1)

def interrupted(*arguments, **options):
    if next(files) == 8:
        raise KeyboardInterrupt
    return write(*arguments, **options)

generate.generate_file = interrupted
try:
    cookiecutter(sys.argv[1], no_input=True)
except KeyboardInterrupt:
    cookiecutter(sys.argv[1], no_input=True, overwrite_if_exists=True)
    Path("digits-classifier/notes.txt").write_text("mine")
"""


def test_a_project_baked_again_in_the_same_session_stays_at_its_end(tmp_path, repository_copy, bake_environment):
    environment = {**bake_environment, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", AGAIN, repository_copy], cwd=tmp_path, env=environment, check=True)
    wait_until(lambda: not [*tmp_path.glob("cookiecutter*/*")])
    assert (tmp_path / "digits-classifier" / "notes.txt").read_text() == "mine"


def test_a_failed_project_is_kept_where_that_was_asked_for(tmp_path, start, bake_environment, monkeypatch):
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "git"
    broken.write_text(f'#!/bin/sh\ncase "$*" in *commit*) exit 1;; esac\nexec {shutil.which("git")} "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setitem(bake_environment, "PATH", f"{broken.parent}{os.pathsep}{os.environ['PATH']}")
    assert start(tmp_path, "--keep-project-on-failure").wait(60) == 1
    temporary = tmp_path / "temporary"
    wait_until(lambda: not any(temporary.glob("cookiecutter*")))
    assert (tmp_path / "digits-classifier" / ".cruft.json").exists()


def test_what_a_power_cut_leaves_is_said(tmp_path, start):
    """Nobody is left to remove it: the next bake names it and touches nothing."""
    (tmp_path / "in" / "digits-classifier").mkdir(parents=True)
    assert start(tmp_path / "in").wait(60) == 1
    said = (tmp_path / "output0.txt").read_text()
    assert 'digits-classifier" directory already exists' in " ".join(said.split())


def test_two_at_once_in_different_places(tmp_path, start):
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    processes = [start(place) for place in places]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert all(is_whole(place / "digits-classifier") for place in places)


def test_two_at_once_in_one_place(tmp_path, start):
    """The second finds the first one's directory, and leaves it to it."""
    (tmp_path / "in").mkdir()
    first = start(tmp_path / "in")
    wait_until((tmp_path / "in" / "digits-classifier").exists)
    second = start(tmp_path / "in")
    assert (first.wait(60), second.wait(60)) == (0, 1)
    assert "already exists" in (tmp_path / "output1.txt").read_text()
    assert is_whole(tmp_path / "in" / "digits-classifier")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system: `disk("size=3m")`."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "dovetail-bake", str(place)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_said_before_anything_is_written(disk, tmp_path, start):
    place = disk("size=3m")
    assert start(place).wait(60) == 1
    said = (tmp_path / "output0.txt").read_text()
    assert "3.1 MB free, and a new project takes 10" in said and "--output-dir" in said
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("moment", ["half of the files", "the hook"])
def test_a_disk_that_fills_up_during_the_bake_keeps_nothing(moment, disk, tmp_path, start):
    place = disk("size=11m")
    process = start(place)
    # Room is taken as soon as the bake has come so far; a bake that is faster than this test is whole.
    wait_until(lambda: (place / "digits-classifier" / MOMENTS[moment]).exists() or process.poll() is not None)
    with suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"\0" * 65536):
            pass
    ended = process.wait(60)
    said = (tmp_path / "output0.txt").read_text()
    (place / "filler").unlink()
    if ended == 0:
        assert is_whole(place / "digits-classifier")
    else:
        assert "No space left on device" in said
        wait_until(lambda: list(place.iterdir()) == [])
        assert start(place).wait(60) == 0


def test_a_read_only_target_is_said(disk, tmp_path, start):
    assert start(disk("size=20m,ro")).wait(60) == 1
    assert "Read-only file system" in (tmp_path / "output0.txt").read_text()
