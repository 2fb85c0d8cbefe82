"""Commit and patch give the code of a run again, byte for byte, and the repository has not been touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from context.conftest import Git
from git_patch.conftest import Kept, call, everything, files

from mlflow_dovetail.git_patch import Limits, capture

TOKEN = "ghp_" + "a1B2" * 9
Keep = Callable[..., Kept]
Restored = Callable[..., Path]


def edit_everything(repo: Path, git: Git) -> None:
    """Every kind of change that the work tree of `repo` can have."""
    for name in ("gone", "moved", "mode.sh", "crlf.txt", "becomes_link", "becomes_folder", "staged_only"):
        (repo / name).write_text(f"{name}\n" * 3)
    (repo / "image.png").write_bytes(bytes(range(256)) * 9)
    (repo / "folder").mkdir()
    (repo / "folder/inner").write_text("inner\n")
    git("add", ".")
    git("commit", "-m", "more")
    (repo / "train.py").write_text("print(2)\n")
    git("add", "train.py")
    (repo / "train.py").write_text("print(3)\n")
    (repo / "staged_only").write_text("staged\n")
    git("add", "staged_only")
    (repo / "gone").unlink()
    git("mv", "moved", "elsewhere")
    (repo / "mode.sh").chmod(0o755)
    (repo / "crlf.txt").write_bytes(b"a\r\nb\nc\r\n")
    (repo / "becomes_link").unlink()
    (repo / "becomes_link").symlink_to("train.py")
    (repo / "becomes_folder").unlink()
    (repo / "becomes_folder").mkdir()
    (repo / "becomes_folder/file").write_text("new\n")
    (repo / "folder/inner").unlink()
    (repo / "folder").rmdir()
    (repo / "folder").write_text("a file now\n")
    (repo / "image.png").write_bytes(bytes(range(255, -1, -1)) * 9)
    (repo / "intended").write_text("soon\n")
    git("add", "-N", "intended")
    (repo / "empty").touch()
    (repo / "no newline").write_text("end")
    (repo / 'quote"\\ tab\t new\nline').write_text("a name\n")
    (repo / os.fsdecode(b"latin-\xe9.txt")).write_bytes(b"caf\xe9 \x00\xff")
    (repo / "ünïcode 日本").mkdir()
    (repo / "ünïcode 日本/π.py").write_text("π = 3\n")
    (repo / "dangling").symlink_to("/nowhere/at all")
    (repo / "ignored.log").write_text("not code\n")


def test_every_kind_of_change_comes_back(repo: Path, git: Git, keep: Keep, restored: Restored):
    edit_everything(repo, git)
    before = everything(repo)
    kept = keep(repo)
    assert everything(repo) == before
    assert kept.state.verdict == "exact"
    code = kept.state.repositories[0]
    (repo / "ignored.log").unlink()
    again = restored(repo, code.commit, kept.patch)
    assert files(again) == files(repo)
    assert call("-C", str(again), "write-tree") == code.tree
    assert (code.commit, code.branch) == (git("rev-parse", "HEAD"), "main")


def test_a_clean_repository_needs_no_patch(repo: Path, git: Git, keep: Keep):
    kept = keep(repo)
    code = kept.state.repositories[0]
    assert (kept.state.verdict, code.tree) == ("exact", git("rev-parse", "HEAD^{tree}"))
    assert [path.name for path in kept.uploaded.iterdir()] == ["state.json"]


def test_a_merge_in_conflict(repo: Path, git: Git, keep: Keep, restored: Restored):
    git("checkout", "-b", "other")
    (repo / "train.py").write_text("print('theirs')\n")
    git("commit", "-am", "theirs")
    git("checkout", "main")
    (repo / "train.py").write_text("print('ours')\n")
    git("commit", "-am", "ours")
    subprocess.run(["git", "merge", "other"], check=False, capture_output=True)
    assert b"<<<<<<<" in (repo / "train.py").read_bytes()
    kept = keep(repo)
    assert kept.state.verdict == "exact"
    assert files(restored(repo, kept.state.repositories[0].commit, kept.patch)) == files(repo)


@pytest.mark.parametrize(
    "settings",
    [
        {"diff.noprefix": "true"},
        {"diff.mnemonicPrefix": "true", "color.ui": "always", "color.diff": "always"},
        {"diff.context": "0", "diff.interHunkContext": "9"},
        {"diff.external": "false", "diff.renames": "copies"},
        {"core.autocrlf": "input", "core.safecrlf": "true"},
        {"core.quotePath": "false", "apply.whitespace": "fix", "core.whitespace": "trailing-space,cr-at-eol"},
        {"core.splitIndex": "true"},
        {"core.untrackedCache": "true", "index.version": "4"},
        {"core.fsmonitor": "false-as-a-program", "core.hooksPath": "hooks"},
        {"diff.algorithm": "patience", "diff.indentHeuristic": "true", "diff.submodule": "log"},
        {"diff.orderFile": "order", "diff.ignoreSubmodules": "all", "diff.relative": "true"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_no_setting_of_the_user_changes_the_result(
    repo: Path, git: Git, keep: Keep, restored: Restored, settings: dict[str, str]
):
    (repo / "spaces.txt").write_bytes(b"one  \r\ntwo\t\r\n")
    git("add", ".")
    git("commit", "-m", "spaces")
    for key, value in settings.items():
        git("config", key, value)
    (repo / "order").write_text("train.py\n")
    (repo / "spaces.txt").write_bytes(b"one  \nthree\t  \nfour\n")
    (repo / "train.py").write_text("print(2)   \n")
    (repo / "new.txt").write_text("new\n\n\n")
    kept = keep(repo)
    assert kept.state.verdict == "exact"
    code = kept.state.repositories[0]
    assert call("-C", str(restored(repo, code.commit, kept.patch)), "write-tree") == code.tree


def test_the_first_code_before_any_commit(tmp_path: Path, git: Git, keep: Keep, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "fresh"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init")
    (root / "train.py").write_text("print(1)\n")
    kept = keep(root)
    code = kept.state.repositories[0]
    assert (kept.state.verdict, code.commit, code.branch) == ("exact", None, "main")
    target = tmp_path / "empty"
    call("init", "--quiet", str(target))
    call("-C", str(target), "apply", "--index", "--binary", str(kept.patch))
    assert files(target) == files(root)


def test_outside_a_repository_the_script_is_kept(tmp_path: Path, keep: Keep):
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    kept = keep(tmp_path, script=script)
    assert kept.state.verdict == (
        "none: the working directory is in no git repository; what ran is kept: code/train.py"
    )
    assert (kept.uploaded / "train.py").read_text() == "print(1)\n"
    script.write_text(f"token = '{TOKEN}'\n")
    kept = keep(tmp_path, script=script)
    assert kept.state.verdict.endswith("what ran is not kept: train.py (GitHub token, line 1)")
    assert not (kept.uploaded / "train.py").exists()


def test_unpushed_commits_restore_from_what_the_remote_has(
    repo: Path, git: Git, keep: Keep, restored: Restored, tmp_path: Path
):
    remote = tmp_path / "remote.git"
    call("clone", "--quiet", "--bare", str(repo), str(remote))
    git("remote", "add", "origin", str(remote))
    git("fetch", "--quiet", "origin")
    pushed = git("rev-parse", "HEAD")
    kept = keep(repo)
    assert (kept.state.repositories[0].is_published, kept.state.repositories[0].published) == (True, None)
    for number in (2, 3):
        (repo / "train.py").write_text(f"print({number})\n")
        git("commit", "-am", f"{number}")
    (repo / "new.py").write_text("new = 1\n")
    kept = keep(repo)
    code = kept.state.repositories[0]
    assert code.published is not None
    assert (kept.state.verdict, code.published.commit, code.published.tree) == ("exact", pushed, code.tree)
    assert files(restored(remote, pushed, kept.uploaded / "from_published.patch")) == files(repo)


def test_submodules_have_their_own(repo: Path, git: Git, keep: Keep, restored: Restored, tmp_path: Path):
    library = tmp_path / "library"
    call("init", "--quiet", str(library))
    (library / "lib.py").write_text("lib = 1\n")
    call("-C", str(library), "add", ".")
    call("-C", str(library), "commit", "--quiet", "-m", "lib")
    git("submodule", "add", "--quiet", str(library), "sub/lib")
    git("commit", "-m", "with a library")
    (repo / "sub/lib/lib.py").write_text("lib = 2\n")
    (repo / "sub/lib/new.py").write_text("new = 2\n")
    before = everything(repo)
    kept = keep(repo)
    assert everything(repo) == before
    outer, inner = kept.state.repositories
    assert (kept.state.verdict, outer.path, inner.path) == ("exact", "", "sub/lib")
    assert inner.patch is not None
    assert inner.patch.path == "code/submodules/sub/lib/diff.patch"
    again = restored(library, inner.commit, kept.uploaded / "submodules/sub/lib/diff.patch")
    assert files(again) == files(repo / "sub/lib")


def test_a_secret_stays_here_and_the_rest_applies(repo: Path, git: Git, keep: Keep, restored: Restored):
    (repo / "train.py").write_text(f"print(2)\nKEY = '{TOKEN}'\n")
    (repo / ".env").write_text("NOTHING=1\n")
    (repo / "model.py").write_text("use_cls_token = True\n")
    (repo / "blob.bin").write_bytes(b"\0\1" + TOKEN.encode("utf-16-le"))
    kept = keep(repo)
    assert kept.state.verdict == (
        "exact here, redacted elsewhere: .env (environment file), blob.bin (GitHub token), "
        "train.py (GitHub token, line 2)"
    )
    for path in kept.uploaded.rglob("*"):
        assert TOKEN.encode() not in path.read_bytes()
    code = kept.state.repositories[0]
    assert code.patch is not None
    again = restored(repo, code.commit, kept.patch)
    assert call("-C", str(again), "write-tree") == code.patch.tree != code.tree
    assert (again / "model.py").exists()
    assert not (again / ".env").exists()
    assert (again / "train.py").read_text() == "print(1)\n"
    (full,) = kept.private.rglob("diff.patch")
    assert full.stat().st_mode & 0o777 == 0o600
    assert files(restored(repo, code.commit, full)) == files(repo)


def test_what_a_run_writes_is_no_code(repo: Path, git: Git, keep: Keep, tmp_path: Path):
    (repo / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: x\n    outs: [model.ckpt, {params.yaml: {cache: false}}]\n"
        "    metrics: [{metrics.json: {cache: false}}]\n"
    )
    (repo / "metrics.json").write_text("{}")
    git("add", ".")
    git("commit", "-m", "a pipeline")
    (repo / "metrics.json").unlink()  # as DVC does before a stage
    for name in ("model.ckpt", "runs.db", "runs.db-wal", "mlruns/1/a", ".dovetail/runs/x", "store/1/run/artifacts/a",
                 "logs/2026/.hydra/config.yaml", "logs/2026/train.log.txt"):  # fmt: skip
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text("not code")
    (repo / "params.yaml").write_text("lr: 0.1\n")
    git("add", "runs.db")  # even so
    kept = keep(repo, leave_out=[repo / "runs.db", repo / "runs.db-wal", repo / "store"])
    assert kept.state.verdict == "exact"
    changed = [line for line in kept.patch.read_text().splitlines() if line.startswith("diff ")]
    assert changed == ["diff --git a/params.yaml b/params.yaml"]


def test_two_captures_with_mlflows_files_in_the_tree_the_second_has_not_the_first(repo: Path, keep: Keep):
    (repo / "new.py").write_text("new = 1\n")
    first = keep(repo)
    artifacts = repo / "mlartifacts/e/r/artifacts/code"
    artifacts.mkdir(parents=True)
    (artifacts / "diff.patch").write_bytes(first.patch.read_bytes())
    (repo / "mlflow.db").write_bytes(b"SQLite format 3\0")
    assert keep(repo).patch.read_bytes() == first.patch.read_bytes()


def test_bounds_leave_out_by_name_and_hash(repo: Path, git: Git, keep: Keep):
    small = Limits(file_bytes=1000, total_bytes=2500, untracked=10)
    (repo / "large.bin").write_bytes(b"x" * 1001)
    for number in range(3):
        (repo / f"medium-{number}").write_bytes(b"%d" % number * 900)
    (repo / "pictures").mkdir()
    for number in range(11):
        (repo / f"pictures/{number}").write_text("small")
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo, limits=small)
    told = {one.path: one for one in kept.state.repositories[0].left_out}
    assert set(told) == {"large.bin", "medium-2", "pictures/"}
    assert told["large.bin"].sha256 == hashlib.sha256(b"x" * 1001).hexdigest()
    assert (told["pictures/"].files, told["pictures/"].why) == (11, "over 10 untracked files")
    assert kept.state.verdict.startswith("partial: ")
    assert f"large.bin (over 0.000953674 MiB, sha256 {told['large.bin'].sha256[:12]})" in kept.state.verdict
    assert "diff --git a/train.py b/train.py" in kept.patch.read_text()
    git("add", "large.bin")
    assert "large.bin" in keep(repo, limits=small).state.verdict  # staged is no way around
    assert "large.bin" not in keep(repo, limits=small).patch.read_text()


def test_a_filter_is_never_run(repo: Path, git: Git, keep: Keep):
    git("config", "filter.crypt.clean", "touch was-run; cat")
    git("config", "filter.lfs.clean", "touch was-run; cat")
    git("config", "filter.lfs.process", "touch was-run")
    (repo / ".gitattributes").write_text("*.secret filter=crypt\n*.bin filter=lfs\n")
    (repo / "a.secret").write_text("x\n")
    (repo / "b.bin").write_bytes(b"content\n")
    kept = keep(repo)
    assert not (repo / "was-run").exists()
    assert "a.secret (only the filter 'crypt' could tell what git keeps" in kept.state.verdict
    assert "b.bin (Git LFS: its pointer is kept, its content is not, sha256 434728a410a7" in kept.state.verdict
    assert "oid sha256:434728a410a7" in kept.patch.read_text()


def test_a_capture_that_is_late_says_so_and_leaves_nothing(repo: Path, keep: Keep):
    (repo / "new.py").write_text("new = 1\n")
    before = everything(repo)
    kept = keep(repo, limits=Limits(seconds=0.0001))
    assert kept.state.verdict.startswith("none: git ")
    assert everything(repo) == before


def test_hidden_files_are_seen(repo: Path, git: Git, keep: Keep):
    """assume-unchanged hides an edit from git itself."""
    git("update-index", "--assume-unchanged", "train.py")
    (repo / "train.py").write_text("print('hidden')\n")
    kept = keep(repo)
    assert "print('hidden')" in kept.patch.read_text()
    assert git("ls-files", "-v", "train.py") == "h train.py"


def test_a_worktree_and_leaked_variables(repo: Path, git: Git, keep: Keep, tmp_path: Path, monkeypatch):
    git("worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "side")
    (tmp_path / "tree/new.py").write_text("new = 1\n")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    kept = keep(tmp_path / "tree")
    assert (kept.state.verdict, kept.state.repositories[0].branch) == ("exact", "side")


def test_an_index_that_cannot_be_read(repo: Path, keep: Keep):
    (repo / "train.py").write_text("print(2)\n")
    (repo / ".git/index").write_bytes(b"DIRC rubbish")
    kept = keep(repo)
    assert kept.state.verdict == "exact"
    assert "+print(2)" in kept.patch.read_text()
    assert (repo / ".git/index").read_bytes() == b"DIRC rubbish"


def test_the_folder_of_a_capture_is_its_owners_alone(repo: Path, tmp_path: Path):
    capture([repo], tmp_path / "own", attempt=1, leave_out=[], limits=Limits())
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700


def test_a_secret_that_is_removed_does_not_leave_either(repo: Path, git: Git, keep: Keep):
    for name in ("gone.py", "cleaned.py"):
        (repo / name).write_text(f"KEY = '{TOKEN}'\nrest = 1\n")
    git("add", ".")
    git("commit", "-m", "an accident")
    (repo / "gone.py").unlink()
    (repo / "cleaned.py").write_text("rest = 1\n")
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    assert [one.path for one in kept.state.repositories[0].withheld] == ["cleaned.py", "gone.py"]
    assert TOKEN not in kept.patch.read_text()
    assert "+print(2)" in kept.patch.read_text()


def test_code_that_quotes_a_binary_patch_is_text(repo: Path, keep: Keep):
    (repo / "train.py").write_text(f'HEAD = """\nGIT binary patch\n"""\nKEY = "{TOKEN}"\n')
    (repo / "quote.py").write_text('HEAD = """\nGIT binary patch\n"""\nrest = 1\n')
    kept = keep(repo)
    assert kept.state.verdict == "exact here, redacted elsewhere: train.py (GitHub token, line 4)"
    assert "+rest = 1" in (kept.uploaded / "diff.patch.txt").read_text()


def test_tracked_code_beside_what_runs_write_is_code(repo: Path, git: Git, keep: Keep):
    """In a folder where Hydra has written, and in the store's: what git tracks there, somebody means."""
    for folder in ("exp", "results"):
        (repo / folder).mkdir()
        (repo / folder / "code.py").write_text("code = 1\n")
    git("add", ".")
    git("commit", "-m", "code")
    (repo / "exp/.hydra").mkdir()
    (repo / "exp/.hydra/config.yaml").write_text("a: 1\n")
    (repo / "exp/code.py").write_text("code = 2\n")
    (repo / "exp/helper.py").write_text("helper = 1\n")
    (repo / "results/code.py").write_text("code = 3\n")
    (repo / "results/artifact.bin").write_text("of a run\n")
    kept = keep(repo, leave_out=[repo / "results"])
    patch = kept.patch.read_text()
    changed = {line.rpartition(" b/")[2] for line in patch.splitlines() if line.startswith("diff ")}
    assert changed == {"exp/code.py", "exp/helper.py", "results/code.py"}


def test_part_of_a_private_key_is_withheld(repo: Path, git: Git, keep: Keep):
    """Where neither its begin nor its end is near the change."""
    lines = ["-----BEGIN RSA PRIVATE KEY-----", *(f"MIIEpAIBAAKCAQEA{number:048d}" for number in range(40))]
    (repo / "pasted.txt").write_text("\n".join([*lines, "-----END RSA PRIVATE KEY-----", ""]))
    git("add", ".")
    git("commit", "-m", "oh")
    lines[20] = lines[20].replace("MIIEp", "MIIEq")
    (repo / "pasted.txt").write_text("\n".join([*lines, "-----END RSA PRIVATE KEY-----", ""]))
    kept = keep(repo)
    assert kept.state.verdict == "exact here, redacted elsewhere: pasted.txt (private key, line 1)"
    assert not kept.patch.exists()


def test_a_branch_that_is_no_utf_8_is_shown(repo: Path, git: Git, keep: Keep):
    git("checkout", "--quiet", "-b", os.fsdecode(b"caf\xe9"))
    (repo / "train.py").write_text("print(2)\n")
    kept = keep(repo)
    assert (kept.state.verdict, kept.state.repositories[0].branch) == ("exact", "caf\\xe9")
