"""A run from inside its process: what is logged is in the journal at once, and in MLflow at the end."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

import mlflow_dovetail as dt
from mlflow_dovetail.errors import DovetailError, Offline, RunNotFound
from mlflow_dovetail.journal import entries
from mlflow_dovetail.run.open_runs import OPEN_RUNS
from mlflow_dovetail.run_folder import RunFolder, SegmentReader

pytestmark = pytest.mark.usefixtures("alone")


def journal(run: dt.Run) -> list[entries.Entry]:
    folder = RunFolder.open(run.folder)
    found: list[entries.Entry] = []
    for number in folder.segments():
        reader = SegmentReader(folder.segment(number))
        while more := [entries.decode(payload) for payload in reader.read()]:
            found += more
    return found


def history(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))


def paths(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for entry in client.list_artifacts(run_id, folder):
        found |= paths(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return {path for path in found if not path.startswith(("environment/", "code/")) and path != "console.log"}


def text_of(run_id: str, path: str) -> str:
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path)).read_text()


# As mlflow.start_run


def test_everything_that_mlflow_start_run_takes(client: MlflowClient, experiment: str):
    given = {"tags": {"a": 1, "b": "two"}, "description": "*what* it is"}
    with dt.start_run(run_name="outer") as outer, dt.start_run(run_name="first", nested=True, **given) as run:
        assert mlflow.active_run().info.run_id == run.run_id == run.info.run_id
    made = client.get_run(run.run_id)
    assert (made.info.run_name, made.info.status) == ("first", "FINISHED")
    assert client.get_experiment(made.info.experiment_id).name == experiment
    tags = made.data.tags
    assert (tags["a"], tags["b"], tags["mlflow.note.content"]) == ("1", "two", "*what* it is")
    assert tags["mlflow.parentRunId"] == outer.run_id
    assert (tags["dovetail.token"], tags["dovetail.attempt"], tags["dovetail.status.journal"]) == (run.token, "1", "ok")
    assert {"mlflow.source.name", "mlflow.user", "dovetail.schema"} <= tags.keys()


def test_an_experiment_is_named_by_argument_by_id_and_by_mlflow(client: MlflowClient):
    with dt.start_run(experiment_name="by name") as run:
        experiment_id = run.info.experiment_id
    assert client.get_experiment(experiment_id).name == "by name"
    with dt.start_run(experiment_id=experiment_id) as run:
        assert run.info.experiment_id == experiment_id
    other = client.create_experiment(f"set {uuid.uuid4().hex}")
    mlflow.set_experiment(experiment_id=other)
    try:
        with dt.start_run() as run:
            assert run.info.experiment_id == other
    finally:
        mlflow.tracking.fluent._active_experiment_id = None
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


def test_a_parent_that_is_named_counts(client: MlflowClient):
    with dt.start_run() as first:
        pass
    with dt.start_run(parent_run_id=first.run_id) as run:
        pass
    assert client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == first.run_id


def test_a_run_inside_a_run_must_say_so():
    with dt.start_run() as outer:
        with pytest.raises(DovetailError, match=r"nested=True"):
            dt.start_run()
        with dt.start_run(nested=True) as inner:
            mlflow.log_metric("where", 2.0)
        mlflow.log_metric("where", 1.0)
    for run, value in ((outer, 1.0), (inner, 2.0)):
        assert [entry.values for entry in journal(run) if isinstance(entry, entries.Metrics)] == [{"where": value}]


def test_what_mlflow_had_is_put_back(uri: str, tmp_path: Path):
    before = (mlflow.get_tracking_uri(), mlflow.tracking.fluent.MlflowClient, sys.excepthook, sys.stdout.write)
    handler = signal.getsignal(signal.SIGTERM)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with dt.start_run(tracking_uri=other) as run:
        assert mlflow.get_tracking_uri() == other
        with dt.start_run(tracking_uri=uri, nested=True):
            assert mlflow.get_tracking_uri() == uri
        assert mlflow.get_tracking_uri() == other
        assert mlflow.active_run().info.run_id == run.run_id
    after = (mlflow.get_tracking_uri(), mlflow.tracking.fluent.MlflowClient, sys.excepthook, sys.stdout.write)
    assert after == before
    assert signal.getsignal(signal.SIGTERM) == handler
    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    assert mlflow.active_run() is None


def test_runs_that_are_closed_out_of_order_leave_mlflow_as_it_was():
    before = mlflow.tracking.fluent.MlflowClient
    outer = dt.start_run()
    inner = dt.start_run(nested=True)
    outer.close()
    mlflow.log_metric("still", 1.0)
    inner.close()
    assert mlflow.tracking.fluent.MlflowClient is before
    assert mlflow.active_run() is None
    assert [entry.values for entry in journal(inner) if isinstance(entry, entries.Metrics)] == [{"still": 1.0}]


# mlflow.log_* inside


def test_what_mlflows_functions_log_is_in_the_journal_and_then_in_mlflow(client: MlflowClient, tmp_path: Path):
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    (tmp_path / "a file.txt").write_text("content")
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/leaf.txt").write_text("leaf")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    with dt.start_run() as run:
        mlflow.log_metric("loss", 0.5, step=3)
        mlflow.log_metrics({"a": 1, "b": 2.0}, step=4)
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"model": "cnn", "layers": [1, 2]})
        mlflow.set_tag("who", "me")
        mlflow.set_tags({"x": "1", "y": 2})
        mlflow.log_text("words", "notes/text.txt")
        mlflow.log_dict({"k": [1]}, "notes/data.json")
        mlflow.log_artifact(str(tmp_path / "a file.txt"))
        mlflow.log_artifact(str(tmp_path / "a file.txt"), "sub")
        mlflow.log_artifacts(str(tmp_path / "tree"), "tree")
        mlflow.log_figure(figure, "plots/line.png")
        mlflow.log_image(np.zeros((4, 5, 3), np.uint8), "images/black.png")
        mlflow.log_image(np.zeros((4, 5), np.uint8), key="series", step=2)
        kinds = {type(entry) for entry in journal(run)}
        assert {entries.Metrics, entries.Params, entries.Tags, entries.File} <= kinds
        assert client.get_run(run.run_id).data.metrics == {}  # nothing waits for the store
    plt.close(figure)
    data = client.get_run(run.run_id).data
    assert data.metrics == {"loss": 0.5, "a": 1.0, "b": 2.0}
    assert history(client, run.run_id, "a") == [(4, 1.0)]
    assert data.params == {"lr": "0.1", "model": "cnn", "layers": "[1, 2]"}
    assert (data.tags["who"], data.tags["x"], data.tags["y"]) == ("me", "1", "2")
    found = paths(client, run.run_id)
    series = {path for path in found if path.startswith("images/series")}
    assert found - series == {
        "notes/text.txt",
        "notes/data.json",
        "a file.txt",
        "sub/a file.txt",
        "tree/deep/leaf.txt",
        "plots/line.png",
        "images/black.png",
    }
    assert len(series) == 2
    assert text_of(run.run_id, "notes/text.txt") == "words"
    assert json.loads(text_of(run.run_id, "notes/data.json")) == {"k": [1]}


@pytest.mark.filterwarnings("ignore:For backward compatibility")  # inside MLflow 3.17 with pandas 3
@pytest.mark.parametrize("offline", [False, True])
def test_a_table_grows_with_each_call(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, offline: bool):
    if offline:
        monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    with dt.start_run() as run:
        mlflow.log_table({"question": ["a", "b"]}, "tables/answers.json")
        mlflow.log_table({"question": ["c"]}, "tables/answers.json")
        mlflow.log_table({"other": [1]}, "other.json")
    folder = RunFolder.open(run.folder)
    files = {entry.path: entry for entry in journal(run) if isinstance(entry, entries.File)}
    content = json.loads((folder.artifacts / files["tables/answers.json"].payload).read_text())
    assert content["data"] == [["a"], ["b"], ["c"]]
    tags: dict[str, str] = {}
    for entry in journal(run):
        tags |= entry.values if isinstance(entry, entries.Tags) else {}
    assert [one["path"] for one in json.loads(tags["mlflow.loggedArtifacts"])] == ["tables/answers.json", "other.json"]
    if not offline:
        assert json.loads(text_of(run.run_id, "tables/answers.json"))["data"] == [["a"], ["b"], ["c"]]


def test_a_dataset_is_logged_by_mlflow(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    dataset = mlflow.data.from_numpy(np.zeros((3, 2)), name="zeros")
    monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    with dt.start_run() as run:
        mlflow.log_input(dataset, context="training")
    (kept,) = [entry for entry in journal(run) if isinstance(entry, entries.Input)]
    assert (kept.name, kept.digest, kept.context) == ("zeros", dataset.digest, "training")
    monkeypatch.delenv("DOVETAIL_OFFLINE")
    with dt.start_run() as run:
        mlflow.log_input(dataset, context="training")
    (there,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert there.dataset.name == "zeros"


def test_the_times_that_are_given_are_kept(client: MlflowClient):
    with dt.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=1, timestamp=1_600_000_000_000)
        MlflowClient().log_batch(run.run_id, metrics=[Metric("other", 1.0, 1_600_000_000_001, 2)])
        run.client.log_batch(run.run_id, metrics=[Metric("loss", 2.0, 1_600_000_000_002, 2)])
    assert [point.timestamp for point in client.get_metric_history(run.run_id, "loss")] == [
        1_600_000_000_000,
        1_600_000_000_002,
    ]


def test_mlflow_end_run_inside_the_block_ends_it(client: MlflowClient):
    with dt.start_run() as run:
        mlflow.end_run("KILLED")
        assert mlflow.active_run() is None
    assert client.get_run(run.run_id).info.status in ("KILLED", "FINISHED")


# Ends


def test_an_exception_fails_the_run_with_its_traceback(client: MlflowClient):
    with pytest.raises(ValueError, match="no good"), dt.start_run() as run:
        raise ValueError("no good, api_key=hf_aaaaaaaaaabbbbbbbbbbccccccccccdddddd")
    ended = client.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["dovetail.end.cause"].startswith("exception: ValueError: no good")
    trace = text_of(run.run_id, "traceback.txt")
    assert "test_an_exception_fails_the_run" in trace
    assert "hf_aaaa" not in trace + ended.data.tags["dovetail.end.cause"]


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (SystemExit(0), "FINISHED", ""),
        (SystemExit(None), "FINISHED", ""),
        (SystemExit(3), "FAILED", "sys.exit(3)"),
        (SystemExit("words"), "FAILED", "sys.exit(words)"),
        (KeyboardInterrupt(), "KILLED", "SIGINT"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "caf\udce9"), "FAILED", "exception: UnicodeDecodeError"),
    ],
)
def test_other_ends_are_told_as_they_are(client: MlflowClient, error: BaseException, status: str, cause: str):
    with pytest.raises(type(error)), dt.start_run() as run:
        raise error
    ended = client.get_run(run.run_id)
    assert ended.info.status == status
    assert ended.data.tags.get("dovetail.end.cause", "").startswith(cause)
    assert mlflow.active_run() is None


def test_an_end_may_be_said_and_more_logged_after_it(client: MlflowClient):
    run = dt.start_run()
    run.log_metric("loss", 1.0)
    run.end("FAILED", "the loss is too high")
    assert client.get_run(run.run_id).info.status == "FAILED"
    run.log_metric("test/loss", 2.0)
    run.close()
    run.close()
    ended = client.get_run(run.run_id)
    assert (ended.info.status, ended.data.metrics["test/loss"]) == ("FAILED", 2.0)
    assert ended.data.tags["dovetail.end.cause"] == "the loss is too high"


def test_an_end_that_is_none_is_refused(client: MlflowClient):
    with dt.start_run() as run, pytest.raises(DovetailError, match="FINISHED, FAILED"):
        run.end("success")  # type: ignore[arg-type]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_what_is_logged_after_the_close_stops_nothing_and_is_said(caplog: pytest.LogCaptureFixture):
    with dt.start_run() as run:
        pass
    run.log_metrics({"late": 1.0})
    run.log_params({"late": 1})
    run.log_text("late", "late.txt")
    assert caplog.text.count("closed") >= 2
    assert not any(isinstance(entry, entries.Metrics) for entry in journal(run))


# Coming back


def test_a_resumed_run_goes_on_and_keeps_one_series(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KeyboardInterrupt), dt.start_run() as run:
        run.log_params({"lr": 0.1})
        for step in range(10):
            run.log_metrics({"loss": float(step)}, step)
        raise KeyboardInterrupt
    monkeypatch.setenv("MLFLOW_RUN_ID", run.run_id)
    with dt.start_run(tags={"again": "yes"}) as again:
        assert (again.run_id, again.token) == (run.run_id, run.token)
        assert client.get_run(run.run_id).info.status == "RUNNING"
        again.log_params({"lr": 0.2})
        for step in range(8, 12):
            again.log_metrics({"loss": 100.0 + step}, step)
    assert "MLFLOW_RUN_ID" not in os.environ
    ended = client.get_run(run.run_id)
    assert ended.info.status == "FINISHED"
    assert (ended.data.tags["dovetail.attempt"], ended.data.tags["again"]) == ("2", "yes")
    expected = [(step, float(step)) for step in range(10)] + [(10, 110.0), (11, 111.0)]
    assert history(client, run.run_id, "loss") == expected
    assert history(client, run.run_id, "attempt_2/loss") == [(8, 108.0), (9, 109.0)]
    assert ended.data.params["lr"] == "0.1"
    assert json.loads(ended.data.tags["dovetail.changed_params"]) == {"2": {"lr": "0.2"}}
    with dt.start_run(run_id=run.token):
        pass
    assert client.get_run(run.run_id).data.tags["dovetail.attempt"] == "3"


def test_a_run_that_somebody_else_made_is_tracked_and_left_running(client: MlflowClient, experiment: str):
    experiment_id = client.create_experiment(f"plain {experiment}")
    plain = client.create_run(experiment_id)
    client.log_metric(plain.info.run_id, "loss", 1.0, step=5)
    with dt.track(plain.info.run_id) as run:
        assert mlflow.active_run() is None
        run.log_metrics({"loss": 2.0, "acc": 0.5}, step=6)
        run.log_text("x", "x.txt")
    there = client.get_run(plain.info.run_id)
    assert (there.info.status, there.data.metrics["loss"], there.data.tags["dovetail.token"]) == (
        "RUNNING",
        2.0,
        run.token,
    )
    assert "x.txt" in paths(client, plain.info.run_id)
    client.set_terminated(plain.info.run_id)
    with pytest.raises(ValueError, match="late"), dt.track(plain.info.run_id):
        raise ValueError("too late")
    assert client.get_run(plain.info.run_id).info.status == "FINISHED"


def test_tracking_an_open_run_takes_nothing_from_it(client: MlflowClient):
    with dt.start_run() as run:
        with dt.track(run.run_id) as beside:
            beside.log_metric("beside", 1.0)
        mlflow.log_metric("loss", 1.0)
        assert any("loss" in entry.values for entry in journal(run) if isinstance(entry, entries.Metrics))
    assert client.get_run(run.run_id).data.metrics == {"beside": 1.0, "loss": 1.0}
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_run_that_is_not_there(tmp_path: Path):
    for attach in (dt.track, dt.start_run):
        with pytest.raises(RunNotFound):
            attach("0" * 32)
    assert mlflow.active_run() is None


def test_a_damaged_folder_of_another_run_is_in_nobodys_way(client: MlflowClient):
    with dt.start_run() as broken:
        pass
    (broken.folder / "run.json").write_text("{")
    with dt.start_run() as run:
        pass
    with dt.start_run(run_id=run.run_id):
        pass
    assert client.get_run(run.run_id).data.tags["dovetail.attempt"] == "2"


# Values


def test_numbers_of_every_kind(client: MlflowClient):
    torch = pytest.importorskip("torch")
    values: dict[str, Any] = {
        "int": 3,
        "bool": True,
        "float32": np.float32(0.5),
        "float64": np.float64(0.25),
        "int64": np.int64(7),
        "array": np.array([1.5]),
        "scalar array": np.array(2.5),
        "tensor": torch.tensor(3.5),
        "one element": torch.tensor([4.5]),
        "with gradient": torch.tensor(5.5, requires_grad=True),
        "bfloat16": torch.tensor(6.5, dtype=torch.bfloat16),
    }
    refused: dict[str, Any] = {
        "none": None,
        "text": "0.5",
        "two elements": np.array([1.0, 2.0]),
        "meta": torch.empty((), device="meta"),
        "complex": 1j,
        "huge int": 10**400,
        "list": [1.0],
        "sparse": torch.zeros(2, 2).to_sparse(),
    }
    with dt.start_run() as run:
        run.log_metrics({**values, **refused}, step=np.int64(3))
        run.log_metrics({**values}, step=torch.tensor(4))
    data = client.get_run(run.run_id).data
    assert data.metrics.keys() == values.keys()
    assert data.metrics["array"] == 1.5 and data.metrics["with gradient"] == 5.5 and data.metrics["bfloat16"] == 6.5
    assert [step for step, _ in history(client, run.run_id, "tensor")] == [3, 4]
    for key in refused:
        assert f"values of {key} are no numbers ×1" in data.tags["dovetail.status.journal"]


def test_values_that_are_not_finite_are_tagged(client: MlflowClient):
    with dt.start_run() as run:
        for step, value in enumerate((1.0, math.nan, math.inf, -math.inf)):
            run.log_metric("loss", value, step)
    (counted,) = [json.loads(client.get_run(run.run_id).data.tags["dovetail.nonfinite"])]
    assert counted == {"loss": {"nan": 1, "inf": 1, "-inf": 1}}
    exact = [entry.values["loss"] for entry in journal(run) if isinstance(entry, entries.Metrics)]
    assert exact[2:] == [math.inf, -math.inf] and math.isnan(exact[1])


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1, 2**70, float("nan"), float("inf"), "ten", object()])
def test_a_step_that_is_none_stops_nothing_and_costs_no_value(client: MlflowClient, step: Any):
    with dt.start_run() as run:
        run.log_metrics({"loss": 1.0}, step=step)
        run.log_metrics({"loss": 2.0}, step=3)
    assert {value for _, value in history(client, run.run_id, "loss")} == {1.0, 2.0}
    assert "step" in client.get_run(run.run_id).data.tags["dovetail.status.journal"]


def test_steps_may_be_negative_and_large(client: MlflowClient):
    with dt.start_run() as run:
        for number, step in enumerate((-5, 0, 2**62, None)):
            run.log_metrics({"loss": float(number)}, step=step)
    assert [step for step, _ in history(client, run.run_id, "loss")] == [-5, 0, 0, 2**62]


def test_names_that_mlflow_refuses_are_mapped_and_warned_of_once(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
):
    with dt.start_run() as run:
        for step in range(3):
            run.log_metrics({"acc@1": 0.5, "loss": 1.0, os.fsdecode(b"caf\xe9"): 2.0, 7: 3.0}, step)  # type: ignore[dict-item]
    data = client.get_run(run.run_id).data
    assert {"acc_1", "loss", "7"} <= data.metrics.keys() and len(history(client, run.run_id, "loss")) == 3
    assert json.loads(data.tags["dovetail.renamed"])["acc_1"] == "acc@1"
    assert sum("acc@1" in record.getMessage() for record in caplog.records) == 1


def test_params_uncut_any_number_nested_and_masked(client: MlflowClient):
    many = {f"p{number}": number for number in range(1000)}
    with dt.start_run() as run:
        run.log_params({**many, "model": {"lr": 0.1, "layers": [1, 2], "none": {}}, "a.b": 1, "a": {"b": 2}})
        run.log_params({"long": "x" * 6000, "longer": "y" * 50_000, "bad@name": 1, "": 2, "raw": os.fsdecode(b"\xff")})
        run.log_params({"api_key": "hunter2hunter2", "url": "https://me:pass@host/x"})
    params = client.get_run(run.run_id).data.params
    assert params.items() >= {key: str(value) for key, value in many.items()}.items()
    assert (params["model.lr"], params["model.layers"], params["model.none"]) == ("0.1", "[1, 2]", "{}")
    assert {params["a.b"], params["a.b-2"]} == {"1", "2"}
    assert (len(params["long"]), len(params["longer"]), params["longer"][-3:]) == (6000, 6000, "yy…")
    assert params["bad_name"] == "1"
    assert (params["api_key"], params["url"]) == ("***", "https://***@host/x")
    raw = (run.folder / "journal/0001.dtj").read_bytes()
    assert b"y" * 50_000 in raw
    assert b"hunter2" not in raw and b"me:pass" not in raw


def test_tags_are_text_and_masked(client: MlflowClient):
    with dt.start_run(tags={"start": "token=ghp_" + "a" * 36}) as run:
        run.set_tags({"n": 1, "long": "x" * 20_000, "secret": "ghp_" + "b" * 36, "": "empty", "mlflow.runName": ""})
    tags = client.get_run(run.run_id).data.tags
    assert (tags["n"], len(tags["long"]), tags["secret"]) == ("1", 8000, "***")
    assert "ghp_" not in tags["start"]


def test_threads_log_at_once(client: MlflowClient):
    def log_all(run: dt.Run, number: int) -> None:
        for step in range(200):
            run.log_metrics({f"t{number}": float(step), "shared": float(number)}, step)
            run.log_params({f"p{number}.{step}": step})

    with dt.start_run() as run:
        threads = [threading.Thread(target=log_all, args=(run, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(client.get_run(run.run_id).data.params) == 800
    assert [history(client, run.run_id, f"t{number}") for number in range(4)] == [
        [(step, float(step)) for step in range(200)]
    ] * 4
    # Each thread with a value of its own: MLflow keeps two points of one key, step, value and millisecond as one.
    assert sorted(history(client, run.run_id, "shared")) == [
        (step, float(number)) for step in range(200) for number in range(4)
    ]


# Files


def test_files_with_every_kind_of_name(client: MlflowClient, tmp_path: Path):
    names = ["a#b.txt", "what?.txt", "50% ü.txt", "two words.txt", "-rf.txt", "x'\"y.txt"]
    for name in names:
        (tmp_path / name).write_text(name)
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    raw.write_text("raw")
    with dt.start_run() as run:
        for name in names:
            run.log_artifact(tmp_path / name, "sub#dir")
        run.log_artifact(raw)
        run.log_text("x", "../../outside.txt")
        run.log_text("y", "/absolute.txt")
    found = paths(client, run.run_id)
    assert len(found) == len(names) + 3
    assert {"sub_dir/a_b.txt", "sub_dir/what_.txt", "sub_dir/50% ü.txt", "absolute.txt"} <= found
    assert {text_of(run.run_id, path) for path in found} == {*names, "raw", "x", "y"}


def test_a_folder_is_kept_without_what_lies_outside(client: MlflowClient, tmp_path: Path):
    (tmp_path / "secret.txt").write_text("not yours")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far.txt").write_text("far")
    tree = tmp_path / "tree"
    (tree / "in").mkdir(parents=True)
    (tree / "in/a.txt").write_text("a")
    (tree / "link inside.txt").symlink_to("in/a.txt")
    (tree / "link out.txt").symlink_to(tmp_path / "secret.txt")
    (tree / "folder out").symlink_to(tmp_path / "elsewhere")
    (tree / "broken").symlink_to("nowhere")
    (tree / "loop").symlink_to(tree)
    os.mkfifo(tree / "pipe")
    with dt.start_run() as run:
        run.log_artifact(tree)
        run.log_artifact(tmp_path / "tree/link out.txt")  # who names a link means its file
    assert paths(client, run.run_id) == {"tree/in/a.txt", "tree/link inside.txt", "link out.txt"}
    status = client.get_run(run.run_id).data.tags["dovetail.status.journal"]
    assert "links that lead out of a logged folder are not followed ×2" in status


def test_what_is_no_file_is_refused_and_nothing_waits_for_it(client: MlflowClient, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with dt.start_run() as run:
        with pytest.raises(DovetailError, match="Name a file or folder that exists"):
            run.log_artifact(tmp_path / "missing.txt")
        with pytest.raises(DovetailError, match="Name a file or folder that exists"):
            run.log_artifacts(tmp_path / "missing")
        with pytest.raises(DovetailError, match="Name a file or folder"):
            run.log_artifact(tmp_path / "pipe")
        run.log_metric("loss", 1.0)
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_file_is_kept_as_it_was_when_it_was_logged(client: MlflowClient, tmp_path: Path):
    path = tmp_path / "changing.txt"
    with dt.start_run() as run:
        path.write_text("then")
        run.log_artifact(path)
        path.write_text("later, and longer")
        run.log_artifact(path, "later")
        path.unlink()
    assert text_of(run.run_id, "changing.txt") == "then"
    assert text_of(run.run_id, "later/changing.txt") == "later, and longer"


def test_images_and_figures_of_the_runs_own(client: MlflowClient):
    from PIL import Image

    with dt.start_run() as run:
        run.log_image(np.zeros((4, 5)), "floats")
        run.log_image(Image.new("RGB", (3, 3)), "sub/pil.jpg")
        for step in (1, 2):
            run.log_image(np.zeros((4, 5, 4), np.uint8), "series", step=step)
    found = paths(client, run.run_id)
    assert {"images/floats.png", "images/sub/pil.jpg"} <= found
    assert len([path for path in found if path.startswith("images/series") and path.endswith(".png")]) == 2


# Where nothing can be written, and where no server is


def test_a_project_that_cannot_be_written_falls_back(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "blocked").write_text("a file")
    monkeypatch.setenv("DOVETAIL_DIR", str(tmp_path / "blocked"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with dt.start_run() as run:
        run.log_metric("loss", 1.0)
    assert run.folder.is_relative_to(tmp_path / ".dovetail")
    assert "Until then this run is kept below" in caplog.text and "DOVETAIL_DIR" in caplog.text
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}


OFFLINE = """
import json, sys, time
import mlflow
import mlflow_dovetail as dt
from mlflow_dovetail.errors import Offline
begun = time.monotonic()
with dt.start_run(run_name="far away", tags={"a": "b"}) as run:
    seconds = time.monotonic() - begun
    mlflow.log_metric("loss", 0.5, step=1)
    mlflow.log_params({"lr": 0.1})
    mlflow.log_text("words", "notes.txt")
    mlflow.log_image(__import__("numpy").zeros((2, 2), "uint8"), key="k", step=1)
    run.log_metrics({"loss": 0.25}, step=2)
    refused = []
    for read in (lambda: run.data, lambda: mlflow.search_runs(), lambda: run.client.get_run(run.run_id)):
        try:
            read()
        except Offline as error:
            refused.append(str(error))
    assert mlflow.active_run().info.run_id == run.run_id == run.token
    begun = time.monotonic()
print(json.dumps({"seconds": seconds, "end": time.monotonic() - begun, "folder": str(run.folder), "refused": refused}))
"""


@pytest.mark.parametrize("how", ["switched off", "dead port"])
def test_a_run_without_a_server_starts_at_once_and_goes_there_later(
    client: MlflowClient, tmp_path: Path, how: str, uri: str
):
    dead = "http://127.0.0.1:9"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_EXPERIMENT")}
    switch = {"DOVETAIL_OFFLINE": "1"} if how == "switched off" else {}
    environment = {**kept, **switch, "MLFLOW_TRACKING_URI": dead}
    done = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["seconds"] < 2 and said["end"] < 12
    assert len(said["refused"]) == 3 and all("dovetail sync" in text for text in said["refused"])
    folder = RunFolder.open(Path(said["folder"]))
    end_recorder(folder)
    from mlflow_dovetail import store
    from mlflow_dovetail.journal import Sender

    with store.open(uri, "later") as opened:
        sender = Sender(folder, opened)
        assert sender.send()
    run = client.get_run(sender.progress.run_id)
    assert (run.info.run_name, run.info.status, run.data.tags["a"]) == ("far away", "FINISHED", "b")
    assert history(client, run.info.run_id, "loss") == [(1, 0.5), (2, 0.25)]
    assert {"notes.txt"} <= paths(client, run.info.run_id)


def end_recorder(folder: RunFolder) -> None:
    """A recorder that waits for a server for ten minutes ends when it is told to."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"mlflow_dovetail.run.recorder" in command and os.fsencode(folder.path) in command:
                os.kill(int(entry.name), signal.SIGTERM)


@pytest.mark.parametrize("experiment_id", [None, "3"])
def test_offline_in_this_process_asks_nobody(monkeypatch: pytest.MonkeyPatch, experiment_id: str | None):
    monkeypatch.setenv("DOVETAIL_OFFLINE", "1")
    if experiment_id:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begun = time.monotonic()
    with dt.start_run() as run:
        assert run.is_offline and run.run_id == run.token
        mlflow.log_metric("loss", 1.0)
        with pytest.raises(Offline, match="dovetail sync"):
            _ = run.data
    assert time.monotonic() - begun < 2
    assert [entry.values for entry in journal(run) if isinstance(entry, entries.Metrics)] == [{"loss": 1.0}]


# Many runs in one process


def test_many_runs_leave_no_descriptor_no_thread_and_no_hook_behind(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)

    def left() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(OPEN_RUNS)  # noqa: PTH208

    with dt.start_run() as run:
        run.log_metric("loss", 1.0)
    before = left()
    for _ in range(12):
        with dt.start_run() as run:
            run.log_metric("loss", 1.0)
    after = left()
    assert after[0] <= before[0] + 2 and after[1:] == before[1:]
