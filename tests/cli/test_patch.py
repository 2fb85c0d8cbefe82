"""`dovetail patch` and `dovetail restore`, on the code of real runs, here and on another machine."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from store.conftest import server  # noqa: F401 - fixture

from mlflow_dovetail import store
from mlflow_dovetail.cli import main, tell
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.run_folder import RunFolder

TOKEN = "ghp_" + "a1B2" * 9
NOT_INHERITED = ("MLFLOW_", "DOVETAIL_", "DVC_", "GIT_")
PROGRAM = """
import mlflow_dovetail as dt
with dt.start_run(run_name="{name}") as run:
    run.log_metrics({{"loss": 0.1}}, step=1)
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Project:
    """A repository in which two runs were trained, one of them with a secret in the tree."""

    root: Path
    remote: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        return {**kept, "HOME": str(self.home), "MLFLOW_DISABLE_TELEMETRY": "true", "COLUMNS": "100"}

    def call(self, *words: str, cwd: Path | None = None, **options) -> subprocess.CompletedProcess[str]:
        environment = self.environment | options.pop("variables", {})
        return subprocess.run(
            words, cwd=cwd or self.root, env=environment, capture_output=True, text=True, timeout=100, **options
        )

    def git(self, *words: str, cwd: Path | None = None) -> str:
        return self.call("git", *words, cwd=cwd, check=True).stdout.strip()

    def dovetail(self, *words: str, cwd: Path | None = None) -> Done:
        """The command in this process, which has loaded mlflow already."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, self.environment, clear=True))
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            stack.callback(os.chdir, Path.cwd())
            os.chdir(cwd or self.root)
            code = main(words)
        out.flush()
        return Done(code, out.buffer.getvalue().decode(), err.getvalue())

    def train(self, name: str, **variables: str) -> None:
        (self.root / "train.py").write_text(PROGRAM.format(name=name))
        self.call(sys.executable, "train.py", variables=variables, check=True)

    def clean(self) -> None:
        self.git("reset", "--quiet", "--hard")
        self.git("clean", "--quiet", "-fd")  # what is ignored stays, as .dovetail and the database


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    base = tmp_path_factory.mktemp("project")
    found = Project(base / "repo", base / "remote.git", base / "home")
    for folder in (found.root, found.home):
        folder.mkdir()
    identity = "[user]\n\tname = Ada\n\temail = ada@example.invalid\n[init]\n\tdefaultBranch = main\n"
    (found.home / ".gitconfig").write_text(identity)
    (found.root / ".gitignore").write_text("mlflow.db*\nmlartifacts/\n")
    (found.root / "train.py").write_text("print(1)\n")
    found.git("init", "--quiet")
    found.git("add", ".")
    found.git("commit", "--quiet", "-m", "first")
    found.git("init", "--quiet", "--bare", str(found.remote))
    found.git("remote", "add", "origin", str(found.remote))
    found.git("push", "--quiet", "origin", "main")
    (found.root / "local.py").write_text("local = 1\n")
    found.git("add", ".")
    found.git("commit", "--quiet", "-m", "not pushed")
    (found.root / "new.py").write_text("new = 1\n")
    (found.root / "odd\033]0;title\a.py").write_text("\033[31mred\n")
    found.train("plain")
    (found.root / "keys.py").write_text(f'KEY = "{TOKEN}"\n')
    found.train("secret")
    found.clean()
    return found


def tree_of(folder: Path, project: Project) -> str:
    project.git("add", "--all", ".", cwd=folder)
    return project.git("write-tree", cwd=folder)


def tags_of(project: Project, name: str) -> dict[str, str]:
    with store.open(f"sqlite:///{project.root}/mlflow.db") as opened:
        return dict(opened.find_run(name).tags)


def test_show_prints_a_patch_that_git_applies(project: Project, tmp_path: Path):
    done = project.dovetail("patch", "show", "plain")
    assert done.returncode == 0
    assert done.stderr == "dovetail: exact\n"
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "by hand"))
    project.call("git", "apply", "--index", cwd=tmp_path / "by hand", input=done.stdout, check=True)
    assert project.git("write-tree", cwd=tmp_path / "by hand") == tags_of(project, "plain")["dovetail.code.tree"]


def test_show_counts_and_names_what_stays_here(project: Project):
    done = project.dovetail("patch", "show", "secret", "--stat")
    assert "new.py" in done.stdout and "3 files changed" in done.stdout
    assert "keys.py (GitHub token, line 1)" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    told = json.loads(project.dovetail("patch", "show", "secret", "--json").stdout)
    assert told["verdict"].startswith("exact here, redacted elsewhere: keys.py")
    assert "new = 1" in told["patches"][""] and TOKEN not in json.dumps(told)
    assert [one["path"] for one in told["repositories"][0]["withheld"]] == ["keys.py"]


def test_on_a_terminal_it_is_coloured_paged_and_harmless(project: Project):
    def read(**variables: str) -> bytes:
        outer, inner = pty.openpty()
        command = [sys.executable, "-m", "mlflow_dovetail", "patch", "show", "plain"]
        subprocess.run(
            command,
            cwd=project.root,
            env=project.environment | variables,
            stdout=inner,
            stderr=-1,
            timeout=60,
            check=True,
        )
        os.close(inner)
        content = b""
        while True:
            try:
                content += os.read(outer, 1 << 16)
            except OSError:
                os.close(outer)
                return content

    coloured = read(PAGER="sed s/^/paged:/")
    assert coloured.startswith(b"paged:")
    assert b"\033[32m+new = 1\033[0m" in coloured and b"\033[1mdiff --git a/new.py b/new.py\033[0m" in coloured
    assert b"\033[31mred" not in coloured and b"\\x1b[31mred" in coloured and b"\033]0;" not in coloured
    plain = read(PAGER="no-such-pager", NO_COLOR="1")
    assert b"+new = 1" in plain and b"\033" not in plain


def test_verify_proves_it_here_and_touches_nothing(project: Project):
    before = {
        path: path.read_bytes() for path in project.root.rglob("*") if path.is_file() and ".dovetail" not in str(path)
    }
    done = project.dovetail("patch", "verify", "secret")
    tags = tags_of(project, "secret")
    commit = project.git("rev-parse", "HEAD")
    assert done.stdout == f"{commit[:12]} + patch gives the exact tree {tags['dovetail.code.tree']}\n"
    told = json.loads(project.dovetail("patch", "verify", "secret", "--json").stdout)
    assert told["repositories"] == [
        {"path": "", "commit": commit, "tree": tags["dovetail.code.tree"], "is_exact": True}
    ]
    after = {path for path in project.root.rglob("*") if path.is_file() and ".dovetail" not in str(path)}
    assert {path: path.read_bytes() for path in after} == before


def test_apply_brings_the_changes_into_this_work_tree(project: Project):
    try:
        done = project.dovetail("patch", "apply", "secret")
        assert (done.returncode, tree_of(project.root, project)) == (
            0,
            tags_of(project, "secret")["dovetail.code.tree"],
        )
        again = project.dovetail("patch", "apply", "secret")
        assert again.returncode == 1
        assert "does not apply to this work tree" in again.stderr and "dovetail restore RUN DIR" in again.stderr
    finally:
        project.clean()


def test_restore_makes_the_exact_tree_in_a_folder(project: Project, tmp_path: Path):
    done = project.dovetail("restore", "secret", str(tmp_path / "again"))
    tree = tags_of(project, "secret")["dovetail.code.tree"]
    assert (done.returncode, done.stderr) == (0, "")
    assert f"in {tmp_path / 'again'} is the exact tree {tree}" in done.stdout
    assert tree_of(tmp_path / "again", project) == tree
    assert TOKEN in (tmp_path / "again/keys.py").read_text()
    refused = project.dovetail("restore", "secret", str(tmp_path / "again"))
    assert (refused.returncode, refused.stdout) == (1, "") and "It is not empty" in refused.stderr
    told = json.loads(project.dovetail("restore", "plain", str(tmp_path / "plain"), "--json").stdout)
    assert told["repositories"][0]["is_exact"] and told["verdict"] == "exact"


def test_another_machine_with_the_repository_and_the_server_alone(project: Project, server: str, tmp_path: Path):  # noqa: F811
    (project.root / "new.py").write_text("new = 2\n")
    (project.root / "keys.py").write_text(f'KEY = "{TOKEN}"\n')
    project.train("sent", MLFLOW_TRACKING_URI=server)
    project.clean()
    with store.open(server) as opened:
        run = opened.find_run("sent")
    project.git("clone", "--quiet", str(project.remote), str(tmp_path / "machine"))  # without the unpushed commit
    words = ("restore", run.run_id[:12], "../again", "--tracking-uri", server)
    done = project.dovetail(*words, cwd=tmp_path / "machine")
    assert done.returncode == 0, done.stderr
    assert "the tree without what stays on the run's machine" in done.stdout
    assert "keys.py stays on its machine: GitHub token, line 1" in done.stderr
    again = tmp_path / "again"
    assert (again / "new.py").read_text() == "new = 2\n" and (again / "local.py").exists()
    assert not (again / "keys.py").exists()
    (again / "keys.py").write_text(f'KEY = "{TOKEN}"\n')
    assert tree_of(again, project) == run.tags["dovetail.code.tree"]


def test_a_run_that_no_store_has_is_restored_by_its_token(project: Project, tmp_path: Path):
    (project.root / "new.py").write_text("new = 3\n")
    project.train("offline", DOVETAIL_OFFLINE="1")
    project.clean()
    done = project.dovetail("restore", "offline", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again/new.py").read_text() == "new = 3\n"
    folders = RunFolder.all_under(project.root)
    (token,) = [folder.token for folder in folders if folder.describe().name == "offline"]
    assert project.dovetail("patch", "verify", token[:10]).returncode == 0


def test_a_patch_that_was_changed_on_the_server_is_refused(project: Project, tmp_path: Path):
    shutil.copytree(project.root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/.dovetail")
    database = tmp_path / "copy/mlflow.db"
    with store.open(f"sqlite:///{project.root}/mlflow.db") as opened:
        run = opened.find_run("plain")
        artifact = opened.read_artifact(run.run_id, "code/diff.patch", tmp_path / "download")
        content = artifact.read_text()
        try:
            artifact.write_text(content.replace("new = 1", "new = 9"))
            opened.log_artifact(run.run_id, artifact, "code")
            uri = f"sqlite:///{database}"
            for words in (("patch", "verify", "plain"), ("restore", "plain", str(tmp_path / "again"))):
                done = project.dovetail(*words, "--tracking-uri", uri, cwd=tmp_path / "copy")
                assert (done.returncode, done.stdout) == (1, "")
                assert "has not the SHA-256 that code/state.json says" in done.stderr
        finally:
            artifact.write_text(content)
            opened.log_artifact(run.run_id, artifact, "code")
    assert not (tmp_path / "again").exists()


def test_a_run_without_code_says_so(project: Project, tmp_path: Path):
    with store.open(f"sqlite:///{project.root}/mlflow.db", "Default") as opened:
        opened.create_run("ef" * 16, name="foreign")
    done = project.dovetail("patch", "show", "foreign")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no code/state.json" in done.stderr and "dovetail show" in done.stderr
    project.train("off", DOVETAIL_CODE_SECONDS="0")
    project.clean()
    done = project.dovetail("restore", "off", str(tmp_path / "again"))
    assert "Its verdict is 'none: capturing code is switched off'" in done.stderr
    assert project.dovetail("patch", "show", "nothing-like-this").returncode == 1
    assert project.dovetail("patch", "explode", "off").returncode == 2


def test_the_run_page_has_the_verdict(project: Project):
    page = project.dovetail("show", "secret").stdout
    assert "verdict  exact here, redacted elsewhere: keys.py (GitHub token, line 1)" in page


def test_what_others_have_written_reaches_no_terminal_as_it_is(capsys: pytest.CaptureFixture[str]):
    tell(DovetailError("\033]0;title\a", "why\033[2J", "remedy\nin two lines"))
    told = capsys.readouterr().err
    assert "\033" not in told and "\a" not in told
    assert "\\x1b]0;title" in told and "in two lines" in told


def test_a_restore_that_is_stopped_leaves_nothing(project: Project, tmp_path: Path):
    slow = tmp_path / "slow"
    slow.mkdir()
    git = shutil.which("git")
    (slow / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *checkout-index*) touch {slow}/there; sleep 20;; esac\nexec {git} "$@"\n'
    )
    (slow / "git").chmod(0o755)
    before = project.git("worktree", "list")
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_dovetail", "restore", "plain", str(tmp_path / "again")],
            cwd=project.root,
            env={**project.environment, "PATH": f"{slow}:{os.environ['PATH']}"},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not (slow / "there").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == code
        assert not (tmp_path / "again").exists()
        assert project.git("worktree", "list") == before
        (slow / "there").unlink()


def test_stat_goes_with_show(project: Project):
    assert project.dovetail("patch", "verify", "plain", "--stat").returncode == 2
