"""The folder's files: whole or not there, and clear words about what is none."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from mlflow_dovetail.errors import RunFolderInvalid
from mlflow_dovetail.run_folder import (
    Description,
    Ending,
    Lease,
    RunFolder,
    copy_file,
    read_json,
    root_for,
    write_whole,
)

TOKEN = "0123456789abcdef0123456789abcdef"
OVERWRITE = """
import sys
from pathlib import Path
from mlflow_dovetail.run_folder import write_whole
for number in range(10**9):
    write_whole(Path(sys.argv[1]), b"%d" % (number % 10) * 200_000)
"""


def about(token: str = TOKEN, **more) -> Description:
    given = {"version": 1, "token": token, "tracking_uri": "sqlite:///x.db", "start_time_ms": 1, **more}
    return Description(**given)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.make(tmp_path, about())


def test_a_folder_is_made_once_and_says_what_it_is(tmp_path: Path, folder: RunFolder):
    assert folder.path == tmp_path / ".dovetail" / "runs" / TOKEN
    assert (tmp_path / ".dovetail" / ".gitignore").read_text() == "*\n"
    RunFolder.make(tmp_path, about(name="later"))
    assert RunFolder.open(folder.path).describe() == about()


def test_a_folder_that_was_moved_and_renamed_still_opens(tmp_path: Path, folder: RunFolder):
    moved = folder.path.rename(tmp_path / "elsewhere")
    assert RunFolder.open(moved).token == TOKEN


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"version": 1}', b"\xff\xfe"])
def test_what_is_no_run_folder_is_said_to_be_none(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunFolderInvalid, match=r"Name a folder such as \.dovetail/runs/<token>"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("token", ["../../etc", "", TOKEN.upper(), TOKEN + "0"])
def test_a_token_that_is_none_is_refused(folder: RunFolder, token: str):
    text = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**text, "token": token}))
    with pytest.raises(RunFolderInvalid, match="32 hex digits"):
        RunFolder.open(folder.path)


def test_a_folder_of_a_later_version_says_to_update(folder: RunFolder):
    text = json.loads((folder.path / "run.json").read_text())
    changed = {**text, "version": 2, "made_by": "9.0", "a_field_of_the_future": {"deep": 1}}
    (folder.path / "run.json").write_text(json.dumps(changed))
    with pytest.raises(RunFolderInvalid, match=r"made by Dovetail 9.0.*pip install --upgrade"):
        RunFolder.open(folder.path)


def test_a_field_of_the_future_is_read_over(folder: RunFolder):
    text = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**text, "a_field_of_the_future": 1}))
    assert RunFolder.open(folder.path).describe() == about()


def test_all_folders_of_a_project_the_oldest_first_and_none_that_cannot_be_read_hides_the_others(tmp_path: Path):
    tokens = [f"{number}" * 32 for number in range(3)]
    for token, start in zip(tokens, (3000, 1000, 2000), strict=True):
        RunFolder.make(tmp_path, about(token, start_time_ms=start))
    assert [one.token for one in RunFolder.all_under(tmp_path)] == [tokens[1], tokens[2], tokens[0]]
    (tmp_path / ".dovetail" / "runs" / tokens[1] / "run.json").write_bytes(b"")
    assert [one.token for one in RunFolder.all_under(tmp_path)] == [tokens[2], tokens[0]]


def test_segments_are_numbered_and_leased(folder: RunFolder):
    assert [folder.new_segment() for _ in range(3)] == [1, 2, 3] == folder.segments()
    assert folder.segment(2).name == "0002.dtj"
    assert folder.life(2) == "alive"
    (folder.leases / "0002.json").unlink()
    assert folder.life(2) == "unknown"


def test_a_segment_is_never_there_without_its_lease(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    """Who dies between the two leaves a number that nobody takes."""
    make = os.open

    def die(path, *arguments):
        if str(path).endswith(".dtj"):
            raise KeyboardInterrupt
        return make(path, *arguments)

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(os, "open", die)
        folder.new_segment()
    assert folder.segments() == []
    assert (folder.new_segment(), folder.life(2)) == (2, "alive")


def test_two_writers_never_get_one_segment(folder: RunFolder):
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(folder.new_segment() for _ in range(25))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 101))


def test_an_ending_is_kept(folder: RunFolder):
    number = folder.new_segment()
    assert folder.ending(number) is None
    folder.write_ending(number, Ending("FAILED", "vanished", 12))
    assert folder.ending(number) == Ending("FAILED", "vanished", 12)


def test_a_folder_that_cannot_be_written_says_why_and_what_to_do(tmp_path: Path):
    (tmp_path / ".dovetail").write_text("a file in its place")
    with pytest.raises(RunFolderInvalid, match="DOVETAIL_DIR") as caught:
        RunFolder.make(tmp_path, about())
    assert "File exists" in caught.value.why or "Not a directory" in caught.value.why


def test_the_root_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DOVETAIL_DIR", raising=False)
    assert root_for(tmp_path) == tmp_path
    monkeypatch.setenv("DOVETAIL_DIR", str(tmp_path / "other"))
    assert root_for(tmp_path) == tmp_path / "other"


def test_a_reader_never_sees_half_of_a_file_also_when_the_writer_is_killed(tmp_path: Path):
    path = tmp_path / "file.json"
    process = subprocess.Popen([sys.executable, "-c", OVERWRITE, str(path)])
    try:
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(200):
            content = path.read_bytes()
            assert len(content) == 200_000 and len(set(content)) == 1
    finally:
        process.kill()
        process.wait()
    content = path.read_bytes()
    assert len(content) == 200_000 and len(set(content)) == 1


def test_a_file_that_cannot_be_written_keeps_its_old_content_and_leaves_nothing_beside(tmp_path: Path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_threads_may_write_one_file_at_once(tmp_path: Path):
    errors: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(30):
                write_whole(tmp_path / "file", b"x" * 1000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names_in(tmp_path) == ["file"]


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path):
    assert read_json(tmp_path / "missing", Lease) is None
    for content in (b"", b"{", b"\x00\xff", b'{"host": 1}'):
        (tmp_path / "x").write_bytes(content)
        assert read_json(tmp_path / "x", Lease) is None
    write_whole(tmp_path / "x", msgspec.json.encode(Lease.own()))
    assert read_json(tmp_path / "x", Lease) == Lease.own()


def test_a_copy_has_size_digest_time_and_no_trace_beside(tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(b"abc" * 1_000_000)
    os.utime(source, (1_000, 2_000))
    size, digest = copy_file(source, tmp_path / "copy")
    assert (size, digest) == (3_000_000, hashlib.sha256(source.read_bytes()).hexdigest())
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat()[stat.ST_MTIME] == 2_000
    assert names_in(tmp_path) == ["copy", "source"]
