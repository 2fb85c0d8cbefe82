"""What a capture writes, and what its proof need not write again."""

from __future__ import annotations

import base64
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from git_patch.conftest import Kept, call

from mlflow_dovetail.git_patch import Limits, capture, finish, finishing
from mlflow_dovetail.repository import Git

COUNT = 30


@pytest.mark.parametrize("since", [(2, 37), (1000, 0)], ids=["as it is", "an early git"])
def test_many_new_files_are_one_pack_where_git_can(
    repo: Path, tmp_path: Path, restored: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, since: tuple[int, int]
):
    module = sys.modules[capture.__module__]
    monkeypatch.setattr(module, "_PACKS_SINCE", since)
    for number in range(COUNT):
        (repo / f"new_{number}.py").write_text(f"new = {number}\n")
    told = capture([repo], tmp_path / "private", attempt=1, leave_out=(), limits=Limits())
    objects = tmp_path / "private" / told.repositories[0].objects
    assert (len(list(objects.glob("??/*"))) > COUNT) == (since > (2, 37))
    state = finish(told, tmp_path / "private", tmp_path / "uploaded", "code")
    assert state.verdict == "exact"
    again = restored(repo, state.repositories[0].commit, tmp_path / "uploaded" / "diff.patch")
    assert call("-C", str(again), "write-tree") == state.repositories[0].tree


def test_a_binary_patch_is_not_proved_by_the_objects_of_its_capture(
    repo: Path, keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
):
    """git apply takes a binary result that it finds among the objects, and does not look at the patch."""
    whole = finishing.write_patch

    other = zlib.compress(bytes(63) + b"1")
    literal = b"literal 64\n%c%s\n" % (ord("A") + len(other) - 1, base64.b85encode(other, pad=True))

    def damage(git: Git, old: str, new: str, target: Path) -> None:
        whole(git, old, new, target)
        target.write_bytes(re.sub(rb"literal 64\n.*\n", lambda _: literal, target.read_bytes()))

    monkeypatch.setattr(finishing, "write_patch", damage)
    (repo / "weights.bin").write_bytes(bytes(64))
    assert "incorrect result" in keep(repo).state.verdict
