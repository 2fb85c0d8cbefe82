"""The code of a run: captured when it opens, proved, sent with it, and kept from everything that is no code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from context.conftest import Git
from mlflow import MlflowClient

import mlflow_dovetail as dt
from mlflow_dovetail import git_patch
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.run import captures, code_state
from mlflow_dovetail.run.command import run_command
from mlflow_dovetail.run.sync import sync_folders
from mlflow_dovetail.run_folder import RunFolder

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def project(repo: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed repository, the working directory."""
    monkeypatch.chdir(repo)
    monkeypatch.delenv("DOVETAIL_DIR")
    return repo


@pytest.fixture
def read(client: MlflowClient, tmp_path: Path) -> Callable[[str, str], str]:
    """An artifact's text."""

    def run(run_id: str, path: str) -> str:
        target = tmp_path / "downloaded" / run_id
        target.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(target))).read_text()

    return run


Read = Callable[[str, str], str]


def verdict_of(client: MlflowClient, run: dt.Run) -> str:
    return client.get_run(run.run_id).data.tags["dovetail.code.verdict"]


def artifacts(client: MlflowClient, run: dt.Run, folder: str = "code") -> set[str]:
    return {one.path for one in client.list_artifacts(run.run_id, folder)}


def test_a_run_has_the_code_as_it_was_when_it_opened(project: Path, client: MlflowClient, read: Read, git: Git):
    (project / "train.py").write_text("print(2)\n")
    (project / "new.py").write_text("new = 1\n")
    with dt.start_run() as run:
        (project / "train.py").write_text("print(3)\n")
        (project / "later.py").write_text("later = 1\n")
    tags = client.get_run(run.run_id).data.tags
    assert tags["dovetail.code.verdict"] == "exact"
    assert tags["dovetail.git.commit"] == git("rev-parse", "HEAD")
    patch = read(run.run_id, "code/diff.patch")
    assert "+print(2)" in patch and "new = 1" in patch
    assert "print(3)" not in patch and "later" not in patch
    assert read(run.run_id, "code/diff.patch.txt") == patch
    state = json.loads(read(run.run_id, "code/state.json"))
    assert state["repositories"][0]["tree"] == tags["dovetail.code.tree"]
    assert tags["dovetail.code.digest"] == f"sha256:{state['repositories'][0]['patch']['sha256']}"


def test_two_runs_in_a_plain_repository_the_second_has_not_the_first(
    project: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    trees = []
    for _ in range(2):
        with dt.start_run() as run:
            run.log_text("an artifact", "note.txt")
        here = MlflowClient(run.tracking_uri)
        assert verdict_of(here, run) == "exact"
        assert artifacts(here, run) == {"code/state.json"}, "MLflow's and Dovetail's files are in the patch"
        trees.append(here.get_run(run.run_id).data.tags["dovetail.code.tree"])
    assert (project / "mlflow.db").exists() and (project / ".dovetail").exists()
    assert len(set(trees)) == 1


def test_an_artifact_root_inside_the_repository_is_no_code(project: Path, client: MlflowClient, monkeypatch, tmp_path):
    here = MlflowClient(f"sqlite:///{tmp_path}/other.db")
    here.create_experiment("placed", artifact_location=f"file://{project}/kept/placed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    for _ in range(2):
        with dt.start_run(experiment_name="placed") as run:
            run.log_text("an artifact", "note.txt")
        assert artifacts(here, run) == {"code/state.json"}


def test_outside_a_repository_what_ran_is_kept(client: MlflowClient, read: Read, tmp_path: Path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "fit.py").write_text("print('fitted')\n")
    monkeypatch.chdir(outside)
    done = run_command([sys.executable, "-u", "fit.py", "--lr", "1"])
    tags = client.get_run(done.run_id).data.tags
    assert tags["dovetail.code.verdict"] == (
        "none: the working directory is in no git repository; what ran is kept: code/fit.py"
    )
    assert read(done.run_id, "code/fit.py") == "print('fitted')\n"


def test_a_command_has_its_code_once_also_when_it_logs_itself(client: MlflowClient, project: Path):
    script = "import mlflow_dovetail as dt\nwith dt.start_run() as run:\n    run.log_metrics({'a': 1.0}, 0)\n"
    (project / "train.py").write_text(script)
    done = run_command([sys.executable, "train.py"])
    assert (done.status, done.exit_code) == ("FINISHED", 0)
    run = client.get_run(done.run_id)
    assert (run.data.metrics["a"], run.data.tags["dovetail.code.verdict"]) == (1.0, "exact")
    assert [path.name for path in (done.folder / "code").glob("0*")] == ["0001"]


def test_a_resumed_run_has_the_code_of_each_attempt(client: MlflowClient, read: Read, project: Path):
    with dt.start_run() as run:
        pass
    (project / "train.py").write_text("print('mended')\n")
    with dt.start_run(run.run_id):
        pass
    assert artifacts(client, run) == {"code/state.json", "code/attempt_2"}
    assert "mended" in read(run.run_id, "code/attempt_2/diff.patch")
    assert client.get_run(run.run_id).data.tags["dovetail.code.digest"]
    state = json.loads(read(run.run_id, "code/attempt_2/state.json"))
    assert (state["attempt"], state["repositories"][0]["patch"]["path"]) == (2, "code/attempt_2/diff.patch")


def test_who_adds_to_a_run_does_not_capture_its_code_again(client: MlflowClient, read: Read, project: Path):
    with dt.start_run() as run:
        pass
    (project / "train.py").write_text("print('evaluated later')\n")
    dt.track(run.run_id).close()
    assert artifacts(client, run) == {"code/state.json"}


def test_offline_the_code_is_ready_when_the_run_is_over(client, project: Path, uri: str, monkeypatch, git: Git):
    monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    (project / "train.py").write_text("print('offline')\n")
    with dt.start_run() as run:
        pass
    git("checkout", "--", "train.py")  # as a temporary workspace that is deleted
    monkeypatch.delenv("DOVETAIL_OFFLINE")
    (sent,) = sync_folders([run.folder], uri)
    assert client.get_run(sent.run_id).data.tags["dovetail.code.verdict"] == "exact"


def test_it_can_be_switched_off(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOVETAIL_CODE_SECONDS", "0")
    with dt.start_run() as run:
        pass
    assert verdict_of(client, run) == "none: capturing code is switched off"


def test_a_capture_that_takes_long_does_not_hold_the_training_up(client: MlflowClient, monkeypatch):
    go_on = threading.Event()
    capture = git_patch.capture

    def slow(*arguments, **options):
        go_on.wait(30)
        return capture(*arguments, **options)

    monkeypatch.setattr(git_patch, "capture", slow)
    began = time.monotonic()
    run = dt.start_run()
    assert time.monotonic() - began < captures.START_SECONDS + 3
    go_on.set()
    run.close()
    assert verdict_of(client, run) == "exact"


def test_a_capture_that_fails_is_told_and_stops_nothing(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    def fails(*arguments, **options):
        raise RuntimeError("no way")

    monkeypatch.setattr(git_patch, "capture", fails)
    with dt.start_run() as run:
        run.log_metrics({"loss": 1.0}, 0)
    read = client.get_run(run.run_id)
    assert read.data.metrics == {"loss": 1.0}
    assert read.data.tags["dovetail.code.verdict"] == "none: RuntimeError: no way"
    assert "the code could not be captured" in read.data.tags["dovetail.status.journal"]


def test_a_process_that_dies_while_its_code_is_captured(client: MlflowClient, project: Path, uri: str):
    script = """
import os, signal, threading
from mlflow_dovetail import git_patch
git_patch.capture = lambda *a, **o: os.kill(os.getpid(), signal.SIGKILL)
import mlflow_dovetail as dt
dt.start_run(run_name="dies").close()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=project, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    folders = RunFolder.all_under(project)
    (sent,) = sync_folders([folder.path for folder in folders], uri)
    tags = client.get_run(sent.run_id).data.tags
    assert tags["dovetail.code.verdict"] == "none: the process ended while its code was captured"


def test_who_finishes_is_killed_and_another_goes_on(client: MlflowClient, project: Path, uri: str, monkeypatch):
    """At each step between the patches and the mark that all is done."""
    (project / "train.py").write_text("print('killed')\n")
    for step in ("_finish", "say", "tidy"):
        monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
        script = f"""
import os, signal
from mlflow_dovetail import git_patch
from mlflow_dovetail.run import code_state, delivery
from mlflow_dovetail.run_folder import RunFolder
delivery.can_spawn = lambda: False
die = lambda *a, **o: os.kill(os.getpid(), signal.SIGKILL)
places = {{"_finish": (git_patch.finishing, "write_whole"), "say": (RunFolder, "say"), "tidy": (git_patch, "tidy")}}
setattr(*places[{step!r}], die)
import mlflow_dovetail as dt
dt.start_run(run_name={step!r}).close()
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=project, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        monkeypatch.delenv("DOVETAIL_OFFLINE")
        folder = next(one for one in RunFolder.all_under(project) if one.describe().name == step)
        (sent,) = sync_folders([folder.path], uri)
        run = client.get_run(sent.run_id)
        assert run.data.tags["dovetail.code.verdict"] == "exact", step
        paths = {one.path for one in client.list_artifacts(sent.run_id, "code")}
        assert paths == {"code/state.json", "code/diff.patch", "code/diff.patch.txt"}


def test_a_secret_in_each_channel_reaches_no_store_no_upload_and_no_log(
    client: MlflowClient, project: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: Git
):
    """Patch, untracked file, file name, command line, config, param, tag, environment, console, traceback, remote."""
    planted = {
        channel: "ghp_" + f"{number:02d}Zy" * 9
        for number, channel in enumerate(
            ("patch", "untracked", "staged", "removed", "script", "argument", "config", "tag", "environment", "console",
             "traceback", "remote", "env_file", "hunk_header", "file_name")
        )
    }  # fmt: skip
    (project / "settings.py").write_text(f'TOKEN = "{planted["removed"]}"\n')
    (project / "staged.py").write_text("x = 1\n")
    # The line that git shows beside a change far below it.
    (project / "long.py").write_text(f'API_KEY = "{planted["hunk_header"]}"\n' + "    x = 27\n" * 30)
    git("add", ".")
    git("commit", "-m", "before")
    git("remote", "add", "origin", f"https://me:{planted['remote']}@example.invalid/repo.git")
    (project / "settings.py").write_text("TOKEN = None\n")
    (project / "staged.py").write_text(f'x = "{planted["staged"]}"\n')
    git("add", "staged.py")
    (project / "staged.py").write_text("x = 2\n")
    (project / "notes.md").write_text(f"my key is {planted['untracked']}\n")
    (project / ".env").write_text(f"KEY={planted['env_file']}\n")
    (project / "clean.py").write_text("clean = True\n")
    (project / "long.py").write_text((project / "long.py").read_text() + "    x = 28\n")
    (project / f"notes-{planted['file_name']}.txt").write_text("a name\n")
    (project / "train.py").write_text(f"""
import os, sys
import mlflow_dovetail as dt
KEY = "{planted["script"]}"  # {planted["patch"]}
with dt.start_run(run_name="secrets") as run:
    print("logging in with", "{planted["console"]}", flush=True)
    run.log_config({{"api": {{"token": "{planted["config"]}"}}}})
    run.set_tag("note", "used {planted["tag"]}")
    raise ValueError("refused: {planted["traceback"]}")
""")
    done = subprocess.run(
        [sys.executable, "train.py", "--token", planted["argument"]],
        cwd=project,
        env={**os.environ, "GITHUB_TOKEN": planted["environment"]},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert b"ValueError" in done.stderr
    folder = next(one for one in RunFolder.all_under(project) if one.describe().name == "secrets")
    deadline = time.monotonic() + 30
    while (
        not (sent := list(sync_folders([folder.path], uri)))[0].state.endswith("complete")
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    found = client.get_run(sent[0].run_id)
    verdict = found.data.tags["dovetail.code.verdict"]
    assert verdict.startswith("exact here, redacted elsewhere: ")
    for name in (".env", "notes.md", "settings.py", "train.py"):
        assert name in verdict
    (tmp_path / "uploaded").mkdir()
    uploaded = Path(client.download_artifacts(found.info.run_id, "", str(tmp_path / "uploaded")))
    assert b"clean = True" in (uploaded / "code/diff.patch").read_bytes()
    database = Path(uri.removeprefix("sqlite:///")).read_bytes()
    places = {"the database": database}
    places |= {str(path): path.read_bytes() for path in uploaded.rglob("*") if path.is_file()}
    upload_area = [
        folder.captured,
        folder.artifacts,
        folder.sent,
        folder.said_tags,
        folder.recorder_log,
        folder.console,
    ]
    for area in upload_area:
        places |= {str(path): path.read_bytes() for path in [area, *area.rglob("*")] if path.is_file()}
    places["run.json"] = (folder.path / "run.json").read_bytes()
    leaks = [
        (channel, place)
        for channel, secret in planted.items()
        for place, content in places.items()
        if secret.encode() in content
    ]
    kept_here = {(channel, str(folder.console)) for channel in ("console", "traceback")}
    assert [leak for leak in leaks if leak not in kept_here] == []
    whole = (folder.code / "0001/0/diff.patch").read_text()
    assert planted["patch"] in whole and planted["untracked"] in whole
    assert (folder.code.stat().st_mode & 0o777, (folder.code / "0001/0/diff.patch").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_a_run_of_long_ago_does_not_get_the_code_of_today(client: MlflowClient, project: Path, experiment: str):
    foreign = client.create_run(client.create_experiment(f"{experiment} foreign"))
    client.set_terminated(foreign.info.run_id)
    (project / "evaluate.py").write_text("print('a month later')\n")
    with dt.track(foreign.info.run_id) as run:
        run.log_metrics({"test/acc": 0.9}, 0)
    read = client.get_run(foreign.info.run_id)
    assert read.data.metrics == {"test/acc": 0.9}
    assert not [tag for tag in read.data.tags if tag.startswith(("dovetail.code", "dovetail.git"))]
    assert client.list_artifacts(foreign.info.run_id, "code") == []


def test_a_repository_that_is_away_for_a_moment_costs_nothing(
    client: MlflowClient, project: Path, uri: str, monkeypatch
):
    monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    (project / "train.py").write_text("print('kept')\n")
    run = dt.start_run()
    folder = RunFolder.open(run.folder)
    run._captures.wait(time.monotonic() + 10)
    away = project.with_name("away")
    project.rename(away)
    try:
        here = RunFolder(away / run.folder.relative_to(project))
        code_state.finish_code(here, is_over=False)
        assert here.said()["dovetail.code.verdict"].startswith("none: ")
    finally:
        away.rename(project)
    code_state.finish_code(folder, is_over=False)
    assert folder.said()["dovetail.code.verdict"] == "exact"
    run.close()


def test_what_cannot_be_finished_is_not_tried_all_the_time(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    tries = []

    def full(*arguments: object, **options: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(git_patch, "finish", full)
    run = dt.start_run()
    run._captures.wait(time.monotonic() + 10)
    told: list[Exception] = []
    finisher = code_state.CodeFinisher(RunFolder.open(run.folder), told.append)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        finisher.is_busy(is_over=False)
        time.sleep(0.05)
    assert 2 <= len(tries) <= 4 and len(told) == len(tries)
    while finisher.is_busy(is_over=True):
        time.sleep(0.01)
    assert len(tries) <= 8
    run.close()


def test_a_wrong_setting_is_told_before_there_is_a_run(client: MlflowClient, experiment: str, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CODE_SECONDS", "abc")
    with pytest.raises(DovetailError, match="DOVETAIL_CODE_SECONDS"):
        dt.start_run()
    assert client.get_experiment_by_name(experiment) is None
    assert not list(Path(".dovetail/runs").glob("*")) if Path(".dovetail").exists() else True


def test_a_command_with_a_word_that_is_no_path(client: MlflowClient):
    done = run_command(["sh", "-c", f"true {'x' * 5000}"])
    assert (done.status, done.exit_code) == ("FINISHED", 0)


def test_a_signal_while_the_start_waits_for_a_slow_git_ends_the_run(
    client: MlflowClient, project: Path, tmp_path: Path, experiment: str
):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text(f'#!/bin/sh\nsleep 2\nexec {shutil.which("git")} "$@"\n')
    (slow / "git").chmod(0o755)
    script = "import time, mlflow_dovetail as dt\nwith dt.start_run():\n    time.sleep(60)\n"
    environment = {**os.environ, "PATH": f"{slow}:{os.environ['PATH']}"}
    experiment_id = client.create_experiment(experiment)
    process = subprocess.Popen([sys.executable, "-c", script], cwd=project, env=environment)
    deadline = time.monotonic() + 60
    while not (found := client.search_runs([experiment_id])):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    while (status := client.get_run(found[0].info.run_id).info.status) == "RUNNING":
        assert time.monotonic() < deadline + 60
        time.sleep(0.2)
    assert status == "KILLED"
