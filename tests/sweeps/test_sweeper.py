"""What a study does with its jobs and with what it is told, in this process: no job is recorded."""

from __future__ import annotations

import sys

import pytest

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.sweeps.study import Identity, open_study

GRID = "hydra/sweeper/sampler=grid"


class Task:
    """Returns `x`, and remembers which it was given; what it does in its place can be said."""

    def __init__(self, do=None):
        self.xs = []
        self._do = do

    def __call__(self, config):
        self.xs.append(config.x)
        if self._do:
            self._do(config.x)
        return config.x


def exits_at(x, code):
    return lambda given: sys.exit(code) if given == x else None


def test_a_job_that_exits_fails_alone_and_a_search_goes_on_past_it(multirun, family):
    task = Task(exits_at(0, "The data is not there."))
    assert multirun(task, GRID, "hydra.sweeper.params={x:'0,1,2'}") == "The data is not there."
    assert task.xs == [0, 1, 2]
    parent, _ = family()
    assert parent.status == "FAILED"

    again = Task()
    assert multirun(again, GRID, "hydra.sweeper.params={x:'0,1,2'}") is None
    assert again.xs == [0], "what failed is tried again by a grid"

    first = []

    def exits_once(x):
        first.append(x)
        if len(first) == 1:
            sys.exit(2)

    search = Task(exits_once)
    assert multirun(search, "hydra.sweeper.n_trials=2") == 2
    assert len(search.xs) == 2
    more = Task()
    assert multirun(more, "hydra.sweeper.n_trials=2") is None
    assert len(more.xs) == 1 and more.xs[0] not in search.xs


@pytest.mark.parametrize(("before", "after"), [("name=one", "name=two"), (None, "+y='[1,3]'")])
def test_another_fixed_value_in_params_is_another_study(multirun, before, after):
    def xs(fixed):
        key, _, value = (fixed or "").partition("=")
        task = Task()
        said = [f"+hydra.sweeper.params={{{key}:{value}}}"] if fixed else []
        assert multirun(task, GRID, "hydra.sweeper.params.x='0,1'", *said) is None
        return task.xs

    assert [xs(before), xs(after), xs(before)] == [[0, 1], [0, 1], []]


@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
def test_another_sweep_is_refused_without_telling_the_storages_password(tmp_path):
    """Optuna's own driver is asked, with a URL that names a password, which sqlite has no use for."""
    storage = f"sqlite:///{tmp_path / 'optuna.db'}?password=hunter2"
    open_study(storage, "one", Identity({"x": "1"}), "minimize")
    with pytest.raises(DovetailError, match="It is another sweep: x differ") as refused:
        open_study(storage, "one", Identity({"x": "2"}), "minimize")
    assert "optuna.db" in str(refused.value) and "hunter2" not in str(refused.value)
