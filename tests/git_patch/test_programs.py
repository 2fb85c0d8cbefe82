"""No program or server that a repository names is run or asked by a capture. It may be killed."""

from __future__ import annotations

import http.server
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from context.conftest import Git as GitByHand
from git_patch.conftest import CAPTURE, Kept, edit, everything, files

from mlflow_dovetail.repository import Git

Keep = Callable[..., Kept]
Restored = Callable[..., Path]


def trap(tmp_path: Path) -> Path:
    """A program that says that it was run."""
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\necho >>{tmp_path}/sprung\nexit 0\n")
    program.chmod(0o755)
    return program


HOOKS = ["applypatch-msg", "pre-commit", "post-commit", "post-checkout", "post-index-change", "fsmonitor-watchman",
         "reference-transaction", "post-rewrite", "pre-auto-gc", "post-merge", "pre-applypatch"]  # fmt: skip
# What makes git run a program: a setting (none: hooks), attributes, and a call that does it by hand.
PROGRAMS = {
    "hooks": ("", "", ["commit", "--all", "-m", "x"]),
    "fsmonitor": ("core.fsmonitor", "", ["status"]),
    "external diff": ("diff.external", "", ["diff"]),
    "diff driver": ("diff.own.command", "*.py diff=own", ["diff"]),
    "textconv": ("diff.own.textconv", "*.py diff=own", ["diff"]),
    "clean": ("filter.own.clean", "*.py filter=own", ["add", "train.py"]),
    "smudge": ("filter.own.smudge", "*.py filter=own", ["checkout", "train.py"]),
    "process": ("filter.own.process", "*.py filter=own", ["add", "train.py"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_of_the_repository_is_run(repo: Path, git: GitByHand, keep: Keep, tmp_path: Path, name: str):
    setting, attributes, spring = PROGRAMS[name]
    program = trap(tmp_path)
    (repo / ".gitattributes").write_text(f"{attributes}\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "attributes")
    if setting:
        git("config", setting, str(program))
    else:
        for hook in HOOKS:
            shutil.copy(program, repo / ".git/hooks" / hook)
    edit(repo)
    before = everything(repo)
    kept = keep(repo)
    assert everything(repo) == before
    assert not (tmp_path / "sprung").exists()
    # Of a file with a filter nobody else knows what git would keep.
    names = ["train.py", "new.py"] if name in ("clean", "process") else []
    told = {one.path: one.why for one in kept.state.repositories[0].left_out}
    assert told == dict.fromkeys(names, "only the filter 'own' could tell what git keeps")
    assert kept.state.verdict.startswith("partial: " if names else "exact")
    subprocess.run(["git", *spring], check=False, capture_output=True)
    assert (tmp_path / "sprung").exists()


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server that wants a password, and who has asked it."""
    paths: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x.git", paths
        server.shutdown()
        thread.join()


def test_a_partial_clone_fetches_nothing_and_asks_for_no_password(
    repo: Path, git: GitByHand, keep: Keep, restored: Restored, tmp_path: Path, asked: tuple[str, list[str]]
):
    (repo / "away").mkdir()
    (repo / "away/b.py").write_text("b = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "folder")
    git("config", "uploadpack.allowFilter", "true")
    part = tmp_path / "part"
    git("clone", "--quiet", "--filter=blob:none", "--sparse", f"file://{repo}", str(part))
    url, paths = asked
    git("remote", "set-url", "origin", url, cwd=part)
    git("config", "credential.helper", str(trap(tmp_path)), cwd=part)
    missing = git("rev-list", "--objects", "--missing=print", "HEAD", cwd=part)
    assert missing.count("?") == 1
    edit(part)
    before = everything(part)
    kept = keep(part)
    assert (everything(part), kept.state.verdict) == (before, "exact")
    code = kept.state.repositories[0]
    assert code.remote == url
    away = {b"away/b.py": (0o100000, b"b = 1\n")}
    assert files(restored(repo, code.commit, kept.patch)) == files(part) | away
    (part / "away").mkdir()
    (part / "away/b.py").write_text("b = 2\n")  # what it was before, nobody here knows
    assert keep(part).state.verdict == (
        "partial: away/b.py (git does not have what it was before: a partial clone, sha256 17dd98c94951)"
    )
    name = missing.partition("?")[2][:40]
    lazy, fetch = Git(part, deadline=time.monotonic() + 9).ask(("cat-file", "blob", name), ("fetch",))
    assert name in lazy.cause  # not the warning that stands before it
    assert fetch.cause == "transport 'http' not allowed"
    assert paths == []
    assert not (tmp_path / "sprung").exists()
    subprocess.run(["git", "fetch"], cwd=part, check=False, capture_output=True)
    assert paths
    assert (tmp_path / "sprung").exists()


def test_a_capture_that_is_killed_leaves_the_repository_as_it_was(repo: Path, git: GitByHand, tmp_path: Path):
    for number in range(300):
        (repo / f"{number}.py").write_text(f"{number}\n" * 50)
    git("add", ".")
    git("commit", "--quiet", "-m", "many")
    for number in range(300):
        (repo / f"{number}.py").write_text(f"edited {number}\n" * 50)
    before = everything(repo)
    seconds = killed_after(repo, tmp_path / "whole", 60.0)
    assert everything(repo) == before
    reached = set()
    for moment in range(10):
        into = tmp_path / f"killed-{moment}"
        took = killed_after(repo, into, seconds * moment / 10)
        assert everything(repo) == before
        if (into / "captured.json").exists():  # done before: the first one was slow
            seconds = took
        reached.add((into.exists(), (into / "0/index").exists(), (into / "captured.json").exists()))
    assert (True, True, False) in reached  # it was in the middle of it


def killed_after(repo: Path, into: Path, seconds: float) -> float:
    """How long a capture took, or how long until it was killed; git's processes are over then too."""
    command = [sys.executable, "-c", CAPTURE, str(repo), str(into)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        took = time.monotonic() - began
    while any(is_in(process, repo) for process in Path("/proc").glob("[0-9]*")):
        time.sleep(0.01)
    return took


def is_in(process: Path, folder: Path) -> bool:
    try:
        return process.joinpath("comm").read_text() == "git\n" and process.joinpath("cwd").readlink() == folder
    except OSError:
        return False
