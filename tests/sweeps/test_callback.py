"""A multirun is one parent run, which ends with the truth about its jobs; the store never stops a sweep."""

from __future__ import annotations

import signal
import time

import pytest

from mlflow_dovetail import names


def test_a_multirun_is_one_parent_with_a_child_a_job(program, family):
    code, output = program.run("-m", "x=1,2", "name=search")
    assert code == 0, output
    parent, children = family()
    assert (parent.name, parent.status) == ("search", "FINISHED")
    assert [(child.params["x"], child.status) for child in children] == [("1", "FINISHED"), ("2", "FINISHED")]
    assert parent.tags[names.TAG_SWEEP] == "x=1,2 name=search"
    assert names.TAG_HOST in parent.tags
    assert parent.token == parent.tags[names.TAG_TOKEN]
    assert "Warning" not in output


def test_the_sweepers_own_params_are_told_and_secrets_masked(program, family):
    with (program.folder / "config.yaml").open("a") as config:
        config.write("  sweeper: {params: {x: '3,4'}}\n")
    code, output = program.run("-m", "api_key=hunter2")
    assert code == 0, output
    parent, children = family()
    assert [child.params["x"] for child in children] == ["3", "4"]
    assert "x=3,4" in parent.tags[names.TAG_SWEEP]
    assert "hunter2" not in str(parent.tags)


def test_a_plain_run_is_left_alone(program_without_store):
    code, output = program_without_store.run("x=1", "logged=false")
    assert code == 0, output
    assert program_without_store.jobs() == {"1": ""}
    assert "Warning" not in output


def test_a_failed_job_fails_the_parent(program, family):
    code, output = program.run("-m", "x=1,fails,2")
    assert code != 0
    assert "this job fails" in output
    parent, children = family()
    assert parent.status == "FAILED"
    # Hydra's launcher goes on with the jobs after it.
    assert [child.status for child in children] == ["FINISHED", "FAILED", "FINISHED"]


def test_a_job_that_exits_fails_the_parent(program, family):
    code, output = program.run("-m", "x=1,exits,2")
    assert code != 0
    assert "this job exits" in output
    parent, children = family()
    assert (parent.status, len(children)) == ("FAILED", 2)


def test_jobs_that_make_no_run_are_believed_by_hydra(program, family):
    """They may log elsewhere, or not at all."""
    code, output = program.run("-m", "x=1,2", "logged=false")
    assert code == 0, output
    parent, children = family()
    assert (parent.status, children) == ("FINISHED", [])


@pytest.mark.parametrize("job", ["waits", "converts"])
def test_ctrl_c_kills_the_parent(program, family, job):
    process = program.start("-m", f"x=1,{job},2")
    program.wait_for("waiting", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    parent, children = family()
    assert (parent.status, len(children)) == ("KILLED", 2)


def test_a_store_that_does_not_answer_does_not_stop_the_sweep(program_without_store):
    start = time.monotonic()
    code, output = program_without_store.run("-m", "x=1,2", "logged=false")
    assert code == 0, output
    assert program_without_store.jobs() == {"1": "", "2": ""}
    assert "SweepCallback.on_multirun_start raised StoreUnavailable: Cannot open http://127.0.0.1:9" in output
    assert time.monotonic() - start < 60


def test_a_wrong_override_ends_without_a_dangling_parent(program, family):
    code, output = program.run("-m", "y=1,2")
    assert code != 0
    assert "'y' is not in" in output
    parent, children = family()
    assert (parent.status, children) == ("FAILED", [])
