"""`dovetail show`, as a process of its own, on real runs."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mlflow_dovetail import __version__, store
from mlflow_dovetail.records import DatasetInput, MetricPoint

TAGS = {
    "dovetail.git.commit": "0123456789abcdef0123456789abcdef01234567",
    "dovetail.git.branch": "main",
    "dovetail.git.dirty": "true",
    "dovetail.git.remote": "https://example.org/me/digits.git",
    "dovetail.host": "node7",
    "dovetail.gpus": "NVIDIA H200",
    "dovetail.python": "3.11.7",
    "dovetail.command": "python -m digits.train",
    "dovetail.dvc.stage": "train",
    "dovetail.dvc.experiment": "gaudy-fado",
    "dovetail.attempt": "2",
    "dovetail.end.cause": "exception: ValueError: lr",
    "mlflow.note.content": "first line\nsecond line",
    "team": "vision",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with one full run, its parent and child, and two runs of one name."""
    root = tmp_path_factory.mktemp("project")
    artifact = root / "model.ckpt"
    artifact.write_bytes(b"x" * 1234)
    with store.open(f"sqlite:///{root}/mlflow.db", "digits") as opened:
        parent = opened.create_run(uuid.uuid4().hex, name="sweep")
        tags = {**TAGS, "mlflow.parentRunId": parent.run_id}
        run = opened.create_run("ab" * 16, name="full", tags=tags, start_time_ms=1_700_000_000_000)
        opened.create_run(uuid.uuid4().hex, name="child", tags={"mlflow.parentRunId": run.run_id})
        opened.log_params(run.run_id, {"model.lr": "0.01", "seed": "1", "evil": "a\033[31mb\nc"})
        points = [
            MetricPoint("val/acc", 0.5, 0, 1),
            MetricPoint("val/acc", 0.975, 1, 2),
            MetricPoint("n", math.nan, 0, 1),
        ]
        opened.log_metrics(run.run_id, points)
        opened.log_inputs(run.run_id, [DatasetInput("digits", "d1gest", "data/digits.csv", "train")])
        opened.log_artifact(run.run_id, artifact, "checkpoints")
        opened.set_status(run.run_id, "FINISHED", end_time_ms=1_700_000_185_000)
        for _ in range(2):
            opened.create_run(uuid.uuid4().hex, name="twin")
    return root


def dovetail(project: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
    command = [sys.executable, "-m", "mlflow_dovetail", *words]
    return subprocess.run(command, cwd=project, env={**kept, **environment}, capture_output=True, text=True, timeout=60)


def test_a_run_is_shown_whole(project):
    done = dovetail(project, "show", "full")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "full  FINISHED"
    for line in (
        "  experiment  digits (1)",
        "  took        3 min 5 s",
        "  model.lr  0.01",
        "  val/acc  0.975",
        "  n        nan",
        "  branch   main",
        "  dirty    true",
        "  gpus    NVIDIA H200",
        "  experiment  gaudy-fado",
        "  train  digits  d1gest  data/digits.csv",
        "  checkpoints/model.ckpt  1.2 kB",
        "  team  vision",
    ):
        assert line in lines
    for text in (*TAGS.values(), "ab" * 16, "sweep", "child  RUNNING"):
        assert all(part in done.stdout for part in text.splitlines())


def test_control_characters_are_not_sent_to_the_terminal(project):
    assert r"a\x1b[31mb\nc" in dovetail(project, "show", "full").stdout


def test_json_has_everything(project):
    done = dovetail(project, "show", "abab", "--json")
    assert done.stderr == ""
    shown = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (shown["token"], shown["name"], shown["status"]) == ("ab" * 16, "full", "FINISHED")
    assert shown["metrics"] == {"val/acc": 0.975, "n": "nan"}
    assert shown["params"]["evil"] == "a\033[31mb\nc"
    assert TAGS.items() <= shown["tags"].items()
    assert shown["inputs"][0]["source"] == "data/digits.csv"
    assert shown["artifacts"] == [{"path": "checkpoints/model.ckpt", "size_bytes": 1234}]
    assert [child["name"] for child in shown["children"]] == ["child"]
    assert json.loads(dovetail(project, "show", shown["parent_run_id"], "--json").stdout)["name"] == "sweep"


def test_the_store_may_be_named_before_and_after_the_verb(project, tmp_path):
    uri = f"sqlite:///{project}/mlflow.db"
    for words in (["--tracking-uri", uri, "show", "full"], ["show", "full", "--tracking-uri", uri]):
        assert dovetail(tmp_path, *words).returncode == 0
    before = dovetail(tmp_path, "--json", "--tracking-uri", uri, "show", "full")
    assert json.loads(before.stdout)["name"] == "full"
    assert dovetail(tmp_path, "show", "full", MLFLOW_TRACKING_URI=uri).returncode == 0


def failed_with(done: subprocess.CompletedProcess[str], remedy: str) -> None:
    """One error of three parts, nothing on standard output, no traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("dovetail: ")
    assert len(lines) >= 3
    assert remedy in lines[-1]
    assert "Traceback" not in done.stderr


def test_an_ambiguous_name_lists_the_candidates(project):
    done = dovetail(project, "show", "twin")
    failed_with(done, "more digits")
    assert done.stderr.count("twin  (digits)") == 2


def test_an_unknown_run_says_where_ids_are(project):
    failed_with(dovetail(project, "show", "nobody"), "mlflow_run.json")


def test_no_database_says_so_and_makes_none(tmp_path):
    failed_with(dovetail(tmp_path, "show", "full"), "Make a run first")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_a_broken_database_is_said(project, tmp_path, kept):
    whole = (project / "mlflow.db").read_bytes()
    cut = whole[: int(len(whole) * kept)]
    (tmp_path / "mlflow.db").write_bytes(cut or b"rubbish" * 1000)
    failed_with(dovetail(tmp_path, "show", "full"), "backup")


def test_a_server_that_is_not_there_is_said(project):
    failed_with(dovetail(project, "show", "full", "--tracking-uri", "http://127.0.0.1:9"), "Check that the server runs")


def test_a_folder_as_store_is_refused(project):
    failed_with(dovetail(project, "show", "full", "--tracking-uri", "./mlruns"), "sqlite:///mlflow.db")


@pytest.mark.parametrize("words", [[], ["show"], ["shwo", "full"], ["show", "full", "--no-such"], ["show", "a", "b"]])
def test_wrong_usage_exits_2_and_says_how(tmp_path, words):
    done = dovetail(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: dovetail")


@pytest.mark.parametrize("words", [["--help"], ["show", "--help"]])
def test_help_gives_an_example(tmp_path, words):
    done = dovetail(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  dovetail show " in done.stdout.partition("Example")[2]


def test_version(tmp_path):
    assert dovetail(tmp_path, "--version").stdout == f"dovetail {__version__}\n"


def test_a_reader_that_stops_early_is_fine(project):
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow_dovetail", "show", "full"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def on_a_terminal(project: Path, **environment: str) -> str:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-m", "mlflow_dovetail", "show", "full"]
    with subprocess.Popen(command, cwd=project, stdout=theirs, env={**kept, **environment}):
        os.close(theirs)
        read = b""
        try:
            while chunk := os.read(ours, 65536):
                read += chunk
        except OSError:  # Linux says EIO when the other end of a terminal is closed
            pass
        finally:
            os.close(ours)
    return read.decode()


def test_colour_only_on_a_terminal_and_not_with_no_color(project):
    assert "\033[1mParams\033[0m" in on_a_terminal(project)
    assert "\033" not in on_a_terminal(project, NO_COLOR="1")
    assert "\033" not in dovetail(project, "show", "full").stdout
