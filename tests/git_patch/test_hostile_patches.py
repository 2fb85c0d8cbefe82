"""A patch and a state from a server that somebody else has written to: nothing leaves the folder, nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from context.conftest import Git
from git_patch.conftest import everything

from mlflow_dovetail.git_patch import CannotRestore, Code, CodeState, Patch, apply, restore, verify
from mlflow_dovetail.repository import GitFailed

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def new_file(path: str, mode: str = "100644", content: str = "evil") -> str:
    return (
        f'diff --git "a/{path}" "b/{path}"\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n'
        f'+++ "b/{path}"\n@@ -0,0 +1 @@\n+{content}\n\\ No newline at end of file\n'
    )


HOSTILE = {
    "above the tree": new_file("../evil"),
    "far above it": new_file("folder/../../evil"),
    "absolute": new_file("/tmp/evil").replace('"a//', '"//').replace('"b//', '"//'),
    "the repository's own folder": new_file(".git/hooks/post-checkout", "100755"),
    "the same in other letters": new_file(".GIT/config"),
    "the same as Windows sees it": new_file("GIT~1/config"),
    "the same in a submodule": new_file("library/.git/config"),
    "through a link that it makes": new_file("link", "120000", "..") + new_file("link/evil"),
    "through a link that it changes": (
        "diff --git a/train.py b/train.py\ndeleted file mode 100644\nindex 10d5d9e..0000000\n--- a/train.py\n"
        "+++ /dev/null\n@@ -1 +0,0 @@\n-print(1)\n" + new_file("train.py", "120000", "..") + new_file("train.py/evil")
    ),
    "a link for git's modules": new_file(".gitmodules", "120000", "train.py"),
    "no patch": "import os\n",
}


@pytest.fixture
def hostile(repo: Path, git: Git, tmp_path: Path) -> Callable[..., tuple[CodeState, Path]]:
    """A state as a server could give it, and its patch."""

    def make(patch: str, **fields: object) -> tuple[CodeState, Path]:
        file = tmp_path / "hostile.patch"
        file.write_text(patch)
        commit = str(fields.pop("commit", git("rev-parse", "HEAD")))
        tree = git("rev-parse", "HEAD^{tree}")
        code = Code("", tree, commit, patch=Patch(commit, tree, "code/diff.patch"), **fields)
        return CodeState("exact", 1, 0, [code]), file

    return make


@pytest.mark.parametrize("patch", HOSTILE.values(), ids=HOSTILE)
def test_a_path_that_leads_out_is_refused(repo: Path, tmp_path: Path, hostile, patch: str):
    state, file = hostile(patch)
    before = {name: told for name, told in everything(tmp_path).items() if "/.git/worktrees" not in name}

    def fetch(code: Code, wanted: Patch) -> tuple[Path, str]:
        return file, wanted.tree

    for act in (
        lambda: restore(state, repo, tmp_path / "again", fetch, lambda line: None),
        lambda: verify(state, repo, fetch),
        lambda: apply(state, repo, fetch),
    ):
        # By git itself: a tree that does not fit is no reason to rely on, for it may come from the same hand.
        with pytest.raises(CannotRestore, match="patch does not apply to"):
            act()
    assert not (tmp_path / "again").exists()
    assert {name: told for name, told in everything(tmp_path).items() if "/.git/worktrees" not in name} == before


def test_what_is_made_like_these_and_is_not_hostile_applies(repo: Path, hostile):
    for patch in (new_file("folder/fine"), new_file("link", "120000", ".."), new_file(".gitmodule", "100755")):
        state, file = hostile(patch)
        with pytest.raises(CannotRestore, match="does not give the run's code"):
            verify(state, repo, lambda code, wanted, file=file: (file, wanted.tree))


@pytest.mark.parametrize("commit", ["--upload-pack=touch evil", "HEAD", "main", "-h", "0" * 39, "../../etc"])
def test_a_commit_that_is_no_hash_is_refused(repo: Path, tmp_path: Path, hostile, commit: str):
    state, file = hostile("", commit=commit)
    with pytest.raises(CannotRestore, match="as a commit"):
        restore(state, repo, tmp_path / "again", lambda code, patch: (file, patch.tree), lambda line: None)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("remote", ["ext::sh -c 'touch evil'", "--upload-pack=touch evil", "fd::17", "gopher://x/y"])
def test_a_remote_that_runs_a_program_is_refused(tmp_path: Path, hostile, remote: str, monkeypatch):
    state, file = hostile("", remote=remote)
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    with pytest.raises(CannotRestore, match="cannot be cloned"):
        restore(state, Path.cwd(), tmp_path / "again", lambda code, patch: (file, patch.tree), lambda line: None)
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("path", ["../beside", "train.py", "nowhere", ".git", "/tmp", "link/inside"])
def test_a_submodule_that_the_tree_has_not_is_refused(repo: Path, git: Git, tmp_path: Path, hostile, path: str):
    (repo / "link").symlink_to("..")
    git("add", ".")
    git("commit", "-qm", "a link")
    state, _ = hostile("")
    commit, tree = git("rev-parse", "HEAD"), git("rev-parse", "HEAD^{tree}")
    state.repositories.append(Code(path, tree, commit, remote=str(repo), patch=Patch(commit, tree)))
    before = set(tmp_path.rglob("*"))
    with pytest.raises((CannotRestore, GitFailed)):
        restore(state, repo, tmp_path / "again", lambda code, patch: (None, patch.tree), lambda line: None)
    after = set(tmp_path.rglob("*"))
    assert {path for path in after - before if "worktrees" not in path.parts} == set()
