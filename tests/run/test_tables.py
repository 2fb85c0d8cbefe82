"""The prediction tables of a run: appended here, uploaded by the recorder, read back from the store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import mlflow
import numpy as np
import pandas as pd
import polars
import pytest
from mlflow import MlflowClient

import mlflow_dovetail as dt
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import Class, First
from mlflow_dovetail.run.open_tables import OpenTables
from mlflow_dovetail.run.other_host import HostWatch
from mlflow_dovetail.run.table_watch import finish_tables
from mlflow_dovetail.run.training_speed import RunPlace
from mlflow_dovetail.run_folder import Description, RunFolder
from mlflow_dovetail.run_folder.layout import VERSION

pytestmark = pytest.mark.usefixtures("alone")

ROWS = {"id": ["a", "b"], "label": [0, 1], "prediction": [0, 0], "image": np.arange(32.0).reshape(2, 4, 4) / 32}


def files(client: MlflowClient, run_id: str, folder: str) -> set[str]:
    return {Path(one.path).name for one in client.list_artifacts(run_id, folder)}


def test_a_table_is_there_when_the_run_is_over(client: MlflowClient, capfd: pytest.CaptureFixture[str]):
    with dt.start_run(run_name="all in all") as run:
        table = run.table("val", {"label": Class(["cat", "dog"])})
        table.append({**ROWS, "epoch": 0})
        run.table("val").append({**ROWS, "epoch": 1})
    capfd.readouterr()
    rows = dt.load_predictions("all in all")
    assert capfd.readouterr().err == "", "no bar a file"
    assert rows.columns[0] == "run_id" and set(rows.run_id) == {run.run_id}
    assert rows.id.tolist() == ["a", "b", "a", "b"] and rows.epoch.tolist() == [0, 0, 1, 1]
    assert {"index.html", "manifest.json", "table.json"} <= files(client, run.run_id, "predictions/val")
    assert client.get_run(run.run_id).data.tags["dovetail.status.journal"] == "ok"


def test_what_others_read_of_the_files_themselves(client: MlflowClient, tmp_path: Path):
    with dt.start_run() as run:
        for epoch in range(2):
            run.table("val").append({**ROWS, "probabilities": [[0.5, 0.5], [0.25, 0.75]], "epoch": epoch})
    folder = Path(client.download_artifacts(run.run_id, "predictions/val", str(tmp_path)))
    assert pd.read_parquet(folder / "data").id.tolist() == ["a", "b", "a", "b"]
    polars_rows = polars.read_parquet(folder / "data" / "*.parquet")
    assert polars_rows["probabilities"].to_list()[1] == [0.25, 0.75]
    shards, packs = folder / "data" / "*.parquet", folder / "media" / "*.parquet"
    wrong = f"select epoch, count(*) from '{shards}' where label <> prediction group by epoch order by epoch"
    assert duckdb.sql(wrong).fetchall() == [(0, 1), (1, 1)]
    seen = f"select id, octet_length(p.image) from '{shards}' r join '{packs}' p on r.image = p.digest where epoch = 1"
    assert {row[0] for row in duckdb.sql(seen).fetchall()} == {"a", "b"}
    (page,) = folder.glob("index.html")
    assert b"Content-Security-Policy" in page.read_bytes() and run.run_id.encode() in page.read_bytes()


def test_rows_as_polars_are_those_of_arrow():
    with dt.start_run(run_name="polar") as run:
        run.table("val", {"label": Class(["cat", "dog"])}).append({**ROWS, "margin": [0.5, None]})
    rows = dt.load_predictions("polar", form="polars")
    assert isinstance(rows, polars.DataFrame)
    assert rows.to_dicts() == dt.load_predictions("polar", form="arrow").to_pylist()
    assert rows.filter(polars.col("label") != polars.col("prediction"))["id"].to_list() == ["b"]


def test_mlflows_own_list_names_files_that_are_there_and_leaves_the_users_tables_alone(client: MlflowClient):
    with dt.start_run() as run:
        mlflow.log_table({"x": [1]}, "mine.json")
        run.table("val").append(ROWS)
        mlflow.log_table({"x": [2]}, "other.json")
    listed = json.loads(client.get_run(run.run_id).data.tags["mlflow.loggedArtifacts"])
    assert [one["path"] for one in listed] == ["mine.json", "other.json", "predictions/val/table.json"]
    shown = mlflow.load_table("predictions/val/table.json", run_ids=[run.run_id])
    assert shown.prediction.tolist() == [0, 0]
    table = json.loads(Path(client.download_artifacts(run.run_id, "predictions/val/table.json")).read_text())
    cell = table["data"][0][table["columns"].index("image")]
    assert Path(client.download_artifacts(run.run_id, cell["filepath"])).read_bytes().startswith(b"\x89PNG")


def test_many_tables_overflow_no_tag(client: MlflowClient):
    with dt.start_run() as run:
        for number in range(80):
            run.table(f"a table with a rather long name, number {number}").append({"id": ["a"]})
    deadline = time.monotonic() + 60  # 320 files take longer than the end of a run waits
    while time.monotonic() < deadline:
        tag = client.get_run(run.run_id).data.tags.get("mlflow.loggedArtifacts", "[]")
        folders = [one for one in client.list_artifacts(run.run_id, "predictions") if one.is_dir]
        if len(folders) == 80 and len(json.loads(tag)) > 40:
            break
        time.sleep(0.5)
    assert len(tag) <= 8000 and 40 < len(json.loads(tag)) < 80
    assert len(folders) == 80


@pytest.mark.parametrize("name", ["../../escape", "a/b", "", "CON", "é" * 300, "x\0y", "<script>"])
def test_a_hostile_name_is_a_name(client: MlflowClient, name: str):
    with dt.start_run() as run:
        run.table(name).append(ROWS)
    assert len(dt.load_predictions(run.run_id, name)) == 2
    (folder,) = client.list_artifacts(run.run_id, "predictions")
    assert folder.path.count("/") == 1 and ".." not in folder.path


def test_a_resumed_run_goes_on_with_its_table():
    with dt.start_run() as run:
        run.table("val").append({**ROWS, "epoch": 0})
    with dt.start_run(run.run_id) as again:
        again.table("val").append({**ROWS, "epoch": 1})
    assert dt.load_predictions(run.run_id).epoch.tolist() == [0, 0, 1, 1]


def test_a_run_that_goes_on_without_its_folder_keeps_what_the_store_has(client: MlflowClient):
    with dt.start_run() as run:
        run.table("val").append({**ROWS, "epoch": 0, "loss": 1.0})
        run.table("val").append({**ROWS, "epoch": 1, "loss": 2.0})
        folder = Path(run.folder)
    shutil.rmtree(folder)
    with dt.start_run(run.run_id) as again:
        assert Path(again.folder).exists()
        again.table("val").append({**ROWS, "id": ["b", "c"], "epoch": 1, "loss": 3.0})
    rows = dt.load_predictions(run.run_id)
    assert list(zip(rows.epoch, rows.id, rows.loss, strict=True)) == [
        (0, "a", 1.0),
        (0, "b", 1.0),
        (1, "a", 2.0),
        (1, "b", 3.0),
        (1, "c", 3.0),
    ]
    assert {"manifest.json", "index.html"} < files(client, run.run_id, "predictions/val")
    assert len(files(client, run.run_id, "predictions/val/data")) == 2
    page = Path(client.download_artifacts(run.run_id, "predictions/val/index.html")).read_text()
    assert "The page holds every row of this run folder." in page and "has rows in other run folders too" in page


def test_rows_of_another_machine_arrive_in_the_same_table(client: MlflowClient, monkeypatch: pytest.MonkeyPatch):
    with dt.start_run() as run:
        run.table("val").append({**ROWS, "epoch": 0})
        place = RunPlace.of(run)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "another")
            watch = HostWatch.begin(place)
            there = HostWatch.folder_of(place)
            tables = OpenTables(there, "rank-0001")
            tables.get("val", None, None).append({**ROWS, "id": ["c", "d"], "epoch": 0})
        tables.close()
        watch.close()
    deadline = time.monotonic() + 60
    while len(rows := dt.load_predictions(run.run_id)) < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert rows.id.tolist() == ["a", "b", "c", "d"]
    assert not list(there.captured.rglob("index.html"))
    kept = [one.path for one in client.list_artifacts(run.run_id, "predictions/val") if "manifest" in one.path]
    told = [json.loads(Path(client.download_artifacts(run.run_id, path)).read_text()) for path in kept]
    assert sorted(one.get("is_other_host", False) for one in told) == [False, True]
    page = Path(client.download_artifacts(run.run_id, "predictions/val/index.html")).read_text()
    assert "The page holds every row of this run folder." in page and "has rows in other run folders too" in page


def test_a_project_below_a_folder_of_any_name_has_its_pages(tmp_path: Path):
    for place in ("hosts/project", ".dovetail/project"):
        folder = RunFolder.make(
            tmp_path / place,
            Description(version=VERSION, token="a" * 32, tracking_uri="sqlite:///no.db", start_time_ms=0),
        )
        tables = OpenTables(folder, "1")
        tables.get("val", None, None).append(ROWS)
        tables.close()
        finish_tables(folder, is_over=True)
        page = (folder.captured / "predictions" / "val" / "index.html").read_text()
        assert "The page holds every row of the table." in page and "other run folders" not in page


def test_a_column_of_the_name_that_runs_have_is_kept():
    with dt.start_run(run_name="named") as run:
        run.table("val").append({**ROWS, "run_id": ["x", "y"]})
    rows = dt.load_predictions("named")
    assert set(rows.run_id) == {run.run_id} and rows.logged_run_id.tolist() == ["x", "y"]


def test_a_policy_and_what_it_left_out(client: MlflowClient):
    with dt.start_run() as run:
        table = run.table("val", policy=First(1))
        table.append(ROWS)
    assert len(dt.load_predictions(run.run_id)) == 1
    manifest = json.loads(Path(client.download_artifacts(run.run_id, "predictions/val/manifest.json")).read_text())
    assert "first 1" in manifest["policy"]
    assert sum(manifest["left_out"].values()) == 1


def test_several_runs_below_each_other_and_as_arrow():
    for name in ("one", "two"):
        with dt.start_run(run_name=name) as run:
            run.table("val").append({**ROWS, "extra": 1.0} if name == "two" else ROWS)
    table = dt.load_predictions(["one", "two"], form="arrow")
    assert table.num_rows == 4 and table["extra"].null_count == 2
    assert dt.load_predictions("two", columns=["id"], form="arrow").column_names == ["run_id", "id"]


def test_what_is_not_there_is_an_error():
    with dt.start_run(run_name="none"):
        pass
    with dt.start_run(run_name="some") as run:
        run.table("test").append(ROWS)
    with pytest.raises(DovetailError, match="It has none"):
        dt.load_predictions("none")
    with pytest.raises(DovetailError, match="It has test"):
        dt.load_predictions("some")
    with pytest.raises(DovetailError, match="columns"):
        dt.load_predictions("some", "test", columns=["nothing"])


def test_a_wrong_batch_costs_no_other():
    with dt.start_run() as run:
        table = run.table("val")
        table.append(ROWS)
        for wrong in ({**ROWS, "more": [1, 2]}, {**ROWS, "label": [1]}, {"id": ["c"]}):
            with pytest.raises(DovetailError):
                table.append(wrong)
    assert len(dt.load_predictions(run.run_id)) == 2


def test_rows_that_the_disk_did_not_take_stop_no_training_and_are_in_the_status(client: MlflowClient):
    resource = pytest.importorskip("resource")
    with dt.start_run() as run:
        table = run.table("val")
        table.append(ROWS)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
        try:
            table.append({**ROWS, "id": ["x" * 100_000, "y"]})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert dt.load_predictions(run.run_id).id.tolist() == ["a", "b"]
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["dovetail.status.predictions"] == "degraded: rows lost: No space left on device ×2"


KILLED = """
import os, sys, time
import mlflow_dovetail as dt
run = dt.start_run(run_name="killed")
table = run.table("val")
for number in range(1000):
    table.append({"id": [f"{number}"], "label": [1], "prediction": [0]})
    print(number, flush=True)
    time.sleep(0.005)
"""


def test_a_killed_training_has_every_append_that_returned(client: MlflowClient, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        said = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().splitlines()
    last = max(int(line) for line in said if line.strip())
    deadline = time.monotonic() + 60
    while True:
        try:
            rows = dt.load_predictions("killed")
            break
        except DovetailError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    found = rows.id.astype(int).tolist()
    assert found == list(range(len(found))) and len(found) >= last + 1
