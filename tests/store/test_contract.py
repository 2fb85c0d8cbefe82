"""What every store must do, run against each of them: memory, sqlite, and a real server over http."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import mlflow
import pytest
from lossy_proxy import losing_first_answer
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_dovetail import store
from mlflow_dovetail.errors import RunNotFound, StoreRefused, StoreUnavailable
from mlflow_dovetail.records import Artifact, DatasetInput, MetricPoint, Run
from mlflow_dovetail.store import MlflowStore, RunStore


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def new_token() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def run(run_store) -> Run:
    return run_store.create_run(new_token(), name=f"run {uuid.uuid4().hex}")


def point(key: str, value: float, step: int = 0, timestamp_ms: int = 1000) -> MetricPoint:
    return MetricPoint(key, value, step, timestamp_ms)


# Creation


def test_a_new_run_is_running_and_has_what_was_given(run_store: RunStore):
    token = new_token()
    made = run_store.create_run(token, name="first", tags={"who": "me"}, start_time_ms=1_700_000_000_000)
    read = run_store.get_run(made.run_id)
    assert read == made
    assert (read.token, read.name, read.status) == (token, "first", "RUNNING")
    assert (read.start_time_ms, read.end_time_ms) == (1_700_000_000_000, None)
    assert read.tags["who"] == "me"
    assert (read.experiment_name, read.experiment_id) == (run_store.experiment, run_store.experiment_id)


def test_the_same_token_gives_the_same_run(run_store: RunStore):
    token = new_token()
    assert run_store.create_run(token).run_id == run_store.create_run(token, name="again").run_id
    assert run_store.create_run(new_token()).run_id != run_store.create_run(token).run_id


def test_the_store_names_a_run_that_has_no_name(run_store: RunStore):
    assert run_store.create_run(new_token()).name


def test_long_tags_are_cut_at_creation_and_later(run_store: RunStore):
    made = run_store.create_run(new_token(), tags={"first": "x" * 9000})
    run_store.set_tags(made.run_id, {"later": "y" * 9000})
    tags = run_store.get_run(made.run_id).tags
    assert (tags["first"], tags["later"]) == ("x" * 8000, "y" * 8000)


# Finding


def test_a_run_is_found_by_id_token_their_beginnings_and_name(run_store: RunStore, run: Run):
    for text in (run.run_id, run.token, run.run_id[:12], run.token[:12], run.name):
        assert run_store.find_run(text).run_id == run.run_id


def test_what_is_found_is_the_whole_run(run_store: RunStore, run: Run):
    run_store.log_params(run.run_id, {"lr": "0.1"})
    assert run_store.find_run(run.name) == run_store.get_run(run.run_id)
    assert run_store.find_run(run.name).params == {"lr": "0.1"}


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "ends in %", "under_score", "naïve ☂"])
def test_names_with_signs_of_the_search_language_are_found(run_store: RunStore, name: str):
    made = run_store.create_run(new_token(), name=name)
    assert run_store.find_run(name).run_id == made.run_id


def test_an_ambiguous_name_lists_five_candidates(run_store: RunStore):
    made = {run_store.create_run(new_token(), name="twin").run_id for _ in range(7)}
    with pytest.raises(RunNotFound, match="more digits") as caught:
        run_store.find_run("twin")
    assert sum(run_id in caught.value.why for run_id in made) == 5
    assert "and more" in caught.value.why


@pytest.mark.parametrize("text", ["f" * 32, "no such name", "%", "_", "", "'\"", "a`b"])
def test_nothing_found_says_what_to_do(run_store: RunStore, run: Run, text: str):
    with pytest.raises(RunNotFound, match=r"id"):
        run_store.find_run(text)


def test_children_are_found_by_tag_the_oldest_first(run_store: RunStore, run: Run):
    tags = {"mlflow.parentRunId": run.run_id}
    made = [run_store.create_run(new_token(), tags=tags, start_time_ms=start).run_id for start in (3000, 1000, 2000)]
    assert [child.run_id for child in run_store.search("mlflow.parentRunId", run.run_id)] == [made[1], made[2], made[0]]
    assert run_store.search("mlflow.parentRunId", "nobody") == []


# Metrics


def test_more_metrics_than_a_batch_holds_all_arrive(run_store: RunStore, run: Run):
    points = [point("loss", 1 / (step + 1), step, 1000 + step) for step in range(2500)]
    run_store.log_metrics(run.run_id, points)
    assert run_store.metric_history(run.run_id, "loss") == points
    assert run_store.get_run(run.run_id).metrics == {"loss": 1 / 2500}


def test_the_last_value_is_the_one_at_the_largest_step(run_store: RunStore, run: Run):
    run_store.log_metrics(run.run_id, [point("acc", 0.9, step=5), point("acc", 0.1, step=2, timestamp_ms=9999)])
    assert run_store.get_run(run.run_id).metrics == {"acc": 0.9}


def test_the_step_of_each_last_value_is_known(run_store: RunStore, run: Run):
    run_store.log_metrics(
        run.run_id,
        [point("acc", 0.9, step=5), point("acc", 0.1, step=2), point("once", 1.0), point("below", 1.0, step=-3)],
    )
    assert run_store.get_run(run.run_id).metric_steps == {"acc": 5, "once": 0, "below": -3}
    run_store.log_metrics(run.run_id, [point("acc", 0.2, step=2**40)])
    assert run_store.get_run(run.run_id).metric_steps["acc"] == 2**40
    assert run_store.find_run(run.name).metric_steps == run_store.get_run(run.run_id).metric_steps


def test_a_run_without_metrics_has_no_steps(run_store: RunStore, run: Run):
    assert run_store.get_run(run.run_id).metric_steps == {}


def test_a_point_sent_twice_is_there_once(run_store: RunStore, run: Run):
    points = [point("acc", 0.5, step) for step in range(3)]
    run_store.log_metrics(run.run_id, points)
    run_store.log_metrics(run.run_id, points)
    assert run_store.metric_history(run.run_id, "acc") == points


def test_nan_is_kept_and_infinity_becomes_the_largest_float(run_store: RunStore, run: Run):
    run_store.log_metrics(run.run_id, [point("nan", math.nan), point("up", math.inf), point("down", -math.inf)])
    metrics = run_store.get_run(run.run_id).metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["up"], metrics["down"]) == pytest.approx((sys.float_info.max, -sys.float_info.max), rel=1e-3)


def test_a_metric_that_was_never_logged_has_no_history(run_store: RunStore, run: Run):
    assert run_store.metric_history(run.run_id, "nothing") == []


@pytest.mark.parametrize("key", ["acc@1", "f(x)", "", "k" * 251])
def test_a_metric_name_that_mlflow_refuses_is_refused(run_store: RunStore, run: Run, key: str):
    with pytest.raises(StoreRefused):
        run_store.log_metrics(run.run_id, [point(key, 1.0)])


def test_no_points_are_fine(run_store: RunStore, run: Run):
    run_store.log_metrics(run.run_id, [])
    assert run_store.get_run(run.run_id).metrics == {}


# Params and tags


def test_more_params_than_a_batch_holds_all_arrive(run_store: RunStore, run: Run):
    params = {f"p{index}": str(index) for index in range(250)}
    run_store.log_params(run.run_id, params)
    run_store.log_params(run.run_id, params)
    assert run_store.get_run(run.run_id).params == params


def test_a_param_that_changes_is_refused_and_keeps_its_value(run_store: RunStore, run: Run):
    run_store.log_params(run.run_id, {"lr": "0.1"})
    with pytest.raises(StoreRefused, match="lr") as caught:
        run_store.log_params(run.run_id, {"lr": "0.2"})
    assert caught.value.remedy
    assert run_store.get_run(run.run_id).params == {"lr": "0.1"}


def test_a_long_param_is_cut_at_the_limit(run_store: RunStore, run: Run):
    run_store.log_params(run.run_id, {"text": "x" * 7000})
    assert run_store.get_run(run.run_id).params == {"text": "x" * 6000}


def test_tags_are_set_and_replaced(run_store: RunStore, run: Run):
    run_store.set_tags(run.run_id, {f"t{index}": "old" for index in range(150)})
    run_store.set_tags(run.run_id, {"t0": "new"})
    tags = run_store.get_run(run.run_id).tags
    assert (tags["t0"], tags["t149"], tags["dovetail.token"]) == ("new", "old", run.token)


def test_the_name_tag_renames_the_run(run_store: RunStore, run: Run):
    run_store.set_tags(run.run_id, {"mlflow.runName": "renamed"})
    assert run_store.get_run(run.run_id).name == "renamed"


# Inputs and artifacts


def test_datasets_come_back_as_they_went(run_store: RunStore, run: Run):
    train = DatasetInput("digits", "0123456789abcdef0123456789abcdef.dir", "data/digits", "train")
    other = DatasetInput("labels", "ff", "s3://bucket/labels.csv", "", "s3")
    run_store.log_inputs(run.run_id, [train])
    run_store.log_inputs(run.run_id, [train, other])
    assert set(run_store.get_run(run.run_id).inputs) == {train, other}
    assert len(run_store.get_run(run.run_id).inputs) == 2


def test_artifacts_are_listed_in_all_folders(run_store: RunStore, run: Run, tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"12345")
    for folder in ("b/deep", None, "a"):
        run_store.log_artifact(run.run_id, file, folder)
    expected = [Artifact(path, 5) for path in ("a/notes.txt", "b/deep/notes.txt", "notes.txt")]
    assert run_store.list_artifacts(run.run_id) == expected


def test_an_artifact_of_the_same_name_is_replaced(run_store: RunStore, run: Run, tmp_path: Path):
    file = tmp_path / "notes.txt"
    for content in (b"long text", b"short"):
        file.write_bytes(content)
        run_store.log_artifact(run.run_id, file)
    assert run_store.list_artifacts(run.run_id) == [Artifact("notes.txt", 5)]


def test_a_run_without_artifacts_lists_none(run_store: RunStore, run: Run):
    assert run_store.list_artifacts(run.run_id) == []


@pytest.mark.parametrize("path", ["notes.txt", "a/notes.txt", "b/deep/two words, 50% é.txt"])
def test_an_artifact_comes_back_as_it_went(run_store: RunStore, run: Run, tmp_path: Path, path: str):
    file = tmp_path / Path(path).name
    file.write_bytes(bytes(range(256)) * 100)
    run_store.log_artifact(run.run_id, file, str(Path(path).parent) if "/" in path else None)
    into = tmp_path / "into" / "a folder that is not there"
    copy = run_store.read_artifact(run.run_id, path, into)
    assert copy == into / path
    assert copy.read_bytes() == file.read_bytes()
    file.write_bytes(b"replaced")
    run_store.log_artifact(run.run_id, file, str(Path(path).parent) if "/" in path else None)
    assert run_store.read_artifact(run.run_id, path, into).read_bytes() == b"replaced"


@pytest.mark.parametrize("path", ["missing.txt", "a/missing.txt", "a", "a/notes.txt/x", ""])
def test_an_artifact_that_is_not_there_is_said_to_be_missing(run_store: RunStore, run: Run, tmp_path: Path, path: str):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"12345")
    run_store.log_artifact(run.run_id, file, "a")
    with pytest.raises(StoreRefused, match=f"dovetail show {run.run_id}"):
        run_store.read_artifact(run.run_id, path, tmp_path / "into")


@pytest.mark.parametrize(("name", "why"), [("missing.txt", "no such file"), (".", "is a folder")])
def test_what_is_not_a_file_is_refused(run_store: RunStore, run: Run, tmp_path: Path, name: str, why: str):
    with pytest.raises(StoreRefused, match=why):
        run_store.log_artifact(run.run_id, tmp_path / name)


# Status


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_an_end_has_a_time(run_store: RunStore, run: Run, status):
    run_store.set_status(run.run_id, status)
    ended = run_store.get_run(run.run_id)
    assert ended.status == status
    assert ended.end_time_ms >= run.start_time_ms


def test_the_end_can_lie_in_the_past(run_store: RunStore, run: Run):
    run_store.set_status(run.run_id, "KILLED", end_time_ms=1_700_000_000_000)
    assert run_store.get_run(run.run_id).end_time_ms == 1_700_000_000_000


def test_a_run_that_goes_on_keeps_the_time_of_its_last_end(run_store: RunStore, run: Run):
    run_store.set_status(run.run_id, "FINISHED", end_time_ms=1_700_000_000_000)
    run_store.set_status(run.run_id, "RUNNING")
    again = run_store.get_run(run.run_id)
    assert (again.status, again.end_time_ms) == ("RUNNING", 1_700_000_000_000)


# Every verb


VERBS = {
    "get_run": lambda kept, run_id: kept.get_run(run_id),
    "metric_history": lambda kept, run_id: kept.metric_history(run_id, "loss"),
    "log_metrics": lambda kept, run_id: kept.log_metrics(run_id, [point("loss", 1.0)]),
    "log_params": lambda kept, run_id: kept.log_params(run_id, {"lr": "1"}),
    "set_tags": lambda kept, run_id: kept.set_tags(run_id, {"a": "b"}),
    "log_inputs": lambda kept, run_id: kept.log_inputs(run_id, [DatasetInput("d", "ff", "d.csv")]),
    "log_artifact": lambda kept, run_id: kept.log_artifact(run_id, Path(__file__)),
    "read_artifact": lambda kept, run_id: kept.read_artifact(run_id, "notes.txt", Path("into")),
    "list_artifacts": lambda kept, run_id: kept.list_artifacts(run_id),
    "set_status": lambda kept, run_id: kept.set_status(run_id, "FINISHED"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_not_there_is_said_to_be_missing(run_store: RunStore, verb: str):
    with pytest.raises(RunNotFound):
        VERBS[verb](run_store, "0" * 32)


def test_threads_share_a_store_and_leave_the_environment_as_it_was(run_store: RunStore, run: Run):
    environment = dict(os.environ)
    points = [[point("loss", float(thread), step, thread) for step in range(100)] for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda batch: run_store.log_metrics(run.run_id, batch), points))
    kept = run_store.metric_history(run.run_id, "loss")
    assert len(kept) == 400
    assert set(kept) == set(chain(*points))
    assert dict(os.environ) == environment


def test_closing_twice_is_fine_and_the_runs_stay(run_store: RunStore, run: Run):
    run_store.close()
    run_store.close()
    assert run_store.get_run(run.run_id).token == run.token


# A store that does not answer


@pytest.fixture
def unreachable() -> MlflowStore:
    return MlflowStore(MlflowClient(f"http://127.0.0.1:{free_port()}"), "nowhere", "1")


ALL_VERBS = {
    **VERBS,
    "create_run": lambda kept, _: kept.create_run(new_token()),
    "find_run": lambda kept, run_id: kept.find_run(run_id),
    "search": lambda kept, run_id: kept.search("mlflow.parentRunId", run_id),
    "search_data": lambda kept, _: kept.search_data("0" * 32),
    "models_of": lambda kept, run_id: kept.models_of(run_id),
}


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_server_that_is_not_there_is_said_to_be_unavailable_soon(unreachable: MlflowStore, verb: str):
    environment = dict(os.environ)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Check that the server runs") as caught:
        ALL_VERBS[verb](unreachable, "0" * 32)
    assert time.monotonic() - begun < 5
    assert "refused" in caught.value.why
    assert isinstance(caught.value.__cause__, MlflowException)
    assert dict(os.environ) == environment


def test_every_verb_of_the_contract_is_tried_above():
    verbs = {name for name, value in vars(RunStore).items() if callable(value) and not name.startswith("_")}
    assert verbs - {"close"} == set(ALL_VERBS)


def test_a_server_that_accepts_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # also: the user's own limit is the one that counts
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = MlflowStore(MlflowClient(f"http://127.0.0.1:{silent.getsockname()[1]}"), "nowhere", "1")
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="timed out"):
            hanging.get_run("0" * 32)
        assert time.monotonic() - begun < 6
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_an_answer_that_is_lost_after_the_commit_makes_no_second_run(server: str):
    experiment = f"lost answer {new_token()[:8]}"
    with store.open(server, experiment) as direct, losing_first_answer(server, "/runs/create") as address:
        token = new_token()
        with store.open(address, experiment) as through:
            made = through.create_run(token, name="once")
        assert [run.run_id for run in direct.search("dovetail.token", token)] == [made.run_id]


# What a store leaves alone


@pytest.mark.parametrize("run_store", ["sqlite", "http"], indirect=True)
def test_mlflows_global_state_is_left_alone(run_store: RunStore, run: Run):
    before = mlflow.get_tracking_uri()
    run_store.log_params(run.run_id, {"lr": "0.1"})
    assert mlflow.get_tracking_uri() == before != run_store.uri
    assert mlflow.active_run() is None


def test_runs_are_found_by_what_is_within_a_tag(run_store: RunStore):
    first, second = (run_store.create_run(uuid.uuid4().hex, name=name) for name in ("first", "second"))
    md5 = uuid.uuid4().hex
    run_store.set_tags(first.run_id, {"data": f'{{"a%b_c": "{md5}.dir"}}'})
    run_store.set_tags(second.run_id, {"data": f'{{"aXbXc": "{md5.upper()}"}}'})
    assert [run.name for run in run_store.search("data", md5, within=True)] == ["first"]
    assert [run.name for run in run_store.search("data", f'a%b_c": "{md5}', within=True)] == ["first"]
    assert run_store.search("data", md5) == []


def test_runs_are_found_by_the_digest_of_their_data(run_store: RunStore):
    first, second = (run_store.create_run(new_token(), name=name) for name in ("first", "second"))
    digest = uuid.uuid4().hex
    run_store.log_inputs(first.run_id, [DatasetInput("digits", digest, "data/digits.csv", "train")])
    run_store.log_inputs(second.run_id, [DatasetInput("digits", digest[::-1], "data/digits.csv", "train")])
    assert [run.name for run in run_store.search_data(digest)] == ["first"]
    assert run_store.search_data("nothing") == []


def test_a_run_has_no_registered_model_and_an_unknown_one_is_an_error(run_store: RunStore):
    run = run_store.create_run(uuid.uuid4().hex)
    assert run_store.models_of(run.run_id) == []
    for text in ("models:/nothing/1", "models:/nothing@best", "models:/nothing", "models:/"):
        with pytest.raises(RunNotFound):
            run_store.find_run(text)


@pytest.mark.parametrize("kind", ["sqlite", "http"])
def test_a_registered_model_leads_to_its_run_and_back(kind: str, request: pytest.FixtureRequest):
    uri = f"sqlite:///{request.getfixturevalue('database')}" if kind == "sqlite" else request.getfixturevalue("server")
    with store.open(uri, f"models {uuid.uuid4().hex[:8]}") as opened:
        run = opened.create_run(new_token(), name="registered")
        client = MlflowClient(uri)
        name = f"digits {uuid.uuid4().hex[:8]}"
        client.create_registered_model(name)
        client.create_model_version(name, "s3://bucket/model", run.run_id)
        client.create_model_version(name, "s3://bucket/model")
        client.set_registered_model_alias(name, "best", "1")
        assert opened.models_of(run.run_id) == [f"{name}/1"]
        for text in (f"models:/{name}/1", f"models:/{name}@best"):
            assert opened.find_run(text).run_id == run.run_id
        with pytest.raises(RunNotFound, match="made by no run"):
            opened.find_run(f"models:/{name}/2")
