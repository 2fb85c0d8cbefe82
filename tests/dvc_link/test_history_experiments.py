"""A run is found after all that DVC does to its experiments; what was not executed again is reused."""

from __future__ import annotations

import pytest

from mlflow_dovetail.dvc_link.history import links_at, revs_of
from mlflow_dovetail.errors import DovetailError

from .projects import Project, only, verdicts


def test_an_experiment_has_its_run_by_name_and_main_has_its_own(ran):
    first, b = ran.facts(), ran.commit("B")
    run = ran.experiment("one", "--temp", "-S", "lr=0.5")
    one = ran.experiment_commit("one")
    assert {rev.rev: (rev.names, rev.verdict) for rev in revs_of(ran.root, run)} == {one: (("one",), "exact")}
    assert only(links_at(ran.root, "one")).link.run_id == run.run_id
    assert only(links_at(ran.root, f"refs/exps/{b[:2]}/{b[2:]}/one")).rev == one
    assert verdicts(ran, first) == {b: "exact", "workspace": "exact"}


def test_an_experiment_that_leaves_the_stage_alone_has_the_run_of_its_baseline(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.dvc("exp", "run", "--quiet", "--temp", "--name", "other", "-S", "threshold=2")
    assert verdicts(ran, first) == {ran.experiment_commit("other"): "exact", b: "exact", "workspace": "exact"}


def test_an_experiment_in_the_workspace_that_is_committed_belongs_to_both(ran):
    ran.commit("B")
    run = ran.experiment("one", "-S", "lr=0.5")
    one = ran.experiment_commit("one")
    assert verdicts(ran, run) == {one: "exact", "workspace": "exact"}
    c = ran.commit("C")
    assert verdicts(ran, run) == {one: "exact", c: "exact", "workspace": "exact"}


def test_apply_and_a_commit(ran):
    ran.commit("B")
    run = ran.experiment("one", "--temp", "-S", "lr=0.5")
    ran.dvc("exp", "apply", "--quiet", "one")
    one = ran.experiment_commit("one")
    assert verdicts(ran, run) == {one: "exact", "workspace": "exact"}
    c = ran.commit("C")
    assert verdicts(ran, run) == {one: "exact", c: "exact", "workspace": "exact"}
    ran.dvc("exp", "remove", "--quiet", "one")
    assert verdicts(ran, run) == {ran.head: "exact", "workspace": "exact"}


def test_branch_and_rename(ran):
    ran.commit("B")
    run = ran.experiment("one", "--temp", "-S", "lr=0.5")
    one = ran.experiment_commit("one")
    ran.dvc("exp", "branch", "--quiet", "one", "from-one")
    ran.dvc("exp", "rename", "--quiet", "one", "best")
    assert [(rev.rev, set(rev.names), rev.verdict) for rev in revs_of(ran.root, run)] == [
        (one, {"best", "from-one"}, "exact")
    ]
    assert only(links_at(ran.root, "best")).rev == only(links_at(ran.root, "from-one")).rev == one


def test_save(ran):
    run = ran.facts()
    ran.dvc("exp", "save", "--quiet", "--name", "kept")
    assert verdicts(ran, run) == {ran.experiment_commit("kept"): "exact", "workspace": "exact"}


def test_push_clone_and_pull_on_another_machine(ran, tmp_path):
    first, b = ran.facts(), ran.commit("B")
    run = ran.experiment("one", "--temp", "-S", "lr=0.5")
    one = ran.experiment_commit("one")
    ran.git("init", "--quiet", "--bare", str(tmp_path / "bare"))
    ran.git("remote", "add", "origin", str(tmp_path / "bare"))
    ran.git("push", "--quiet", "origin", "main")
    ran.dvc("exp", "push", "--quiet", "--no-cache", "origin", "one")
    ran.git("clone", "--quiet", str(tmp_path / "bare"), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert revs_of(clone.root, run) == []
    clone.dvc("exp", "pull", "--quiet", "--no-cache", "origin", "one")
    assert verdicts(clone, run) == {one: "exact"}
    assert only(links_at(clone.root, "one")).link.token == run.token
    assert verdicts(clone, first) == {b: "exact", "workspace": "exact"}


def test_a_run_cache_hit_is_reused_and_the_first_is_not(ran):
    ran.commit("B")
    run = ran.experiment("one", "--temp", "-S", "lr=0.5")
    ran.write(README="more")
    ran.commit("C")
    again = ran.experiment("two", "--temp", "-S", "lr=0.5")
    one, two = ran.experiment_commit("one"), ran.experiment_commit("two")
    assert again.token == run.token
    assert verdicts(ran, run) == {one: "exact", two: "reused"}
    ran.dvc("exp", "rename", "--quiet", "one", "renamed")
    assert verdicts(ran, run) == {one: "exact", two: "reused"}


def test_an_experiment_with_the_result_of_a_commit_is_reused(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.edit("params.yaml", "0.2", "0.3")
    ran.repro()
    ran.commit("C")
    ran.dvc("exp", "run", "--quiet", "--temp", "--name", "back", "-S", "lr=0.2")
    assert verdicts(ran, first) == {b: "exact", ran.experiment_commit("back"): "reused"}


def test_a_run_cache_hit_in_the_workspace_is_reused_also_when_committed(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.edit("params.yaml", "0.2", "0.3")
    ran.repro()
    ran.commit("C")
    ran.edit("params.yaml", "0.3", "0.2")
    assert ran.repro().token == first.token
    assert verdicts(ran, first) == {b: "exact", "workspace": "reused"}
    d = ran.commit("D")
    assert verdicts(ran, first) == {b: "exact", d: "reused", "workspace": "exact"}


def test_force_makes_another_run_of_the_same_inputs(ran):
    first, b = ran.facts(), ran.commit("B")
    second = ran.repro("--force")
    assert (second.input_id == first.input_id, second.token == first.token) == (True, False)
    c = ran.commit("C")
    assert verdicts(ran, first) == {b: "exact"}
    assert verdicts(ran, second) == {c: "exact", "workspace": "exact"}


def test_one_name_on_two_baselines(ran):
    ran.commit("B")
    first = ran.experiment("same", "--temp", "-S", "lr=0.5")
    one = ran.experiment_commit("same")
    ran.write(README="more")
    c = ran.commit("C")
    ran.dvc("exp", "run", "--quiet", "--temp", "--name", "same", "-S", "lr=0.6")
    two = ran.git("rev-parse", f"refs/exps/{c[:2]}/{c[2:]}/same")
    assert only(links_at(ran.root, "same")).rev == two  # DVC too prefers the one of HEAD
    assert verdicts(ran, first) == {one: "exact"}
    ran.git("switch", "--quiet", "--detach", "HEAD~1")
    assert only(links_at(ran.root, "same")).rev == one
    ran.git("switch", "--quiet", "main")
    ran.write(README="even more")
    ran.commit("D")
    with pytest.raises(DovetailError, match="Give the experiment's commit"):
        links_at(ran.root, "same")
