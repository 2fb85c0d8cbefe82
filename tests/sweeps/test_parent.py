"""What a parent says of its children, and what a multirun varies: pure."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mlflow_dovetail import names
from mlflow_dovetail.records import Run
from mlflow_dovetail.sweeps.parent import best_of, progress
from mlflow_dovetail.sweeps.space import count_jobs, swept


def run(name, status="FINISHED", value=None, cause=None, job=None):
    tags = {names.TAG_SWEEP_VALUE: value, names.TAG_END_CAUSE: cause, names.TAG_SWEEP_JOB: job}
    return Run(name, None, name, status, "1", "jobs", 0, None, "", tags={key: one for key, one in tags.items() if one})


@pytest.mark.parametrize(
    ("children", "direction", "best"),
    [
        ([run("a", value="1"), run("b", value="2")], "maximize", "b"),
        ([run("a", value="1"), run("b", value="2")], "minimize", "a"),
        ([run("a", value="1"), run("b", value="2")], None, None),
        ([run("a", value="1"), run("b", value="1")], "maximize", "a"),
        ([run("a", value="-1"), run("b", "FAILED", "2"), run("c", "KILLED", "3")], "maximize", "a"),
        ([run("a", value="-inf"), run("b", value="nan"), run("c", value="5"), run("d")], "minimize", "c"),
        ([run("a", "RUNNING", "2"), run("b")], "minimize", None),
        ([], "minimize", None),
    ],
)
def test_the_best_child_is_finished_and_has_a_value(children, direction, best):
    found = best_of(children, direction)
    assert (found and found.name) == best


@pytest.mark.parametrize(
    ("children", "total", "text"),
    [
        ([run("a", job="0"), run("b", job="1")], 2, "2 of 2"),
        ([run("fold 1", job="0"), run("fold 2", job="0")], 2, "1 of 2"),
        ([run("a"), run("b", "FAILED", cause="exception: ValueError")], 4, "1 of 4, 1 failed"),
        (
            [run("a", "FAILED", cause="vanished"), run("b", "KILLED"), run("c", "RUNNING")],
            3,
            "0 of 3, 1 running, 2 cut off",
        ),
        ([run("a", "FAILED", cause="out of memory")], None, "0 done, 1 failed"),
    ],
)
def test_progress_tells_what_failed_from_what_was_cut_off(children, total, text):
    assert progress(children, total) == text


def test_a_study_counts_the_jobs_that_have_returned_a_number():
    """It runs others for those that have not, and would count more than there are."""
    children = [run("a", job="0", value="1"), run("b", job="1"), run("c", job="2", value="nan")]
    assert (progress(children, 2, is_study=True), progress(children, 3)) == ("1 of 2", "3 of 3")


@pytest.mark.parametrize(
    ("overrides", "params", "keys", "jobs"),
    [
        (["x=1,2", "y=a,b,c", "z=1"], {}, {"x", "y"}, 6),
        (["x=1"], {"x": "1,2,3", "y": "range(4)"}, {"y"}, 4),
        (["+x=choice(1,2)"], {}, {"+x"}, 2),
        (["model=glob(*)"], {}, {"model"}, None),
        (["x=interval(0,1)"], {}, {"x"}, None),
        ([], {}, set(), 1),
    ],
)
def test_what_a_multirun_varies(overrides, params, keys, jobs):
    config = OmegaConf.create({"hydra": {"overrides": {"task": overrides}, "sweeper": {"params": params}}})
    assert set(swept(config)) == keys
    assert count_jobs(config) == jobs


def test_a_sampler_has_as_many_jobs_as_it_is_told():
    config = OmegaConf.create({"hydra": {"overrides": {"task": ["x=interval(0,1)"]}, "sweeper": {"n_trials": 7}}})
    assert count_jobs(config) == 7
