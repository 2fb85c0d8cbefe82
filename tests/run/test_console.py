"""All that goes through the two streams is in the file, and nobody who prints can tell."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlflow_dovetail.run import console
from mlflow_dovetail.run.console import ConsoleTee

Streams = tuple[io.StringIO, io.StringIO]


@contextlib.contextmanager
def replaced_streams() -> Iterator[Streams]:
    """Streams of the kind that Python's own are, in the places of `sys.stdout` and `sys.stderr`."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        yield out, err


def with_streams(test: Callable[..., None]) -> Callable[..., None]:
    """Give the test its streams when it begins: pytest itself replaces them between a fixture and its test."""

    def wrapped(**fixtures: object) -> None:
        with replaced_streams() as streams:
            test(streams, **fixtures)

    wrapped.__signature__ = inspect.Signature(list(inspect.signature(test).parameters.values())[1:])
    wrapped.__name__ = test.__name__
    return wrapped


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


@with_streams
def test_both_streams_are_copied_in_order(streams: Streams, log: Path) -> None:
    with ConsoleTee(log) as tee:
        print("one", 1)
        print("two", file=sys.stderr)
        sys.stdout.writelines(["three\n", "four\n"])
        assert sys.stdout.write("été\n") == 4
    print("unheard")
    assert log.read_text("utf-8") == "one 1\ntwo\nthree\nfour\nété\n"
    assert streams[0].getvalue() == "one 1\nthree\nfour\nété\nunheard\n"
    assert streams[1].getvalue() == "two\n"
    assert tee.faults == {}


@with_streams
def test_each_write_is_in_the_file_when_it_returns(streams: Streams, log: Path) -> None:
    with ConsoleTee(log):
        sys.stdout.write("no line feed")
        assert log.read_bytes() == b"no line feed"


@with_streams
def test_the_file_is_continued(streams: Streams, log: Path) -> None:
    log.write_text("attempt 1\n")
    tee = ConsoleTee(log)
    for number in (2, 3):
        with tee:
            print("attempt", number)
    assert log.read_text() == "attempt 1\nattempt 2\nattempt 3\n"


@with_streams
def test_who_held_the_stream_before_is_heard(streams: Streams, log: Path) -> None:
    logger = logging.Logger("held")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    with ConsoleTee(log):
        logger.warning("through the handler")
    logger.warning("unheard")
    assert log.read_text() == "through the handler\n"
    assert streams[1].getvalue() == "through the handler\nunheard\n"


@with_streams
def test_what_the_file_cannot_spell(streams: Streams, log: Path) -> None:
    with ConsoleTee(log) as tee:
        print("\udcff \ud800 ok")
    assert log.read_text("utf-8") == "\\udcff \\ud800 ok\n"
    assert tee.faults == {}


def test_one_object_for_both_streams_is_heard_once(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    with ConsoleTee(log):
        print("once")
        print("error", file=sys.stderr)
    assert log.read_text() == both.getvalue() == "once\nerror\n"
    assert "write" not in vars(both)


@with_streams
def test_a_stream_that_prints_through_the_other_is_heard_once(streams: Streams, log: Path) -> None:
    class ToError(io.StringIO):
        def write(self, text: str) -> int:
            return sys.stderr.write(text.upper())

    sys.stdout = ToError()
    with ConsoleTee(log):
        print("once")
        print("error", file=sys.stderr)
    assert log.read_text() == "once\nerror\n"
    assert streams[1].getvalue() == "ONCE\nerror\n"


@with_streams
def test_a_fault_of_the_stream_is_the_users(streams: Streams, log: Path) -> None:
    with ConsoleTee(log) as tee:
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")
        with pytest.raises(TypeError):
            sys.stdout.write()
        streams[0].close()
        with pytest.raises(ValueError, match="closed"):
            print("into a closed stream")
        print("goes on", file=sys.stderr)
    assert log.read_text() == "into a closed streamgoes on\n"
    assert tee.faults == {}


@with_streams
def test_a_full_disk_does_not_reach_the_print(streams: Streams) -> None:
    with ConsoleTee(Path("/dev/full")) as tee:
        print("seen")
        print("seen too")
    assert streams[0].getvalue() == "seen\nseen too\n"
    assert tee.faults == {"No space left on device": 4}


@with_streams
def test_a_closed_descriptor_does_not_reach_the_print(
    streams: Streams, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_LEAST_DESCRIPTOR", 900)  # above all that this process has open
    tee = ConsoleTee(log)
    tee.start()
    os.close(tee._descriptor)
    others = [(tmp_path / f"data{number}").open("wb") for number in range(9)]  # these take the lowest free numbers
    print("seen")
    tee.stop()
    for other in others:
        other.close()
    assert streams[0].getvalue() == "seen\n"
    assert [path.stat().st_size for path in tmp_path.glob("data*")] == [0] * 9
    assert tee.faults == {"Bad file descriptor": 3}


@with_streams
def test_no_folder(streams: Streams, tmp_path: Path) -> None:
    with ConsoleTee(tmp_path / "absent/console.log") as tee:
        print("seen")
    assert streams[0].getvalue() == "seen\n"
    assert tee.faults == {"No such file or directory": 1}


@pytest.mark.parametrize("first_to_stop", [0, 1])
@with_streams
def test_two_runs(streams: Streams, tmp_path: Path, first_to_stop: int) -> None:
    tees = [ConsoleTee(tmp_path / "0"), ConsoleTee(tmp_path / "1")]
    tees[0].start()
    print("a")
    tees[1].start()
    print("b")
    tees[first_to_stop].stop()
    print("c")
    tees[1 - first_to_stop].stop()
    print("d")
    expected = [["a\nb\n", "b\nc\n"], ["a\nb\nc\n", "b\n"]][first_to_stop]
    assert [(tmp_path / "0").read_text(), (tmp_path / "1").read_text()] == expected
    assert streams[0].getvalue() == "a\nb\nc\nd\n"
    assert "write" not in vars(streams[0])


@with_streams
def test_the_stream_is_as_it_was(streams: Streams, log: Path) -> None:
    before = dict(vars(streams[0]))
    own = streams[1].write = streams[1].write  # somebody wrapped before us
    with ConsoleTee(log):
        assert (sys.stdout, sys.stderr) == streams
    assert vars(streams[0]) == before
    assert vars(streams[1])["write"] is own


@pytest.mark.parametrize("second_tee", [False, True])
@with_streams
def test_somebody_wraps_on_top(streams: Streams, tmp_path: Path, second_tee: bool) -> None:
    tee, on_top = ConsoleTee(tmp_path / "0"), ConsoleTee(tmp_path / "1")
    tee.start()
    below = sys.stdout.write

    def louder(text: str) -> int:
        return below(text.upper())

    sys.stdout.write = louder
    if second_tee:
        on_top.start()
    print("a")
    tee.stop()
    print("b")
    on_top.stop()
    assert sys.stdout.write is louder
    assert streams[0].getvalue() == "A\nB\n"
    assert (tmp_path / "0").read_text() == "A\n"
    assert not second_tee or (tmp_path / "1").read_text() == "a\nb\n"


@with_streams
def test_somebody_replaces_the_stream_meanwhile(streams: Streams, log: Path) -> None:
    tee = ConsoleTee(log)
    tee.start()
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        print("not for the console")
        tee.stop()
        assert sys.stdout is elsewhere
    print("after")
    assert log.read_text() == ""
    assert streams[0].getvalue() == "after\n"
    assert "write" not in vars(streams[0])


class Slots:
    __slots__ = ("encoding", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        self.texts.append(text)
        return len(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize("replaced", [False, True])
def test_a_stream_that_takes_no_attributes(monkeypatch: pytest.MonkeyPatch, log: Path, replaced: bool) -> None:
    stream, other = Slots(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    tees = [ConsoleTee(log), ConsoleTee(log)]
    for tee in tees:
        tee.start()
    print("twice", flush=True)
    sys.stdout.writelines(["lines\n"])
    assert sys.stdout.encoding == "utf-8"
    if replaced:
        sys.stdout = other
    for tee in tees:
        tee.stop()
    assert sys.stdout is (other if replaced else stream)
    assert "".join(stream.texts) == "twice\nlines\n"
    assert log.read_text() == "twicetwice\n\nlines\nlines\n"


def test_no_streams(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with ConsoleTee(log) as tee:
        print("nowhere")
    assert tee.faults == {}


@with_streams
def test_threads(streams: Streams, log: Path) -> None:
    def print_many(name: str) -> None:
        for number in range(500):
            sys.stdout.write(f"{name} {number}\n")

    threads = [threading.Thread(target=print_many, args=(name,)) for name in "abcd"]
    with ConsoleTee(log):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = sorted(f"{name} {number}" for name in "abcd" for number in range(500))
    assert sorted(log.read_text().splitlines()) == expected


PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
from mlflow_dovetail.run import console
from mlflow_dovetail.run.console import ConsoleTee

ConsoleTee(Path(sys.argv[1])).start()
print("printed")
warnings.warn("warned")
logging.warning("logged")
sys.stdout.flush()
if not os.fork():
    for number in range(200):
        sys.stdout.write(f"child {number}\\n")
    sys.stdout.flush()
    os._exit(0)
for number in range(200):
    sys.stdout.write(f"parent {number}\\n")
os.wait()
raise ValueError("the last words")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.CompletedProcess[str], str]]:
    log = tmp_path_factory.mktemp("program") / "console.log"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(log)], capture_output=True, text=True, timeout=60)
    yield done, log.read_text("utf-8")


def test_a_whole_program(program: tuple[subprocess.CompletedProcess[str], str]) -> None:
    done, log = program
    assert done.returncode == 1
    assert sorted(log.splitlines()) == sorted((done.stdout + done.stderr).splitlines())
    assert log.startswith("printed\n")
    assert "UserWarning: warned" in log
    assert "WARNING:root:logged" in log
    assert log.endswith("ValueError: the last words\n")


def test_a_forked_child_and_its_parent_lose_nothing(program: tuple[subprocess.CompletedProcess[str], str]) -> None:
    lines = program[1].splitlines()
    for who in ("parent", "child"):
        assert [line for line in lines if line.startswith(who)] == [f"{who} {number}" for number in range(200)]


def test_a_print_costs_little(log: Path) -> None:
    """A hundredth of a millisecond a print; what was measured is in docs/decisions/console.md."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), ConsoleTee(log):
        begin = time.process_time()
        for _ in range(2000):
            print("Epoch 3 step 1234: loss=0.12345")
        seconds = time.process_time() - begin
    assert log.stat().st_size == len(stream.getvalue())
    assert seconds / 2000 < 50e-6
