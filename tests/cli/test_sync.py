"""`dovetail sync`: run folders of real journals to real sqlite stores, from processes that end, die or go on."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from mlflow_dovetail import store
from mlflow_dovetail.errors import RunFolderInvalid, StoreUnavailable
from mlflow_dovetail.journal import JournalWriter
from mlflow_dovetail.run.sync import find_folders, sync_folder, sync_folders
from mlflow_dovetail.run_folder import Description, RunFolder

AMBIENT = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DOVETAIL_DIR", "DOVETAIL_OFFLINE", "DOVETAIL_PARENT_RUN")
NOWHERE = "http://127.0.0.1:9"
LARGE = 3 << 19  # bytes: a copy of that size is given back when its store has it
# What a trainer leaves behind, without its recorder; `how` is what happens after the last step.
WRITER = """
import os, sys, time
from pathlib import Path
from mlflow_dovetail.journal import JournalWriter, clock_ms, entries, staging
from mlflow_dovetail.run_folder import Description, RunFolder
root, uri, token, how, steps, metrics, size = sys.argv[1:]
about = Description(1, token, uri, time.time_ns() // 1_000_000, experiment="sync", name=f"run {how}")
folder = RunFolder.make(Path(root), about)
writer = JournalWriter(folder, "create", 1)
folder.console.write_bytes(b"epoch 1\\repoch 2\\n")
for step in range(int(steps)):
    writer.metrics({f"m{index}": step + index / 7 for index in range(int(metrics))}, step)
source = Path(root, f"{token}.bin")
source.write_bytes(token.encode() + b"x" * int(size))
for name, take in {"files/small.bin": staging.copy_in, "checkpoints/last.ckpt": staging.pin}.items():
    payload = f"0001-{name[:2]}"
    writer.append(entries.File(clock_ms(), name, payload, *take(folder, source, payload)))
if how == "stays":
    print("ready", flush=True)
    sys.stdin.read()
if how == "vanishes":
    os._exit(0)
writer.append(entries.End(clock_ms(), "FINISHED", ""))
writer.close()
"""


@pytest.fixture(autouse=True)
def no_ambient_store(monkeypatch, tmp_path):
    """What the person at the keyboard has set must not decide where tests write."""
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def uris(tmp_path_factory) -> list[str]:
    """Two stores with MLflow's schema, which takes a while to make: once. Tokens keep tests apart."""
    files = [tmp_path_factory.mktemp("store") / "runs.db" for _ in range(2)]
    store.open(f"sqlite:///{files[0]}", "another").close()
    shutil.copy(*files)
    return [f"sqlite:///{file}" for file in files]


def start_writer(
    root: Path, uri: str, how: str, steps: int = 10, metrics: int = 3, size: int = 10
) -> tuple[RunFolder, subprocess.Popen[str]]:
    token = uuid.uuid4().hex
    command = [sys.executable, "-c", WRITER, str(root), uri, token, how, str(steps), str(metrics), str(size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return RunFolder(root / ".dovetail" / "runs" / token), process


def write(root: Path, uri: str, how: str = "ends", **sizes: int) -> RunFolder:
    """A run folder whose writer is gone."""
    folder, process = start_writer(root, uri, how, **sizes)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mlflow_dovetail", "sync", *words]


def sync(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )


def read(uri: str, folder: RunFolder, into: Path) -> tuple[str, str, dict[str, list[float]], dict[str, bytes]]:
    """Status, cause, values in order, and files, as the store has them."""
    with store.open(uri) as opened:
        (run,) = opened.search("dovetail.token", folder.token)
        values = {key: [one.value for one in opened.metric_history(run.run_id, key)] for key in run.metrics}
        files = {
            one.path: opened.read_artifact(run.run_id, one.path, into).read_bytes()
            for one in opened.list_artifacts(run.run_id)
        }
    return run.status, run.tags.get("dovetail.end.cause", ""), values, files


def assert_whole(uri: str, folder: RunFolder, into: Path, steps: int = 10, size: int = 10) -> None:
    _, _, values, files = read(uri, folder, into)
    assert values == {f"m{index}": [step + index / 7 for step in range(steps)] for index in range(3)}
    content = folder.token.encode() + b"x" * size
    assert files == {"files/small.bin": content, "checkpoints/last.ckpt": content, "console.log": b"epoch 2\n"}


def test_all_is_sent_and_twice_changes_nothing(tmp_path, uris):
    folders = [write(tmp_path, uris[0]), write(tmp_path, uris[0], "vanishes")]
    first = sync(DOVETAIL_OFFLINE="1")
    assert (first.returncode, first.stdout) == (0, "2 sent\n")
    lines = first.stderr.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "run ends  FINISHED  30 values, 3 files",
        "run vanishes  FAILED  30 values, 3 files",
    ]
    for folder, ending in zip(folders, [("FINISHED", ""), ("FAILED", "vanished")], strict=True):
        assert_whole(uris[0], folder, tmp_path)
        assert read(uris[0], folder, tmp_path)[:2] == ending
    second = sync()
    assert (second.returncode, second.stdout, second.stderr) == (0, "nothing to send\n", "")
    told = json.loads(sync("--json").stdout)
    assert [(one["token"], one["status"], one["state"]) for one in told] == [
        (folders[0].token, "FINISHED", "already complete"),
        (folders[1].token, "FAILED", "already complete"),
    ]


def test_a_moved_folder_goes_to_another_store_with_what_its_own_has_taken_over(tmp_path, uris):
    folder = write(tmp_path / "old", uris[0], size=LARGE)
    assert sync_folder(folder.path).state == "complete"
    assert sum(path.stat().st_size for path in folder.artifacts.iterdir()) < LARGE
    moved = RunFolder(tmp_path / "new" / "anything")
    shutil.copytree(folder.path, moved.path)
    shutil.rmtree(tmp_path / "old")
    result = sync_folder(moved.path, uris[1])
    assert (result.state, result.values, result.files, result.store) == ("complete", 30, 3, uris[1])
    assert_whole(uris[1], folder, tmp_path, size=LARGE)
    assert sync_folder(moved.path, uris[1]).state == "already complete"


def put_back(backup: Path, database: Path) -> None:
    """As who puts back a backup."""
    database.unlink()
    shutil.copy(backup, database)


@pytest.fixture
def own(tmp_path, uris) -> Path:
    """A database of this test alone."""
    return Path(shutil.copy(uris[0].removeprefix("sqlite:///"), tmp_path / "own.db"))


def test_runs_that_an_older_database_has_not_are_sent_anew(tmp_path, own):
    backup, uri = shutil.copy(own, tmp_path / "backup.db"), f"sqlite:///{own}"
    folder = write(tmp_path, uri)
    first = sync_folder(folder.path)
    assert first.state == "complete" and sync_folder(folder.path).state == "already complete"
    put_back(backup, own)
    (told,) = sync_folders([folder.path])
    assert (told.state, told.values, told.files, told.status) == ("complete", 30, 3, "FINISHED")
    assert told.run_id != first.run_id
    assert_whole(uri, folder, tmp_path)
    assert sync_folder(folder.path).state == "already complete"
    own.unlink()  # and one that is made anew
    assert sync_folder(folder.path).state == "complete"
    assert_whole(uri, folder, tmp_path)


def test_a_database_of_the_time_when_the_run_went_on_is_given_the_rest(tmp_path, own):
    uri = f"sqlite:///{own}"
    folder, process = start_writer(tmp_path, uri, "stays", size=LARGE)
    with process:
        assert process.stdout.readline() == "ready\n"
        with store.open(uri, "sync") as opened:
            begun = opened.create_run(folder.token)
        backup = shutil.copy(own, tmp_path / "backup.db")
        process.stdin.close()
    assert sync_folder(folder.path).state == "complete"
    put_back(backup, own)
    told = sync_folder(folder.path)
    assert (told.state, told.run_id, told.values, told.status) == ("complete", begun.run_id, 30, "FINISHED")
    assert_whole(uri, folder, tmp_path, size=LARGE)
    assert sync_folder(folder.path).state == "already complete"


def test_a_run_that_mlflow_alone_has_resumed_is_not_made_anew(tmp_path, own):
    from mlflow import MlflowClient

    folder = write(tmp_path, f"sqlite:///{own}")
    run_id = sync_folder(folder.path).run_id
    client = MlflowClient(f"sqlite:///{own}")
    client.update_run(run_id, status="RUNNING")
    client.log_metric(run_id, "m0", 99.0, step=99)
    assert sync_folder(folder.path).state == "already complete"
    again = client.get_run(run_id)
    assert (again.info.status, again.data.metrics["m0"]) == ("RUNNING", 99.0)


def test_a_deleted_run_stays_deleted(tmp_path, own):
    from mlflow import MlflowClient

    folder = write(tmp_path, f"sqlite:///{own}")
    run_id = sync_folder(folder.path).run_id
    MlflowClient(f"sqlite:///{own}").delete_run(run_id)
    assert sync_folder(folder.path).state == "already complete"


def test_what_another_machine_has_recorded_is_sent_anew_to_the_new_run(tmp_path, own):
    backup, uri = shutil.copy(own, tmp_path / "backup.db"), f"sqlite:///{own}"
    folder = write(tmp_path, uri)
    about = Description(1, folder.token, uri, 1, run_id=sync_folder(folder.path).run_id)
    other = RunFolder.make(tmp_path / ".dovetail/hosts/node7", about)
    writer = JournalWriter(other, "append", 1)
    writer.metrics({"system/node7/cpu": 50.0}, 0)
    writer.close()
    assert sync_folder(other.path).state == "complete"
    put_back(backup, own)
    results = list(sync_folders(find_folders(tmp_path)))
    assert [one.state for one in results] == ["complete", "complete"]
    assert results[0].run_id == results[1].run_id != about.run_id
    assert read(uri, folder, tmp_path)[2]["system/node7/cpu"] == [50.0]


def test_each_run_is_asked_for_once_and_a_store_that_is_down_once_only(tmp_path, uris, monkeypatch):
    folders = [write(tmp_path, uris[0]).path for _ in range(3)]
    assert {one.state for one in sync_folders(folders)} == {"complete"}
    asked: list[str] = []
    get_run = store.MlflowStore.get_run

    def counted(self, run_id):
        asked.append(run_id)
        if is_down:
            raise StoreUnavailable("Cannot read the run.", "The database is locked.", "Wait.")
        return get_run(self, run_id)

    monkeypatch.setattr(store.MlflowStore, "get_run", counted)
    is_down = False
    results = list(sync_folders(folders))
    assert {one.state for one in results} == {"already complete"}
    assert asked == [one.run_id for one in results]
    is_down = True
    asked.clear()
    results = list(sync_folders(folders))
    assert {(one.state, one.why) for one in results} == {("partial", "The database is locked. Wait.")}
    assert len(asked) == 1


def test_the_environment_names_a_store_and_an_argument_goes_before_it(tmp_path, uris, monkeypatch):
    folder = write(tmp_path, NOWHERE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uris[0])
    assert sync_folder(folder.path, uris[1]).store == uris[1]
    assert sync_folder(folder.path).store == uris[0]
    for uri in uris:
        assert_whole(uri, folder, tmp_path)


def test_credentials_of_the_project_are_used_and_not_told(tmp_path):
    (tmp_path / ".env").write_text("MLFLOW_TRACKING_URI=http://me:secret@127.0.0.1:9\n")
    folder = write(tmp_path, NOWHERE)
    result = sync_folder(folder.path)
    assert (result.state, result.store) == ("failed", NOWHERE)
    assert "secret" not in str(result)


def test_a_server_that_is_down_keeps_nobody_waiting_and_the_rest_is_sent(tmp_path, uris):
    write(tmp_path, NOWHERE), write(tmp_path, NOWHERE)
    good = write(tmp_path, uris[0])
    begin = time.monotonic()
    done = sync()
    assert (done.returncode, done.stdout) == (1, "1 sent, 2 not sent\n")
    assert done.stderr.count(f"{NOWHERE} does not answer") == 2
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 30
    assert_whole(uris[0], good, tmp_path)


def test_a_store_that_is_not_on_this_machine_is_not_made(tmp_path):
    folder = write(tmp_path, f"sqlite:///{tmp_path}/gone/mlflow.db")
    result = sync_folder(folder.path)
    assert result.state == "failed"
    assert "--tracking-uri" in result.why
    assert not (tmp_path / "gone").exists()


def test_a_damaged_copy_is_said_and_the_rest_is_sent(tmp_path, uris):
    folder = write(tmp_path, uris[0])
    copy = folder.artifacts / "0001-fi"
    copy.write_bytes(b"y" + copy.read_bytes()[1:])
    result = sync_folder(folder.path)
    assert (result.state, result.values, result.files, result.status) == ("partial", 30, 2, "FINISHED")
    assert "files/small.bin" in result.why
    assert (folder.path / "artifacts" / "0001-fi.damaged").is_file()
    assert "files/small.bin" not in read(uris[0], folder, tmp_path)[3]
    assert sync_folder(folder.path).state == "already complete"


def test_a_run_that_goes_on_is_left_to_its_recorder(tmp_path, uris):
    code = (
        "import mlflow_dovetail as dt, sys\n"
        f"with dt.start_run(tracking_uri={uris[0]!r}, experiment_name='sync') as run:\n"
        "    run.log_metrics({'a': 1.0}, step=0)\n"
        "    print(run.folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    trainer = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "DOVETAIL_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = Path(trainer.stdout.readline().strip())
    among_others, named = sync("--json"), sync(str(path))
    trainer.communicate("", timeout=60)
    assert among_others.returncode == 0
    (told,) = json.loads(among_others.stdout)
    assert (told["state"], told["values"], told["run_id"]) == ("live", 0, "")
    assert f"Process {trainer.pid} " in told["why"]
    assert named.returncode == 1
    assert f"live: {path}" in named.stderr
    assert sync_folder(path).state == "complete"


def test_what_a_writer_without_a_recorder_has_so_far_is_sent_and_it_stays_open(tmp_path, uris):
    folder, process = start_writer(tmp_path, uris[0], "stays")
    with process:
        assert process.stdout.readline() == "ready\n"
        os.utime(folder.leases / "0001.json", (0, time.time() - 60))  # a recorder would have come by now
        result = sync_folder(folder.path)
        assert (result.state, result.values, result.status) == ("live", 30, "RUNNING")
        process.stdin.close()
    result = sync_folder(folder.path)
    assert (result.state, result.values, result.status) == ("complete", 0, "FINISHED")
    assert_whole(uris[0], folder, tmp_path)


def test_another_machines_run_is_closed_when_it_has_been_silent(tmp_path, uris):
    folder = write(tmp_path, uris[0], "vanishes")
    lease = folder.leases / "0001.json"
    lease.write_text(json.dumps({**json.loads(lease.read_text()), "host": "node9", "boot_id": "another"}))
    result = sync_folder(folder.path)
    assert (result.state, result.status, result.values) == ("live", "RUNNING", 30)
    assert "node9" in result.why
    os.utime(folder.segment(1), (0, time.time() - 3600))
    result = sync_folder(folder.path)
    assert (result.state, result.status) == ("complete", "FAILED")
    assert_whole(uris[0], folder, tmp_path)


def test_what_is_no_run_folder_is_named_and_keeps_no_other(tmp_path, uris):
    good = write(tmp_path, uris[0])
    (bad := good.path.with_name("f" * 32)).mkdir()
    (bad / "run.json").write_text("{")
    results = list(sync_folders(find_folders()))
    assert [one.state for one in results] == ["complete", "failed"]
    assert str(bad) in results[1].why
    (tmp_path / "empty").mkdir()
    done = sync("empty")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path / 'empty'} is no run folder" in done.stderr


def test_a_folder_a_project_and_what_lies_between_are_understood(tmp_path):
    project = tmp_path / "project"
    folder = write(project, NOWHERE)
    for path in (project, project / ".dovetail", project / ".dovetail/runs", folder.path):
        assert find_folders(path) == [folder.path]
    assert find_folders() == []
    os.chdir(project)
    (project / ".git").mkdir()
    assert find_folders() == [folder.path]
    shutil.rmtree(folder.path)
    assert find_folders(project) == []
    with pytest.raises(RunFolderInvalid, match="no run folder"):
        find_folders(tmp_path)


def test_what_another_machine_has_recorded_goes_to_the_same_run_in_every_store(tmp_path, uris):
    folder = write(tmp_path, uris[0])
    sync_folder(folder.path)
    with store.open(uris[0]) as opened:
        (run,) = opened.search("dovetail.token", folder.token)
    about = Description(1, folder.token, uris[0], time.time_ns() // 1_000_000, run_id=run.run_id)
    other = RunFolder.make(tmp_path / ".dovetail/hosts/node7", about)
    writer = JournalWriter(other, "append", 1)
    writer.metrics({"system/node7/cpu": 50.0}, 0)
    writer.close()
    assert find_folders(tmp_path) == [folder.path, other.path]
    for uri in uris:
        results = list(sync_folders(find_folders(tmp_path), uri))
        assert {one.run_id for one in results if one.state == "complete"} == {results[0].run_id}
        _, _, values, _ = read(uri, folder, tmp_path)
        assert values["system/node7/cpu"] == [50.0]
        assert len(values["m0"]) == 10


def test_nobody_may_write_there(tmp_path, uris):
    folder = write(tmp_path, uris[0], "vanishes")
    for path in (folder.path, folder.leases):
        path.chmod(0o555)
    obeying = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    done = subprocess.run([*obeying, *command()], capture_output=True, text=True, timeout=60)
    for path in (folder.path, folder.leases):
        path.chmod(0o755)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr and str(folder.path) in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_loses_nothing_and_the_next_one_goes_on(tmp_path, uris):
    folder = write(tmp_path, uris[0], steps=5_000)
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        talk = b""
        while talk.count(b" values") < 2:  # the first batch is acknowledged
            talk += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == ""
    talk += os.read(ours, 65536)
    os.close(ours)
    assert process.returncode == 130
    assert talk.startswith(b"\r\033[K[1/1] " + folder.token[:8].encode())
    assert b"goes on from there" in talk and b"Traceback" not in talk
    result = sync_folder(folder.path)
    assert result.state == "complete"
    assert 0 < result.values <= 10_002
    assert_whole(uris[0], folder, tmp_path, steps=5_000)
