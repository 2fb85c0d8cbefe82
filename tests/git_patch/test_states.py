"""Every state that a repository is met in: the code comes back, or the verdict says what is missing.

Git itself makes each state. More of them are in `test_restoring.py` and `test_programs.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from context.conftest import Git
from git_patch.conftest import CAPTURE, Kept, call, edit, everything, files

from mlflow_dovetail.git_patch import Limits, capture, finish

Keep = Callable[..., Kept]
Restored = Callable[..., Path]


def added(root: Path, tmp_path: Path, *settings: str) -> str:
    """The tree that git itself makes of a work tree, in a copy of all of it."""
    copy = tmp_path / f"copy-{len(list(tmp_path.glob('copy-*')))}"
    shutil.copytree(root, copy, symlinks=True)
    (copy / ".git/index.lock").unlink(missing_ok=True)
    call("-C", str(copy), *settings, "add", "--all")
    return call("-C", str(copy), "write-tree")


def comes_back(root: Path, keep: Keep, restored: Restored) -> None:
    """Capture: exact, untouched, and a clone with the patch is the same."""
    before = everything(root)
    kept = keep(root)
    assert everything(root) == before
    assert kept.state.verdict == "exact"
    (code,) = kept.state.repositories
    again = restored(root, code.commit, kept.patch)
    assert call("-C", str(again), "write-tree") == code.tree
    assert files(again) == files(root)


def shallow(root: Path, git: Git) -> None:
    git("commit", "--allow-empty", "-m", "second")
    root.rename(root.with_name("deep"))
    git("clone", "--quiet", "--depth=1", f"file://{root.with_name('deep')}", str(root), cwd=root.parent)
    assert git("rev-parse", "--is-shallow-repository", cwd=root) == "true"


def detached(root: Path, git: Git) -> None:
    git("checkout", "--quiet", "--detach")


def rebasing(root: Path, git: Git) -> None:
    git("checkout", "--quiet", "-b", "side")
    (root / "train.py").write_text("print('side')\n")
    git("commit", "--quiet", "--all", "-m", "side")
    git("checkout", "--quiet", "main")
    (root / "train.py").write_text("print('main')\n")
    git("commit", "--quiet", "--all", "-m", "main")
    assert subprocess.run(["git", "rebase", "side"], check=False, capture_output=True).returncode == 1
    assert (root / ".git/rebase-merge").is_dir()


def locked(root: Path, git: Git) -> None:
    (root / ".git/index.lock").touch()
    assert subprocess.run(["git", "add", "."], check=False, capture_output=True).returncode == 128


def separate(root: Path, git: Git) -> None:
    git("init", "--quiet", "--separate-git-dir", str(root.with_name("elsewhere.git")))
    assert (root / ".git").is_file()


def split(root: Path, git: Git) -> None:
    git("update-index", "--split-index")
    (root / "staged.py").write_text("staged = 1\n")
    git("add", "staged.py")
    assert list((root / ".git").glob("sharedindex.*"))


def skipped(root: Path, git: Git) -> None:
    git("update-index", "--skip-worktree", "train.py")
    assert git("ls-files", "-v", "train.py") == "S train.py"


def without_its_submodules(root: Path, git: Git) -> None:
    """The folder of one is empty: git would find the outer repository there."""
    git("clone", "--quiet", str(root), "library")
    git("-c", "advice.addEmbeddedRepo=false", "add", "library")
    git("commit", "--quiet", "-m", "library")
    shutil.rmtree(root / "library")
    (root / "library").mkdir()


def sha256(root: Path, git: Git) -> None:
    shutil.rmtree(root / ".git")
    git("init", "--quiet", "--object-format=sha256")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert len(git("rev-parse", "HEAD")) == 64


def oddly_named(root: Path, git: Git) -> Path:
    """As a list of paths that is divided by colons, and a line, would break at."""
    return root.rename(root.with_name('a:b "c\\\n'))


def without_an_index(root: Path, git: Git) -> None:
    (root / ".git/index").unlink()


STATES = [
    shallow,
    detached,
    rebasing,
    locked,
    separate,
    split,
    skipped,
    without_its_submodules,
    sha256,
    oddly_named,
    without_an_index,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_code_comes_back_from_a_repository_that_is(
    repo: Path, git: Git, keep: Keep, restored: Restored, state: Callable[[Path, Git], Path | None]
):
    root = state(repo, git) or repo
    edit(root)
    comes_back(root, keep, restored)


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG",
    "GIT_CONFIG_GLOBAL", "GIT_LITERAL_PATHSPECS", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_TRACE",
    "GIT_CONFIG_COUNT"])  # fmt: skip
def test_a_variable_of_git_that_leaked_into_the_process_changes_nothing(
    repo: Path, keep: Keep, restored: Restored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
):
    edit(repo)
    with monkeypatch.context() as leaked:
        leaked.setenv(variable, "1" if variable == "GIT_CONFIG_COUNT" else str(tmp_path / "nowhere"))
        leaked.setenv("GIT_CONFIG_KEY_0", "core.worktree")
        leaked.setenv("GIT_CONFIG_VALUE_0", str(tmp_path))
        kept = keep(repo)
    monkeypatch.delenv(variable, raising=False)
    assert kept.state.verdict == "exact"
    assert kept.state.repositories[0].tree == added(repo, tmp_path)
    assert files(restored(repo, kept.state.repositories[0].commit, kept.patch)) == files(repo)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", ["--cone", "--no-cone", "--sparse-index"])
def test_a_sparse_checkout_has_the_rest_as_in_the_commit(
    repo: Path, git: Git, keep: Keep, restored: Restored, mode: str
):
    for name in ("here/a.py", "away/b.py", "away/deep/c.py"):
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(f"{name}\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "folders")
    chosen = ["/*", "!/away/"] if mode == "--no-cone" else ["here"]
    git("sparse-checkout", "set", *(["--cone", mode] if mode == "--sparse-index" else [mode]), *chosen)
    assert not (repo / "away").exists()
    edit(repo)
    (repo / "here/a.py").write_text("edited\n")
    before = everything(repo)
    kept = keep(repo)
    assert (everything(repo), kept.state.verdict) == (before, "exact")
    code = kept.state.repositories[0]
    away = {b"away/b.py": (0o100000, b"away/b.py\n"), b"away/deep/c.py": (0o100000, b"away/deep/c.py\n")}
    assert files(restored(repo, code.commit, kept.patch)) == files(repo) | away
    (repo / "away").mkdir()
    (repo / "away/b.py").write_text("here after all\n")
    assert b"here after all" in keep(repo).patch.read_bytes()


@pytest.mark.parametrize("setting", ["true", "input"])
def test_line_ends_are_kept_as_git_would(
    repo: Path, git: Git, keep: Keep, restored: Restored, tmp_path: Path, home: Path, setting: str
):
    (repo / "kept.txt").write_bytes(b"one\ntwo\n")
    (repo / "edited.txt").write_bytes(b"one\ntwo\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "text")
    git("config", "--global", "core.autocrlf", setting)
    git("config", "--global", "core.safecrlf", "true")
    (repo / "kept.txt").write_bytes(b"one\r\ntwo\r\n")
    (repo / "edited.txt").write_bytes(b"one\r\nthree\r\n")
    (repo / "new.txt").write_bytes(b"new\r\nmixed\n")
    before = everything(repo)
    kept = keep(repo)
    assert (everything(repo), kept.state.verdict) == (before, "exact")
    assert kept.state.repositories[0].tree == added(repo, tmp_path, "-c", "core.safecrlf=false")
    assert b"kept.txt" not in kept.patch.read_bytes()
    git("config", "--global", "--unset", "core.autocrlf")
    again = restored(repo, kept.state.repositories[0].commit, kept.patch)
    assert (again / "edited.txt").read_bytes() == b"one\nthree\n"


def test_without_git_the_verdict_says_so(repo: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(repo))
    kept = keep(repo, script=repo / "train.py")
    assert kept.state.verdict == "none: git is not on PATH; what ran is kept: code/train.py"


def test_without_a_work_tree_the_verdict_says_so(tmp_path: Path, git: Git, keep: Keep):
    git("init", "--quiet", "--bare", str(tmp_path / "bare.git"))
    assert keep(tmp_path / "bare.git").state.verdict == "none: this operation must be run in a work tree"
    assert keep(tmp_path).state.verdict == "none: the working directory is in no git repository"
    assert keep(tmp_path / "gone").state.verdict == "none: the folder is gone"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_somebody_else_is_refused_with_the_remedy(repo: Path, git: Git, home: Path, keep: Keep):
    git("config", "--global", "--unset", "safe.directory")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    assert keep(repo).state.verdict == (
        f"none: detected dubious ownership in repository at '{repo}'; "
        "trust it with: git config --global --add safe.directory <that folder>"
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_repository_that_only_others_may_write(repo: Path, keep: Keep, restored: Restored):
    """A folder of ours is written alone: the user's may be read-only, and a file in it unreadable."""
    edit(repo)
    (repo / "unreadable.py").write_text("x = 1\n")
    (repo / "unreadable.py").chmod(0o600)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(repo, Path(folder, "repo"))
        shutil.copytree(Path.home(), Path(folder, "home"))
        Path(folder).chmod(0o755)
        Path(folder, "into").mkdir()
        os.chown(Path(folder, "into"), 12345, 12345)
        before = everything(Path(folder, "repo"))
        command = [sys.executable, "-c", CAPTURE, f"{folder}/repo", f"{folder}/into", "12345"]
        environment = {**os.environ, "HOME": f"{folder}/home"}
        done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
        assert (done.stdout, everything(Path(folder, "repo"))) == ("ready\n\n", before)
        told = Path(folder, "into/captured.json").read_text()
        assert '"left_out":[{"path":"unreadable.py","why":"cannot be read","size_bytes":6}]' in told
    (repo / "unreadable.py").unlink()
    assert f'"tree":"{added(repo, repo.parent)}"' in told


def test_a_huge_new_file_is_not_read_while_the_run_starts(repo: Path, keep: Keep, tmp_path: Path):
    edit(repo)
    with (repo / "huge.bin").open("wb") as file:
        file.truncate(1 << 30)
    read = bytes_read()
    began = time.monotonic()
    told = capture([repo], tmp_path / "own", attempt=1, leave_out=[], limits=Limits())
    assert time.monotonic() - began < 2
    assert bytes_read() - read < 50 << 20
    assert [(one.path, one.why, one.size_bytes) for one in told.repositories[0].left_out] == [
        ("huge.bin", "over 20 MiB", 1 << 30)
    ]
    assert sum(path.stat().st_size for path in (tmp_path / "own").rglob("*")) < 1 << 20
    (repo / "huge.bin").write_text("another")  # a hash of what it is now would name what the run had not
    state = finish(told, tmp_path / "own", tmp_path / "code", "code")
    assert state.verdict == "partial: huge.bin (over 20 MiB)"


def bytes_read() -> int:
    """By this process and all that it has waited for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_is_no_code_by_its_kind_is_named(repo: Path, git: Git, keep: Keep):
    edit(repo)
    git("init", "--quiet", "nested")
    os.mkfifo(repo / "pipe")
    (repo / "train.py").unlink()
    os.mkfifo(repo / "train.py")
    assert keep(repo).state.verdict == (
        "partial: train.py (neither a file nor a link); nested/ (a repository of its own)"
    )
