"""`verify`, `apply` and `restore`: the code again, in this repository and in others, and nothing else is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from context.conftest import Git
from git_patch.conftest import Kept, call, everything, files
from git_patch.test_restoring import TOKEN, Keep, edit_everything

from mlflow_dovetail.git_patch import CannotRestore, Code, Fetch, Patch, Proof, apply, restore, stat, verify

Again = Callable[..., list[Proof]]


def fetch_of(kept: Kept, *, whole: bool = True) -> Fetch:
    """As the machine of the run has the patches, or as another one."""

    def fetch(code: Code, patch: Patch) -> tuple[Path | None, str]:
        number = kept.state.repositories.index(code)
        name = "diff.patch" if patch is code.patch else "from_published.patch"
        own = kept.private / str(number) / name
        if whole and own.exists():
            return own, code.tree
        return (kept.uploaded / patch.path.removeprefix("code/") if patch.path else None), patch.tree

    return fetch


def restored(kept: Kept, folder: Path, target: Path, *, whole: bool = True) -> list[Proof]:
    return restore(kept.state, folder, target, fetch_of(kept, whole=whole), lambda line: None)


def tree_of(folder: Path) -> str:
    """Of the files themselves: all of them added anew."""
    call("-C", str(folder), "add", "--all", "--force", ".")
    return call("-C", str(folder), "write-tree")


@pytest.fixture
def remote(repo: Path, git: Git, tmp_path: Path) -> Path:
    """Has the first commit; the second is here alone."""
    target = tmp_path / "remote.git"
    git("init", "--bare", str(target))
    git("remote", "add", "origin", str(target))
    git("push", "--quiet", "origin", "main")
    (repo / "unpushed.py").write_text("unpushed = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "not pushed")
    return target


def test_here_it_becomes_a_worktree_with_every_file(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    edit_everything(repo, git)
    kept, before = keep(repo), files(repo)
    kept_index = (repo / ".git/index").read_bytes()
    (proof,) = restored(kept, repo, tmp_path / "again")
    del before[b"ignored.log"]
    assert files(tmp_path / "again") == before
    assert proof == Proof("", git("rev-parse", "HEAD"), kept.state.repositories[0].tree, True)
    assert tree_of(tmp_path / "again") == proof.tree
    assert ((repo / ".git/index").read_bytes(), files(repo).keys() - before.keys()) == (kept_index, {b"ignored.log"})
    assert str(tmp_path / "again") in git("worktree", "list")


def test_verifying_touches_nothing(repo: Path, git: Git, keep: Keep):
    edit_everything(repo, git)
    kept, before = keep(repo), everything(repo)
    (proof,) = verify(kept.state, repo / "becomes_folder", fetch_of(kept))
    assert (proof.tree, proof.is_exact) == (kept.state.repositories[0].tree, True)
    assert everything(repo) == before


def test_a_clone_without_the_unpushed_commit_has_the_code_all_the_same(repo, git, keep, remote, tmp_path: Path):
    edit_everything(repo, git)
    kept, before = keep(repo), files(repo)
    call("clone", "--quiet", str(remote), str(tmp_path / "elsewhere"))
    (proof,) = restored(kept, tmp_path / "elsewhere", tmp_path / "again")
    assert (proof.commit, proof.is_exact) == (call("-C", str(remote), "rev-parse", "main"), True)
    del before[b"ignored.log"]
    assert files(tmp_path / "again") == before


def test_without_a_repository_the_remote_is_cloned(repo, git, keep, remote, tmp_path: Path):
    (repo / "new.py").write_text("new = 1\n")
    kept = keep(repo)
    told: list[str] = []
    (tmp_path / "again").mkdir()
    (tmp_path / "nowhere").mkdir()
    (proof,) = restore(kept.state, tmp_path / "nowhere", tmp_path / "again", fetch_of(kept), told.append)
    assert proof.is_exact and told == [f"Cloning {remote}"]
    assert files(tmp_path / "again") == files(repo)
    assert call("-C", str(tmp_path / "again"), "remote", "get-url", "origin") == str(remote)


def test_the_first_code_before_any_commit_needs_no_repository(tmp_path: Path, git: Git, keep: Keep, monkeypatch):
    for kind in ("sha1", "sha256"):
        fresh = tmp_path / kind
        git("init", f"--object-format={kind}", str(fresh))
        (fresh / "train.py").write_text("print(0)\n")
        kept = keep(fresh)
        (proof,) = restored(kept, tmp_path, tmp_path / f"again-{kind}")
        assert (proof.commit, proof.is_exact, files(tmp_path / f"again-{kind}")) == ("", True, files(fresh))


def test_what_is_withheld_comes_back_here_and_not_elsewhere(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    (repo / "keys.py").write_text(f'KEY = "{TOKEN}"\n')
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    (here,) = restored(kept, repo, tmp_path / "here")
    (there,) = restored(kept, repo, tmp_path / "there", whole=False)
    assert here.is_exact and files(tmp_path / "here") == files(repo)
    assert not there.is_exact and there.tree == tree_of(tmp_path / "there")
    assert files(tmp_path / "there").keys() == files(repo).keys() - {b"keys.py"}
    (verified,) = verify(kept.state, repo, fetch_of(kept, whole=False))
    assert verified == there


def test_submodules_come_back_with_their_own_changes(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    library = tmp_path / "library"
    git("init", str(library))
    (library / "lib.py").write_text("lib = 1\n")
    call("-C", str(library), "add", ".")
    call("-C", str(library), "commit", "-qm", "lib")
    git("submodule", "add", "--quiet", str(library), "vendored/lib")
    git("commit", "-qm", "with a library")
    (repo / "vendored/lib/lib.py").write_text("lib = 2\n")
    (repo / "vendored/lib/new.py").write_text("new = 1\n")
    kept = keep(repo)
    proofs = restored(kept, repo, tmp_path / "again")
    assert [(proof.path, proof.is_exact) for proof in proofs] == [("", True), ("vendored/lib", True)]
    assert files(tmp_path / "again") == files(repo)
    assert call("-C", str(tmp_path / "again/vendored/lib"), "remote", "get-url", "origin") == str(library)
    call("clone", "--quiet", str(repo), str(tmp_path / "clone"))  # whose submodule is not checked out
    assert all(proof.is_exact for proof in restored(kept, tmp_path / "clone", tmp_path / "from_clone"))
    assert files(tmp_path / "from_clone") == files(repo)
    with pytest.raises(CannotRestore, match="submodule vendored/lib is not here"):
        verify(kept.state, tmp_path / "clone", fetch_of(kept))


@pytest.mark.parametrize("settings", [["core.autocrlf=true"], ["core.sparseCheckout=true"], ["core.fileMode=false"]])
def test_settings_of_the_repository_do_not_change_the_tree(repo, git, keep, tmp_path, settings):
    (repo / "crlf.txt").write_bytes(b"a\r\nb\r\n")
    (repo / "mixed.txt").write_bytes(b"a\r\nb\n")
    (repo / "folder").mkdir()
    (repo / "folder/inner.py").write_text("inner = 1\n")
    git("add", ".")
    git("commit", "-qm", "more")
    (repo / "folder/inner.py").write_text("inner = 2\n")
    for setting in settings:
        git("config", *setting.split("="))
    (repo / ".git/info/sparse-checkout").write_text("/*\n!/folder/\n")
    kept = keep(repo)
    (proof,) = restored(kept, repo, tmp_path / "again")
    assert proof.is_exact
    assert (tmp_path / "again/folder/inner.py").read_text().split() == ["inner", "=", "2"]


def test_no_hook_is_run_and_no_filter_of_lfs(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    (repo / ".gitattributes").write_text("*.bin filter=lfs\n")
    (repo / "weights.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    git("add", ".")
    git("commit", "-qm", "lfs")
    evidence = tmp_path / "was_run"
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (repo / ".git/hooks" / hook).write_text(f"#!/bin/sh\ntouch {evidence}\n")
        (repo / ".git/hooks" / hook).chmod(0o755)
    for kind in ("smudge", "clean", "process"):
        git("config", f"filter.lfs.{kind}", f"touch {evidence}; false")
    git("config", "filter.lfs.required", "true")
    assert restored(keep(repo), repo, tmp_path / "again")[0].is_exact
    assert not evidence.exists()


@pytest.mark.parametrize("kind", ["full", "file", "link"])
def test_a_folder_that_is_not_empty_is_refused_and_kept(repo: Path, keep: Keep, tmp_path: Path, kind: str):
    target = tmp_path / "taken"
    if kind == "full":
        target.mkdir()
        (target / "mine").write_text("mine\n")
    elif kind == "file":
        target.write_text("mine\n")
    else:
        target.symlink_to("nowhere")
    before = files(tmp_path)
    with pytest.raises(CannotRestore, match="Will not restore into"):
        restored(keep(repo), repo, target)
    assert {path: told for path, told in files(tmp_path).items() if path in before} == before


def test_a_restore_that_fails_leaves_nothing(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    kept.patch.write_text(kept.patch.read_text().replace("print(2)", "print(3)"))
    was_there = tmp_path / "was there"
    was_there.mkdir()
    for target in (tmp_path / "again", was_there):
        with pytest.raises(CannotRestore, match="does not give the run's code"):
            restored(kept, repo, target)
    assert not (tmp_path / "again").exists() and not any(was_there.iterdir())
    assert len(git("worktree", "list").splitlines()) == 1
    with pytest.raises(CannotRestore, match="does not give the run's code"):
        verify(kept.state, repo, fetch_of(kept))


def test_a_commit_that_is_nowhere_says_where_to_look(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    kept = keep(repo)
    git("init", str(tmp_path / "other"))
    for act in (verify, apply):
        with pytest.raises(CannotRestore, match="is not in the repository") as raised:
            act(kept.state, tmp_path / "other", fetch_of(kept))
        assert "git fetch --all" in raised.value.remedy
    with pytest.raises(CannotRestore, match="its repository had no remote"):
        restored(kept, tmp_path / "other", tmp_path / "again")
    with pytest.raises(CannotRestore, match="is in no git repository"):
        verify(kept.state, tmp_path, fetch_of(kept))


def test_applying_changes_files_and_not_the_index(repo: Path, git: Git, keep: Keep):
    edit_everything(repo, git)
    kept, before = keep(repo), files(repo)
    git("reset", "--quiet", "--hard")
    git("clean", "--quiet", "-ffd")
    index = git("ls-files", "-s")
    (proof,) = apply(kept.state, repo, fetch_of(kept))
    assert (files(repo), proof.is_exact, git("ls-files", "-s")) == (before, True, index)


def test_applying_is_all_or_nothing(repo: Path, git: Git, keep: Keep):
    (repo / "a.py").write_text("a = 1\n")
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    (repo / "a.py").unlink()
    (repo / "train.py").write_text("print('mine')\n")
    before = everything(repo)
    with pytest.raises(CannotRestore, match="does not apply to this work tree") as raised:
        apply(kept.state, repo, fetch_of(kept))
    assert "train.py" in raised.value.why
    assert everything(repo) == before


def test_in_a_repositorys_own_folder_nothing_is_applied(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    (repo / "hooks").mkdir()
    (repo / "hooks/post-update").write_text("#!/bin/sh\n")
    kept = keep(repo)
    git("clone", "--quiet", "--bare", str(repo), str(tmp_path / "bare.git"))
    for folder in (tmp_path / "bare.git", repo / ".git"):
        with pytest.raises(CannotRestore, match="Cannot apply the patch here"):
            apply(kept.state, folder, fetch_of(kept))
        assert not (folder / "hooks/post-update").exists()
    assert verify(kept.state, tmp_path / "bare.git", fetch_of(kept))[0].is_exact
    assert restored(kept, tmp_path / "bare.git", tmp_path / "again")[0].is_exact


def test_after_an_error_the_folder_is_as_it_was(repo: Path, keep: Keep, tmp_path: Path):
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    kept.patch.write_text("no patch\n")
    (tmp_path / "empty").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("empty")
    for target in (tmp_path / "link", tmp_path / "made/for/it"):
        with pytest.raises(CannotRestore, match="patch does not apply to"):
            restored(kept, repo, target)
    assert (tmp_path / "link").is_symlink() and not any((tmp_path / "empty").iterdir())
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "made").exists()
    (tmp_path / "file").touch()
    with pytest.raises(CannotRestore, match="Cannot restore into"):
        restored(kept, repo, tmp_path / "file/below")


def test_a_worktree_whose_folder_is_gone_is_not_taken_from_git(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    kept = keep(repo)
    restored(kept, repo, tmp_path / "again")
    shutil.rmtree(tmp_path / "again")
    for _ in range(2):
        with pytest.raises(CannotRestore, match="still has a worktree there") as raised:
            restored(kept, repo, tmp_path / "again")
        assert "git worktree prune" in raised.value.remedy
    git("worktree", "prune")
    assert restored(kept, repo, tmp_path / "again")[0].is_exact


def test_without_git_or_its_trust_it_says_so(repo: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    kept = keep(repo)
    monkeypatch.setenv("PATH", str(tmp_path))
    for act in (verify, apply):
        with pytest.raises(CannotRestore, match="git is not on PATH"):
            act(kept.state, repo, fetch_of(kept))


def test_a_commit_that_only_a_fork_has_is_cloned_from_there(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    for name in ("origin", "fork"):
        git("init", "--quiet", "--bare", str(tmp_path / f"{name}.git"))
    git("remote", "add", "origin", "../origin.git")  # relative to the repository
    git("remote", "add", "fork", "../fork.git")
    git("push", "--quiet", "origin", "main")
    (repo / "mine.py").write_text("mine = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "mine")
    git("push", "--quiet", "fork", "main")
    (repo / "mine.py").write_text("mine = 2\n")
    kept = keep(repo)
    (tmp_path / "nowhere/below").mkdir(parents=True)
    (proof,) = restored(kept, tmp_path / "nowhere/below", tmp_path / "again")
    assert proof.is_exact and (tmp_path / "again/mine.py").read_text() == "mine = 2\n"
    assert kept.state.repositories[0].remote == str(tmp_path / "fork.git")


def test_counting_changes_does_not_depend_on_where_one_stands(repo: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch):
    (repo / "sub").mkdir()
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    monkeypatch.chdir(repo / "sub")
    assert b"1 file changed" in stat(kept.patch)
