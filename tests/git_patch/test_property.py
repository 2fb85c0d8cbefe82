"""Whatever a work tree holds, and whatever was done to it: commit and patch give it again, and nothing is touched.

A fixed choice of examples, so that CI decides the same twice. To look for new ones:

    DOVETAIL_TEST_EXAMPLES=2000 python3 make.py test tests/git_patch/test_property.py

A failure prints the smallest tree and edits that show it; `@example(...)` with them keeps it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from git_patch.conftest import Files, call, everything, files
from hypothesis import HealthCheck, configuration, example, given, settings
from hypothesis import strategies as st

from mlflow_dovetail.git_patch import Capture, Code, CodeState, Limits, capture, finish
from mlflow_dovetail.git_patch.records import shown

MORE = os.environ.get("DOVETAIL_TEST_EXAMPLES")
SUBMODULE = "library"

# What git, a shell, a patch or a path list may take for something else.
NAMES = [b"a", b"b.py", b"A", b"run.log", b"ignored", b"-dash", b"--", b"sp ace", b" edges ", b"tab\t", b"new\nline",
         b'quo"te', b"back\\slash", "ünï日本".encode(), "e\u0301".encode(), b"latin-\xe9", b"\xff", b"\x01\x7f", b"*",
         b"[a]", b":(top)", b"#", b"!", b"a => b", b"/".join([b"d"] * 9), b".hidden", "\u202e".encode()]  # fmt: skip
TEXTS = [b"", b"\n", b"one\n", b"one\ntwo\nthree\n", b"no end", b"a\r\nb\r\n", b"a\r\nb\nc\r", b"\r", b" \t \n\n\n",
         b"caf\xe9\n", b"\xff\xfe\0a\0\n", b"\0", bytes(range(256)) * 4, b"x" * 70_000, b"1\n" * 500, b"2\n1\n" * 250,
         b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+b\n", b"GIT binary patch\nliteral 0\nHcmV?d00001\n",
         b"<<<<<<< ours\n=======\n>>>>>>> theirs\n", "日本\n".encode()]  # fmt: skip
TARGETS = [b"a", b"nowhere", b"../..", b"/nowhere/at all", b"d", b".", b"self\n", b"\xe9"]

names = st.lists(
    st.sampled_from(NAMES)
    | st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 47}.intersection(name) and name.strip(b".")),
    min_size=1,
    max_size=3,
).map(b"/".join)
contents = st.sampled_from(TEXTS) | st.binary(max_size=300)
KINDS = ["modify", "append", "touch", "delete", "chmod", "to_link", "to_folder", "folder_to_file", "folder_to_link",
         "rename", "stage", "stage_all", "unstage", "untrack", "intend", "new", "new_ignored", "new_link", "stage_gone",
         "hide", "conflict", "submodule_edit", "submodule_commit", "submodule_gone"]  # fmt: skip


class Entry(NamedTuple):
    """One file of the first commit."""

    name: bytes
    content: bytes
    kind: str


class Edit(NamedTuple):
    """One change; `at` picks a path among those there."""

    kind: str
    at: int
    name: bytes
    content: bytes


bases = st.lists(st.builds(Entry, names, contents, st.sampled_from(["644", "644", "755", "link"])), max_size=7)
edits = st.lists(st.builds(Edit, st.sampled_from(KINDS), st.integers(0, 63), names, contents), max_size=9)


class World:
    """A repository, and the hand that edits it. An edit that has nothing to work on does nothing."""

    def __init__(self, root: Path, library: Path, base: list[Entry], *, committed: bool, has_submodule: bool) -> None:
        self.root = root
        call("init", "--quiet", str(root))
        (root / ".gitignore").write_bytes(b"*.log\nignored\n")
        for entry in base:
            path = self._free(entry.name)
            if path and entry.kind == "link":
                path.symlink_to(os.fsdecode(TARGETS[len(entry.content) % len(TARGETS)]))
            elif path:
                path.write_bytes(entry.content)
                path.chmod(int(entry.kind, 8))
        if has_submodule and not os.path.lexists(root / SUBMODULE):
            call("clone", "--quiet", str(library), str(root / SUBMODULE))
            self._git("add", SUBMODULE)
        if committed:
            self._git("add", "--all")
            self._git("commit", "--quiet", "-m", "base")

    def edit(self, edit: Edit) -> None:
        getattr(self, f"_{edit.kind}")(edit)

    def files(self) -> Files:
        """What is to come back: all but what is ignored, and the submodule, which has its own."""
        ignored = self._git("ls-files", "-z", "--others", "--ignored", "--exclude-standard").split(b"\0")
        own = os.fsencode(SUBMODULE) + b"/" if self.has_submodule() else b"\0"
        return {
            name: file for name, file in files(self.root).items() if name not in ignored and not name.startswith(own)
        }

    def has_submodule(self) -> bool:
        return (self.root / SUBMODULE / ".git").exists()

    def _git(self, *arguments: str, feed: bytes = b"") -> bytes:
        # Some edits do not go: a rename into nowhere.
        command = ["git", "-c", "advice.addEmbeddedRepo=false", "--literal-pathspecs", *arguments]
        return subprocess.run(command, cwd=self.root, input=feed, check=False, capture_output=True).stdout

    def _free(self, name: bytes) -> Path | None:
        path = self.root / os.fsdecode(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None  # a file is in the way
        inside = path.parent.resolve() == self.root / path.parent.relative_to(self.root)
        return path if inside and not os.path.lexists(path) else None

    def _pick(self, edit: Edit, *, folders: bool = False) -> Path | None:
        found = [path for path in sorted(self.root.rglob("*")) if self._is_ours(path)]
        wanted = [path for path in found if (path.is_dir() and not path.is_symlink()) == folders]
        return wanted[edit.at % len(wanted)] if wanted else None

    def _is_ours(self, path: Path) -> bool:
        first = path.relative_to(self.root).parts[0]
        return first != ".git" and (first != SUBMODULE or not self.has_submodule())

    def _named(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _modify(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path and not path.is_symlink():
            path.write_bytes(edit.content)
        elif path:
            path.unlink()
            path.symlink_to(os.fsdecode(TARGETS[len(edit.content) % len(TARGETS)]))

    def _append(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path and not path.is_symlink():
            path.write_bytes(path.read_bytes() + edit.content)

    def _touch(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            os.utime(path, (edit.at, edit.at), follow_symlinks=False)

    def _delete(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            path.unlink()

    def _chmod(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path and not path.is_symlink():
            path.chmod(path.stat().st_mode ^ 0o111)

    def _to_link(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            path.unlink()
            path.symlink_to(os.fsdecode(TARGETS[edit.at % len(TARGETS)]))

    def _to_folder(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            path.unlink()
            path.mkdir()
            new = self._free(os.fsencode(self._named(path)) + b"/" + edit.name) if edit.at % 4 else None
            if new:
                new.write_bytes(edit.content)

    def _folder_to_file(self, edit: Edit) -> None:
        path = self._pick(edit, folders=True)
        if path:
            shutil.rmtree(path)
            path.write_bytes(edit.content)

    def _folder_to_link(self, edit: Edit) -> None:
        """As data is moved to a larger disk."""
        path = self._pick(edit, folders=True)
        if path:
            moved = self.root.parent / f"moved-{len(list(self.root.parent.iterdir()))}"
            path.rename(moved)
            path.symlink_to(moved)

    def _rename(self, edit: Edit) -> None:
        path, target = self._pick(edit, folders=edit.at % 3 == 0), self._free(edit.name)
        if path and target:
            self._git("mv", "--", self._named(path), self._named(target))

    def _stage(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            self._git("add", "--force", "--", self._named(path))

    def _stage_all(self, edit: Edit) -> None:
        self._git("add", "--all")

    def _unstage(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            self._git("reset", "--quiet", "--", self._named(path))

    def _untrack(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            self._git("rm", "--quiet", "--cached", "--force", "--", self._named(path))

    def _intend(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            self._git("add", "--intent-to-add", "--", self._named(path))

    def _new(self, edit: Edit) -> None:
        path = self._free(edit.name)
        if path:
            path.write_bytes(edit.content)
            path.chmod(0o755 if edit.at % 2 else 0o644)

    def _new_ignored(self, edit: Edit) -> None:
        self._new(edit._replace(name=edit.name + b".log"))

    def _new_link(self, edit: Edit) -> None:
        path = self._free(edit.name)
        if path:
            path.symlink_to(os.fsdecode(TARGETS[edit.at % len(TARGETS)]))

    def _stage_gone(self, edit: Edit) -> None:
        path = self._free(edit.name)
        if path:
            path.write_bytes(edit.content)
            self._git("add", "--", self._named(path))
            path.unlink()

    def _hide(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            self._git("update-index", "--assume-unchanged", "--", self._named(path))

    def _conflict(self, edit: Edit) -> None:
        path = self._pick(edit)
        if path:
            blob = self._git("hash-object", "-w", "--stdin", feed=edit.content).strip()
            name = os.fsencode(self._named(path))
            wanted = range(1, 4) if edit.at % 2 else (2,)
            lines = [b"0 %s\t%s\0" % (b"0" * len(blob), name)]
            lines += [b"100644 %s %d\t%s\0" % (blob, stage, name) for stage in wanted]
            self._git("update-index", "-z", "--index-info", feed=b"".join(lines))

    def _submodule_edit(self, edit: Edit) -> None:
        if self.has_submodule():
            (self.root / SUBMODULE / ("lib.py" if edit.at % 2 else "new.py")).write_bytes(edit.content)

    def _submodule_commit(self, edit: Edit) -> None:
        if self.has_submodule():
            call("-C", str(self.root / SUBMODULE), "commit", "--quiet", "--all", "--allow-empty", "-m", "more")

    def _submodule_gone(self, edit: Edit) -> None:
        if self.has_submodule():
            shutil.rmtree(self.root / SUBMODULE)
            if edit.at % 2:
                (self.root / SUBMODULE).write_bytes(edit.content)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    call("init", "--quiet", str(root))
    (root / "lib.py").write_text("lib = 1\n")
    call("-C", str(root), "add", ".")
    call("-C", str(root), "commit", "--quiet", "-m", "lib")
    return root


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[None]:
    """Hypothesis keeps its notes in the working directory otherwise."""
    configuration.set_hypothesis_home_dir(tmp_path / "hypothesis")
    yield
    configuration.set_hypothesis_home_dir(None)


@settings(
    max_examples=int(MORE or 60),
    derandomize=not MORE,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    base=bases,
    changes=edits,
    committed=st.integers(0, 4),
    has_submodule=st.integers(0, 2),
    largest=st.sampled_from([1 << 20, 1 << 20, 900]),
)
# What was wrong once, or is too rare to be met by chance.
@example([Entry(b"data/x", b"x", "644")], [Edit("folder_to_link", 0, b"", b"")], 1, 1, 1 << 20)
@example([Entry(b"large", b"x" * 999, "644")], [Edit("touch", 1, b"", b"")], 1, 1, 900)
@example([], [Edit("submodule_gone", 1, b"", bytes(range(256)))], 1, 0, 1 << 20)
@example([], [Edit("submodule_gone", 1, b"", b"GIT binary patch\n")], 1, 0, 1 << 20)
@example([Entry(b"new\nline", b"x" * 999, "644")], [Edit("modify", 1, b"", b"y" * 999)], 1, 1, 900)
@example(
    [Entry(b"large", b"x" * 999, "644")],
    [Edit("modify", 1, b"", b"y" * 999), Edit("conflict", 1, b"", b"z")],
    1,
    1,
    900,
)
def test_any_work_tree_comes_back_and_is_not_touched(
    library: Path,
    storage: None,
    base: list[Entry],
    changes: list[Edit],
    committed: int,
    has_submodule: int,
    largest: int,
):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        world = World(home / "repo", library, base, committed=committed > 0, has_submodule=has_submodule == 0)
        for edit in changes:
            world.edit(edit)
        limits = Limits(seconds=60, file_bytes=largest)
        before = everything(world.root)
        told = capture([world.root], home / "private", attempt=1, leave_out=[], limits=limits)
        state = finish(told, home / "private", home / "code", "code")
        assert everything(world.root) == before
        check(world, told, state, home, largest)


def check(world: World, told: Capture, state: CodeState, home: Path, largest: int) -> None:
    outer = state.repositories[0]
    assert outer.tree == told.repositories[0].tree
    again = check_one(world.root, outer, home / "code/diff.patch", home / "again", world.files(), largest)
    assert [one.path for one in state.repositories[1:]] == [SUBMODULE] * is_submodule(again)
    for inner in state.repositories[1:]:
        root, patch = world.root / SUBMODULE, home / "code/submodules" / SUBMODULE / "diff.patch"
        check_one(root, inner, patch, home / "inner", files(root), largest)
    is_whole = not any(code.left_out for code in state.repositories)
    assert state.verdict == "exact" if is_whole else state.verdict.startswith("partial: ")


def check_one(root: Path, code: Code, patch: Path, target: Path, expected: Files, largest: int) -> Path:
    """Only what is too large may differ, and it is named."""
    again = plain_git(root, code.commit, patch, target)
    assert call("-C", str(again), "write-tree") == code.tree
    there = files(again)
    missing = {name for name in expected if shown(os.fsdecode(name)) in {one.path for one in code.left_out}}
    differing = {name for name in there.keys() | expected.keys() if there.get(name) != expected.get(name)}
    # Of a name with a line end git is not asked whether it only looks changed.
    assert differing == missing - {name for name in missing - differing if b"\n" in name}
    assert all(len(expected[name][1]) > largest for name in missing)
    return again


def plain_git(source: Path, commit: str | None, patch: Path, target: Path) -> Path:
    """What a person does elsewhere, without Dovetail."""
    call("init", "--quiet", str(target))
    if commit:
        call("-C", str(target), "fetch", "--quiet", str(source), "HEAD")
        call("-C", str(target), "checkout", "--quiet", "--detach", commit)
    if patch.exists():
        call("-C", str(target), "apply", "--index", "--binary", "--whitespace=nowarn", str(patch))
    return target


def is_submodule(again: Path) -> bool:
    """Whether the tree that came back has one."""
    return call("-C", str(again), "ls-files", "-s", SUBMODULE).startswith("160000")
