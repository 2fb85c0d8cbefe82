"""Which code a run had, in every state of a repository that people work in."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_dovetail.context import GitState, read_git_state

Git = Callable[..., str]


def test_a_clean_repository(repo: Path, git: Git) -> None:
    assert read_git_state() == GitState(git("rev-parse", "HEAD"), "main", False, None, None)


def test_from_a_subfolder(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo / "sub").mkdir()
    (repo / "new.py").touch()
    monkeypatch.chdir(repo / "sub")
    assert read_git_state().dirty is True


@pytest.mark.parametrize("change", ["edit", "stage", "delete", "new file", "new folder", "intent to add", "mode"])
def test_a_change_makes_it_dirty(repo: Path, git: Git, change: str) -> None:
    file = repo / "train.py"
    if change in ("edit", "stage"):
        file.write_text("print(2)\n")
    if change == "stage":
        git("add", "train.py")
    if change == "delete":
        file.unlink()
    if change == "mode":
        file.chmod(0o755)
    if change.startswith(("new", "intent")):
        new = repo / ("pkg/a b.py" if change == "new folder" else "ünëw.py")
        new.parent.mkdir(exist_ok=True)
        new.write_text("x = 1\n")
    if change == "intent to add":
        git("add", "-N", ".")
    assert read_git_state().dirty is True


def test_ignored_files_and_a_touched_file_are_clean(repo: Path) -> None:
    (repo / "run.log").write_text("noise")
    os.utime(repo / "train.py", (1, 1))
    assert read_git_state().dirty is False


@pytest.mark.parametrize(
    "left", ["mlflow.db", "mlflow.db-wal", "mlruns/0/meta.yaml", "pkg/__pycache__/a.pyc", ".dovetail/runs/x"]
)
def test_what_a_run_leaves_in_the_tree_is_clean(repo: Path, git: Git, left: str) -> None:
    (repo / "pkg").mkdir()
    (repo / "pkg/__init__.py").touch()
    git("add", ".")
    git("commit", "-m", "package")
    (repo / left).parent.mkdir(parents=True, exist_ok=True)
    (repo / left).write_text("x")
    assert read_git_state().dirty is False
    git("add", "-f", left)
    assert read_git_state().dirty is True  # somebody versions it: then it counts


def test_hydra_folders_are_clean_only_in_a_process_that_uses_hydra(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hydra", raising=False)
    (repo / "outputs").mkdir()
    (repo / "outputs/config.yaml").write_text("a: 1\n")
    assert read_git_state().dirty is True
    monkeypatch.setitem(sys.modules, "hydra", types.ModuleType("hydra"))
    assert read_git_state().dirty is False


def test_detached(repo: Path, git: Git) -> None:
    git("checkout", "--detach")
    state = read_git_state()
    assert (state.branch, state.commit, state.cause) == (None, git("rev-parse", "HEAD"), None)


def test_a_branch_with_slashes_and_a_tag_of_the_same_name(repo: Path, git: Git) -> None:
    git("checkout", "-b", "feature/é/x")
    git("tag", "feature/é/x")
    assert read_git_state().branch == "feature/é/x"


def test_before_the_first_commit(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "home")
    git("init")
    state = read_git_state()
    assert (state.commit, state.branch, state.dirty, state.cause) == (None, "main", True, None)


def test_a_linked_worktree(repo: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("worktree", "add", "-b", "side", str(tmp_path / "side"))
    (repo / "train.py").write_text("print(2)\n")
    monkeypatch.chdir(tmp_path / "side")
    assert read_git_state() == GitState(git("rev-parse", "HEAD"), "side", False, None, None)


def test_a_submodule_counts_with_its_edits(repo: Path, git: Git, tmp_path: Path) -> None:
    shutil.copytree(repo, tmp_path / "library")
    git("submodule", "add", str(tmp_path / "library"), "library")
    git("commit", "-m", "library")
    assert read_git_state().dirty is False
    (repo / "library/train.py").write_text("print(2)\n")
    assert read_git_state().dirty is True


@pytest.mark.parametrize(
    ("remotes", "remote"),
    [
        ({"origin": "https://joe:pw@github.com/me/x.git"}, "https://github.com/me/x.git"),
        ({"alpha": "git@host:a.git", "origin": "ssh://git@host/o.git"}, "ssh://git@host/o.git"),
        ({"zeta": "git@host:z.git", "alpha": "git@host:a.git"}, "git@host:a.git"),
        ({"a.b": "https://host/x?token=abc"}, "https://host/x"),
    ],
)
def test_the_remote_has_no_credentials(repo: Path, git: Git, remotes: dict[str, str], remote: str) -> None:
    for name, url in remotes.items():
        git("remote", "add", name, url)
    assert read_git_state().remote == remote


def test_the_branch_has_the_first_word_on_the_remote(repo: Path, git: Git) -> None:
    git("remote", "add", "origin", "git@host:o.git")
    git("remote", "add", "fork", "git@host:f.git")
    git("config", "branch.main.remote", "fork")
    assert read_git_state().remote == "git@host:f.git"


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_git_state() == GitState(cause="the working directory is in no git repository")


def test_no_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    assert read_git_state() == GitState(cause="git is not on PATH")


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert read_git_state() == GitState(cause="the working directory is gone")


def test_a_corrupted_index_leaves_out_the_flag_alone(repo: Path, git: Git) -> None:
    (repo / ".git/index").write_bytes(b"DIRC garbage")
    state = read_git_state()
    assert (state.commit, state.branch, state.dirty) == (git("rev-parse", "HEAD"), "main", None)
    assert "index file" in str(state.cause)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_somebody_else_is_refused_with_the_remedy(repo: Path, home: Path) -> None:
    (home / ".gitconfig").write_text("")
    os.chown(repo, 12345, 12345)
    os.chown(repo / ".git", 12345, 12345)
    state = read_git_state()
    assert (state.commit, state.dirty) == (None, None)
    assert "dubious ownership" in str(state.cause)
    assert "git config --global --add safe.directory" in str(state.cause)


def fake_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("git")
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_git_that_hangs_is_killed_with_its_children(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path / "bin", f"(sleep 3; touch {tmp_path}/survived) & sleep 5", monkeypatch)
    started = time.monotonic()
    state = read_git_state()
    assert time.monotonic() - started < 1.6
    assert state == GitState(cause="git rev-parse took over 1 s")
    time.sleep(max(0, started + 3.3 - time.monotonic()))
    assert not (tmp_path / "survived").exists()


def test_a_status_that_hangs_leaves_out_the_flag_alone(
    repo: Path, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git("rev-parse", "HEAD")
    fake_git(tmp_path / "bin", 'case "$*" in *" status "*) sleep 5;; esac; exec "$REAL" "$@"', monkeypatch)
    started = time.monotonic()
    assert read_git_state() == GitState(commit, "main", None, None, "git status took over 1 s")
    assert time.monotonic() - started < 1.8


def test_a_git_that_talks_rubbish_raises_or_says_so(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path / "bin", 'case "$*" in *" status "*) echo rubbish;; *) exec "$REAL" "$@";; esac', monkeypatch)
    with pytest.raises(ValueError, match="unknown entry 'rubbish"):
        read_git_state()


def test_inherited_git_variables_do_not_lead_elsewhere(
    repo: Path, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git("rev-parse", "HEAD")
    other = tmp_path / "other"
    git("init", str(other))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    assert read_git_state() == GitState(commit, "main", False, None, None)


def hash_folder(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {f"{path} {path.stat().st_mtime_ns}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_nothing_is_written_and_nothing_of_the_repository_is_run(repo: Path, git: Git, tmp_path: Path) -> None:
    """A hook, a file-system monitor and a clean filter wait for their chance, and the index for a refresh."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    (repo / ".gitattributes").write_text("*.bin filter=trap\n")
    (repo / "a.bin").write_text("a")
    git("add", ".")
    git("commit", "-m", "bin")
    for name in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(trap, repo / ".git/hooks" / name)
    git("config", "filter.trap.clean", str(trap))
    git("config", "filter.trap.required", "true")
    git("config", "core.fsmonitor", str(trap))
    os.utime(repo / "train.py", (1, 1))
    os.utime(repo / "a.bin", (1, 1))
    before = hash_folder(repo)
    read_git_state()
    assert hash_folder(repo) == before
    assert not (tmp_path / "sprung").exists()
    git("status")
    assert (tmp_path / "sprung").exists()
    assert hash_folder(repo) != before


def test_a_file_behind_a_filter_cannot_be_told_and_does_not_hide_others(repo: Path, git: Git) -> None:
    git("config", "filter.upper.clean", "tr a-z A-Z")
    (repo / ".gitattributes").write_text("*.bin filter=upper\n")
    (repo / "a.bin").write_text("abc")
    git("add", ".")
    git("commit", "-m", "bin")
    os.utime(repo / "a.bin", (1, 1))
    state = read_git_state()
    assert (state.dirty, state.cause) == (None, "only filter 'upper' could tell whether a.bin changed")
    (repo / "train.py").write_text("print(2)\n")
    assert read_git_state().dirty is True
