"""What was read is kept until a ref moves, and nothing else is written."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from mlflow_dovetail.dvc_link.history import links_at, revs_of

from .projects import NOT_THERE, Project


def cached(project: Project) -> Path:
    return project.root / ".dovetail" / "cache"


def test_what_was_read_is_kept_until_a_ref_moves(ran, monkeypatch):
    run, b = ran.facts(), ran.commit("B")
    before = revs_of(ran.root, run)
    assert {path.name for path in cached(ran).iterdir()} == {"links.msgpack", "revs.msgpack"}
    assert ran.git("status", "--porcelain") == ""
    with monkeypatch.context() as patch:
        patch.setattr("mlflow_dovetail.dvc_link.history.scan_links", None)
        assert revs_of(ran.root, run) == before
        other = msgspec.structs.replace(run, outs={})
        assert {rev.rev for rev in revs_of(ran.root, other)} == {b, "workspace"}
    ran.git("tag", "later")
    assert revs_of(ran.root, run)[0].names == ("main", "later")


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x93", "half", b"\xc0"])
def test_a_broken_cache_is_read_again(ran, content):
    run = ran.facts()
    ran.commit("B")
    before = revs_of(ran.root, run)
    for path in cached(ran).iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    assert revs_of(ran.root, run) == before
    assert revs_of(ran.root, run) == before


def test_a_cache_that_cannot_be_written_is_no_error(ran, tmp_path):
    run, b = ran.facts(), ran.commit("B")
    (tmp_path / "file").write_text("")
    assert {rev.rev for rev in revs_of(ran.root, run, cache=tmp_path / "file")} == {b, "workspace"}
    assert not cached(ran).exists()


def test_the_cache_keeps_some_answers_only(ran, monkeypatch):
    monkeypatch.setattr("mlflow_dovetail.dvc_link.cache._MOST_ANSWERS", 3)
    for number in range(9):
        revs_of(ran.root, msgspec.structs.replace(NOT_THERE, token=str(number)))
    size = (cached(ran) / "revs.msgpack").stat().st_size
    revs_of(ran.root, msgspec.structs.replace(NOT_THERE, token="9"))
    assert (cached(ran) / "revs.msgpack").stat().st_size == size


def test_nothing_of_git_or_dvc_is_written(ran):
    run = ran.facts()
    ran.commit("B")
    ran.dvc("exp", "save", "--quiet", "--name", "kept")
    time.sleep(0.02)

    def state() -> dict[str, tuple[int, int]]:
        found = [path for folder in (".git", ".dvc") for path in (ran.root / folder).rglob("*")]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = state()
    for rev in ("HEAD", "workspace", "kept"):
        links_at(ran.root, rev)
    revs_of(ran.root, run)
    assert state() == before


def test_an_other_index_or_folder_in_the_environment_changes_nothing(ran, monkeypatch):
    run, b = ran.facts(), ran.commit("B")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    assert {rev.rev for rev in revs_of(ran.root, run)} == {b, "workspace"}
