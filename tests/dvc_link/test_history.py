"""A run is found at the revisions that have its result, and at no other, after all that git and DVC do to it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec
import pytest

from mlflow_dovetail.dvc_link import locks
from mlflow_dovetail.dvc_link.history import LinkAt, RunFacts, judge, links_at, revs_of, unfinished_at
from mlflow_dovetail.dvc_link.identity import link_token
from mlflow_dovetail.errors import DovetailError

from .conftest import PARAMS, TRAIN, Project, make_project

NOT_THERE = RunFacts("f" * 32, "e" * 32, "FINISHED", link_token="d" * 32)


def verdicts(project: Project, run: RunFacts) -> dict[str, str]:
    """By revision; "workspace" as it is."""
    found = revs_of(project.root, run)
    assert len({(rev.rev, rev.link) for rev in found}) == len(found)
    return {rev.rev: rev.verdict for rev in found}


def only(links: list[LinkAt]) -> LinkAt:
    (link,) = links
    return link


# --- commits


def test_a_run_on_dirty_commit_a_committed_as_b_belongs_to_b(ran):
    run, a = ran.facts(), ran.head
    assert verdicts(ran, run) == {"workspace": "uncommitted"}
    b = ran.commit("B")
    assert verdicts(ran, run) == {b: "exact", "workspace": "exact"}
    assert links_at(ran.root, a) == []
    link = only(links_at(ran.root, "HEAD"))
    assert (link.rev, link.link.run_id, link.stage, link.lock) == (b, run.run_id, "train", "dvc.lock")
    assert (link.input_id, link.token, link.lock_token) == (run.input_id, run.link_token, run.link_token)
    assert judge(link, run) == ("exact", ())


def test_the_workspace_has_its_links_before_a_commit(ran):
    link = only(links_at(ran.root, "workspace"))
    assert (link.rev, link.link.token) == ("workspace", ran.facts().token)


def test_a_run_that_no_revision_has_is_an_orphan(ran):
    run = ran.facts()
    ran.git("checkout", "--quiet", ".")
    ran.git("clean", "--quiet", "--force")
    assert revs_of(ran.root, run) == []
    assert revs_of(ran.root, NOT_THERE) == []


def test_an_amended_commit_has_the_run_and_the_one_before_has_not(ran):
    run, before = ran.facts(), ran.commit("B")
    ran.git("commit", "--quiet", "--amend", "--message", "better")
    assert ran.head != before
    assert verdicts(ran, run) == {ran.head: "exact", "workspace": "exact"}


def rebased(project: Project) -> tuple[RunFacts, str]:
    run = project.facts()
    project.git("switch", "--quiet", "--create", "side")
    before = project.commit("B")
    project.git("switch", "--quiet", "main")
    project.write(README="more")
    project.commit("on main")
    return run, before


def test_a_rebased_commit_has_the_run(ran):
    run, before = rebased(ran)
    ran.git("rebase", "--quiet", "main", "side")
    assert ran.head != before
    assert verdicts(ran, run) == {ran.head: "exact", "workspace": "exact"}


def test_a_cherry_picked_and_a_squashed_commit_have_the_run_as_the_first_one_has(ran):
    run, before = rebased(ran)
    ran.git("cherry-pick", "side")
    picked = ran.head
    ran.git("switch", "--quiet", "--create", "squash", "main~1")
    ran.git("merge", "--quiet", "--squash", "side")
    squashed = ran.commit("squashed")
    assert verdicts(ran, run) == dict.fromkeys([before, picked, squashed, "workspace"], "exact")


def test_a_merge_is_a_tip_that_has_the_run(ran):
    run, before = rebased(ran)
    ran.git("merge", "--quiet", "side")
    assert verdicts(ran, run) == {before: "exact", ran.head: "exact", "workspace": "exact"}


def test_a_merge_that_itself_brings_the_run_is_found(ran):
    rebased(ran)
    ran.git("merge", "--quiet", "--no-commit", "side")
    ran.edit("params.yaml", "0.2", "0.3")
    run = ran.repro()
    merge = ran.commit("merged and run")
    ran.write(README="later")
    later = ran.commit("later")
    assert verdicts(ran, run) == {merge: "exact", later: "exact", "workspace": "exact"}


def test_branches_tags_and_remote_branches_are_the_names(ran, tmp_path):
    run, b = ran.facts(), ran.commit("B")
    ran.git("branch", "topic/one")
    ran.git("tag", "v1")
    ran.git("tag", "--annotate", "v2", "--message", "second")
    ran.git("init", "--quiet", "--bare", str(tmp_path / "bare"))
    ran.git("remote", "add", "origin", str(tmp_path / "bare"))
    ran.git("push", "--quiet", "origin", "main")
    here = revs_of(ran.root, run)[0]
    assert here.rev == b
    assert set(here.names) == {"main", "topic/one", "v1", "v2", "origin/main"}
    for name in [*here.names, b[:8], "HEAD", "@", "refs/heads/main", "main^0"]:
        assert only(links_at(ran.root, name)).rev == b


def test_a_later_commit_is_listed_only_while_a_ref_is_on_it(ran):
    run, b = ran.facts(), ran.commit("B")
    for number in range(3):
        ran.write(README=str(number))
        ran.commit()
    assert verdicts(ran, run) == {ran.head: "exact", b: "exact", "workspace": "exact"}
    assert [rev.names for rev in revs_of(ran.root, run) if rev.rev == b] == [()]


def test_a_detached_head_is_a_tip(ran):
    run, b = ran.facts(), ran.commit("B")
    ran.git("switch", "--quiet", "--detach")
    ran.write(README="detached")
    detached = ran.commit()
    found = {rev.rev: rev.names for rev in revs_of(ran.root, run)}
    assert found == {detached: ("HEAD",), b: ("main",), "workspace": ()}


def test_a_stash_is_no_revision(ran):
    run = ran.facts()
    ran.git("add", "--all")
    ran.git("stash")
    assert revs_of(ran.root, run) == []


def test_a_result_that_a_revert_brings_back_is_reused(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.edit("params.yaml", "0.2", "0.3")
    ran.repro()
    ran.commit("C")
    ran.git("revert", "--no-edit", "HEAD")
    assert verdicts(ran, first) == {b: "exact", ran.head: "reused", "workspace": "exact"}


def test_a_moved_project_folder_is_not_a_second_time(tmp_path, own_home):
    project = make_project(tmp_path / "repo", {f"one/{name}": text for name, text in small_stage().items()})
    project.dvc("repro", "--quiet", "one/dvc.yaml")
    before = project.facts(link="one/mlflow_run.json", lock="one/dvc.lock")
    b = project.commit("B")
    project.git("mv", "one", "two")
    moved = project.commit("moved")
    assert [(rev.rev, rev.verdict, rev.link) for rev in revs_of(project.root, before) if rev.rev != "workspace"] == [
        (moved, "exact", "two/mlflow_run.json"), (b, "exact", "one/mlflow_run.json"),
    ]  # fmt: skip


# --- DVC's experiments


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
    ran.write(README="even more")
    ran.commit("D")
    with pytest.raises(DovetailError, match="Give the experiment's commit"):
        links_at(ran.root, "same")


# --- failures


def test_a_failed_stage_leaves_a_link_in_the_workspace_that_says_failed(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.edit("params.yaml", "crash: false", "crash: true")
    ran.dvc("repro", code=255)
    failed = msgspec.structs.replace(ran.facts(), status="FAILED", input_id="")
    assert failed.token != first.token
    assert verdicts(
        ran, msgspec.structs.replace(failed, link_token=link_token((ran.root / "mlflow_run.json").read_bytes()))
    ) == {"workspace": "failed"}
    assert verdicts(ran, first) == {b: "exact"}


def test_a_queued_experiment_that_failed_is_found_by_its_name(ran):
    first, b = ran.facts(), ran.commit("B")
    ran.dvc("exp", "run", "--quiet", "--queue", "--name", "bad", "-S", "crash=true")
    with pytest.raises(DovetailError, match="It has not run yet"):
        links_at(ran.root, "bad")
    assert revs_of(ran.root, msgspec.structs.replace(NOT_THERE, status="FAILED", experiment="bad")) == []
    ran.dvc("exp", "run", "--quiet", "--run-all", code=None)
    run = msgspec.structs.replace(NOT_THERE, status="FAILED", experiment="bad", baseline=b)
    (found,) = revs_of(ran.root, run)
    assert (found.names, found.verdict) == (("bad",), "failed")
    assert [(each.name, each.baseline, each.has_failed) for each in unfinished_at(ran.root)] == [("bad", b, True)]
    with pytest.raises(DovetailError, match=f"It failed; .* its baseline {b[:7]}"):
        links_at(ran.root, "bad")
    assert verdicts(ran, first) == {b: "exact", "workspace": "exact"}
    elsewhere = msgspec.structs.replace(run, baseline="0" * 40)
    assert revs_of(ran.root, elsewhere) == []


def test_an_experiment_that_shows_its_baselines_link_is_a_failure_of_the_run_with_its_name(ran):
    first, _b = ran.facts(), ran.commit("B")
    ran.dvc("exp", "run", "--quiet", "--temp", "--name", "bad", "-S", "threshold=2")
    run = msgspec.structs.replace(NOT_THERE, status="KILLED", experiment="bad")
    bad = ran.experiment_commit("bad")
    assert verdicts(ran, run) == {bad: "failed"}
    assert verdicts(ran, msgspec.structs.replace(run, status="RUNNING")) == {}
    assert verdicts(ran, first)[bad] == "exact"


def test_a_revision_with_the_result_of_a_failed_run_says_so(ran):
    run, b = msgspec.structs.replace(ran.facts(), status="KILLED"), ran.commit("B")
    assert verdicts(ran, run) == {b: "failed", "workspace": "failed"}


# --- what does not fit


def test_another_content_of_a_dependency_that_dvc_commit_took_is_stale(ran):
    run, b = ran.facts(), ran.commit("B")
    ran.write(**{"data.txt": "4 5 6\n"})
    ran.dvc("commit", "--quiet", "--force")
    c = ran.commit("C")
    assert [(rev.rev, rev.verdict, rev.details) for rev in revs_of(ran.root, run)] == [
        (b, "exact", ()), (c, "stale", ("data.txt",)), ("workspace", "stale", ("data.txt",)),
    ]  # fmt: skip
    vague = msgspec.structs.replace(run, deps={}, params={}, command="")
    assert judge(only(links_at(ran.root, c)), vague) == ("stale", ("inputs",))


def test_another_output_that_dvc_commit_took_is_stale(ran):
    run, b = ran.facts(), ran.commit("B")
    (ran.root / "model.txt").unlink()
    ran.write(**{"model.txt": "by hand"})
    ran.dvc("commit", "--quiet", "--force", "train")
    c = ran.commit("C")
    assert [(rev.rev, rev.verdict, rev.details) for rev in revs_of(ran.root, run)][:2] == [
        (b, "exact", ()), (c, "stale", ("model.txt",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [("params.yaml", "0.2", "0.3", "params"), ("dvc.yaml", "python train.py", "python ./train.py", "command")],
)
def test_other_params_and_another_command_are_stale(ran, file, old, new, said):
    run = ran.facts()
    ran.edit(file, old, new)
    ran.dvc("commit", "--quiet", "--force", "train")
    assert judge(only(links_at(ran.root, "workspace")), run) == ("stale", (said,))


def test_a_link_changed_by_hand_is_tampered(ran):
    run, b = ran.facts(), ran.commit("B")
    other = "0" * 32
    ran.edit("mlflow_run.json", run.run_id, other)
    assert verdicts(ran, run) == {b: "exact", "workspace": "tampered"}
    c = ran.commit("C")
    assert verdicts(ran, run) == {c: "tampered", b: "exact", "workspace": "tampered"}
    assert judge(only(links_at(ran.root, c)), None) == ("tampered", ("mlflow_run.json", "dvc.lock"))


def test_a_link_and_a_lock_changed_by_hand_are_tampered(ran):
    run, b = ran.facts(), ran.commit("B")
    ran.edit("mlflow_run.json", "mlflow.db", "other.db")
    ran.edit("dvc.lock", run.link_token, link_token((ran.root / "mlflow_run.json").read_bytes()))
    c = ran.commit("C")
    assert verdicts(ran, run) == {c: "tampered", b: "exact", "workspace": "tampered"}
    of_an_older_release = msgspec.structs.replace(run, link_token="")
    assert judge(only(links_at(ran.root, b)), of_an_older_release) == ("exact", ())


def test_a_half_written_link_is_tampered_and_says_why(ran):
    run = ran.facts()
    path = ran.root / "mlflow_run.json"
    path.write_bytes(path.read_bytes()[:-20])
    link = only(links_at(ran.root, "workspace"))
    assert (link.link, "half written" in link.cause) == (None, True)
    assert verdicts(ran, run) == {"workspace": "tampered"}


def test_a_link_to_a_run_that_no_store_has_dangles(ran):
    assert judge(only(links_at(ran.root, "workspace")), None) == ("dangling", ())


def test_a_link_that_no_lock_has_is_stale(ran):
    run = ran.facts()
    ran.git("rm", "--quiet", "--cached", "--ignore-unmatch", "dvc.lock")
    (ran.root / "dvc.lock").unlink()
    link = only(links_at(ran.root, "workspace"))
    assert (link.lock, judge(link, run)) == ("", ("stale", ("dvc.lock",)))


def test_a_link_in_dvcs_cache_has_no_bytes_in_git(plain):
    plain.edit("dvc.yaml", "{mlflow_run.json: {cache: false}}", "mlflow_run.json")
    run = plain.repro()
    plain.commit("B")
    link = only(links_at(plain.root, "HEAD"))
    assert (link.content, link.link, link.lock_token) == (None, None, run.link_token)
    assert "cache" in link.cause
    assert judge(link, run) == ("exact", ())
    assert only(links_at(plain.root, "workspace")).link.token == run.token
    b = plain.head
    assert verdicts(plain, run) == {b: "exact", "workspace": "exact"}
    plain.edit("params.yaml", "threshold: 1", "threshold: 2")
    plain.dvc("repro", "--quiet")
    plain.commit("only evaluated")
    plain.write(README="more")
    later = plain.commit("on the tip")
    assert verdicts(plain, run) == {b: "exact", later: "exact", "workspace": "exact"}


# --- shapes of projects


def small_stage(**settings: str) -> dict[str, str]:
    more = "".join(f"    {key}: {value}\n" for key, value in settings.items())
    pipeline = (
        "stages:\n  train:\n    cmd: python train.py\n    deps: [train.py]\n"
        f"{more}    metrics: [{{mlflow_run.json: {{cache: false}}}}]\n    outs: [model.txt]\n"
    )
    return {"dvc.yaml": pipeline, "train.py": TRAIN, "params.yaml": PARAMS}


FOREACH = """
stages:
  train:
    foreach: [cnn, mlp]
    do:
      cmd: python ../../train.py
      wdir: models/${item}
      outs: [{mlflow_run.json: {cache: false}}]
"""
MATRIX = """
stages:
  train:
    matrix: {model: [cnn, mlp], size: [s]}
    cmd: python train.py models/${item.model}
    outs: [{"models/${item.model}/mlflow_run.json": {cache: false}}]
"""


@pytest.mark.parametrize(
    ("pipeline", "stages"), [(FOREACH, ["train@cnn", "train@mlp"]), (MATRIX, ["train@cnn-s", "train@mlp-s"])]
)
def test_foreach_and_matrix_stages_have_a_run_each(tmp_path, own_home, pipeline, stages):
    keep = {"models/cnn/.gitkeep": "", "models/mlp/.gitkeep": ""}
    project = make_project(tmp_path / "repo", {"dvc.yaml": pipeline, "train.py": TRAIN, "params.yaml": PARAMS, **keep})
    project.dvc("repro", "--quiet")
    b = project.commit("B")
    links = links_at(project.root, b)
    assert [link.stage for link in links] == stages
    assert [link.path for link in links] == ["models/cnn/mlflow_run.json", "models/mlp/mlflow_run.json"]
    for link in links:
        run = project.facts(link=link.path, stage=link.stage)
        assert judge(link, run) == ("exact", ())
        assert [(rev.rev, rev.link) for rev in revs_of(project.root, run)] == [(b, link.path), ("workspace", link.path)]


def test_a_working_folder_that_is_a_template_is_found_by_the_links_md5(tmp_path, own_home):
    templated = FOREACH.replace("foreach: [cnn, mlp]", "foreach: {a: {to: cnn}, b: {to: mlp}}").replace(
        "${item}", "${item.to}"
    )
    keep = {"models/cnn/.gitkeep": "", "models/mlp/.gitkeep": ""}
    project = make_project(tmp_path / "repo", {"dvc.yaml": templated, "train.py": TRAIN, "params.yaml": PARAMS, **keep})
    project.dvc("repro", "--quiet")
    project.commit("B")
    for rev in ("HEAD", "workspace"):
        found = [(link.stage, link.path, link.token == link.lock_token) for link in links_at(project.root, rev)]
        assert found == [
            ("train@a", "models/cnn/mlflow_run.json", True),
            ("train@b", "models/mlp/mlflow_run.json", True),
        ]


def test_several_pipelines_in_folders_and_a_project_below_the_repository(tmp_path, own_home):
    files = {f"{folder}/{name}": text for folder in ("one", "deep/two") for name, text in small_stage().items()}
    files["one/train.py"] += "# another one, or the second would be the first from the run cache"
    project = make_project(tmp_path / "repo", files)
    project.dvc("repro", "--quiet", "--all-pipelines")
    b = project.commit("B")
    links = links_at(project.root / "deep", b)
    assert [(link.stage, link.path) for link in links] == [
        ("deep/two/dvc.yaml:train", "deep/two/mlflow_run.json"), ("one/dvc.yaml:train", "one/mlflow_run.json"),
    ]  # fmt: skip
    run = project.facts(link="one/mlflow_run.json", lock="one/dvc.lock")
    found = [(rev.rev, rev.link, rev.verdict) for rev in revs_of(project.root / "deep/two", run)]
    assert found == [(b, "one/mlflow_run.json", "exact"), ("workspace", "one/mlflow_run.json", "exact")]


def test_a_working_folder_elsewhere(tmp_path, own_home):
    files = {**small_stage(wdir="../work"), "../work/params.yaml": PARAMS}
    files = {"pipe/dvc.yaml": files["dvc.yaml"], "work/train.py": TRAIN, "work/params.yaml": PARAMS}
    project = make_project(tmp_path / "repo", files)
    project.dvc("repro", "--quiet", "pipe/dvc.yaml")
    b = project.commit("B")
    link = only(links_at(project.root, b))
    assert (link.path, link.lock, link.stage) == ("work/mlflow_run.json", "pipe/dvc.lock", "pipe/dvc.yaml:train")
    run = project.facts(link="work/mlflow_run.json", lock="pipe/dvc.lock")
    assert verdicts(project, run) == {b: "exact", "workspace": "exact"}


def test_a_folder_as_an_output(plain):
    plain.edit("dvc.yaml", "outs: [model.txt]", "outs: [model.txt, weights]")
    plain.edit(
        "train.py", 'if "crash', "(folder / 'weights').mkdir(); (folder / 'weights/1').write_text(params)\nif \"crash"
    )
    run = plain.repro()
    assert run.outs["weights"].endswith(".dir")
    b = plain.commit("B")
    assert verdicts(plain, run) == {b: "exact", "workspace": "exact"}
    other = msgspec.structs.replace(run, outs=run.outs | {"weights": "0" * 32 + ".dir"})
    assert judge(only(links_at(plain.root, b)), other) == ("stale", ("weights",))
    unknown = msgspec.structs.replace(run, outs=run.outs | {"weights": ""})
    assert judge(only(links_at(plain.root, b)), unknown) == ("exact", ())


def test_a_work_tree_beside(ran, tmp_path):
    run, b = ran.facts(), ran.commit("B")
    ran.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "beside"))
    beside = Project(tmp_path / "beside")
    assert verdicts(beside, run) == {b: "exact", "workspace": "exact"}
    beside.edit("params.yaml", "0.2", "0.4")
    second = beside.repro()
    assert verdicts(beside, second) == {"workspace": "uncommitted"}
    detached = beside.commit("on no branch")
    assert verdicts(beside, second) == {detached: "exact", "workspace": "exact"}
    assert verdicts(ran, second) == {detached: "exact"}


# --- bad input


def test_a_revision_that_is_not_there(ran):
    for rev in ("nowhere", "0" * 40, "", "-x", "HEAD~99", "a b", "main:dvc.yaml"):
        with pytest.raises(DovetailError, match=r"Cannot find the revision .* run: git fetch --all"):
            links_at(ran.root, rev)


def test_names_that_mean_two_things(ran):
    ran.commit("B")
    ran.git("tag", "main", "HEAD~1")
    with pytest.raises(DovetailError, match="Write refs/heads/main or refs/tags/main"):
        links_at(ran.root, "main")
    assert only(links_at(ran.root, "refs/heads/main")).rev == ran.git("rev-parse", "refs/heads/main")


def test_digits_that_begin_two_commits(plain):
    tree = plain.git("rev-parse", "HEAD^{tree}")
    seen: dict[str, int] = {}
    for number in range(1000):
        commit = plain.git("commit-tree", tree, "-m", str(number))
        if commit[:4] in seen:
            break
        seen[commit[:4]] = number
    with pytest.raises(DovetailError, match="Give more of its digits"):
        links_at(plain.root, commit[:4])


def test_no_repository(tmp_path, own_home):
    for call in (lambda: links_at(tmp_path, "HEAD"), lambda: revs_of(tmp_path, NOT_THERE)):
        with pytest.raises(DovetailError, match="git init"):
            call()


def test_a_repository_without_a_commit(tmp_path, own_home):
    Project(tmp_path).git("init", "--quiet")
    assert revs_of(tmp_path, NOT_THERE) == []
    assert links_at(tmp_path, "workspace") == []
    with pytest.raises(DovetailError, match="Cannot find the revision"):
        links_at(tmp_path, "HEAD")


BROKEN = [
    "stages: [\n",
    "<<<<<<< HEAD\nstages:\n=======\n>>>>>>> other\n",
    "\x00",
    "stages:\n  a:\n\tcmd: x\n",
    "just words\n",
    "stages: 1\n",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_lock_is_named(ran, content):
    run = ran.facts()
    ran.write(**{"dvc.lock": content})
    b = ran.commit("B")
    for rev, named in (("main", "dvc.lock of main"), ("workspace", "dvc.lock of workspace")):
        with pytest.raises(DovetailError, match=f"Cannot read {named}"):
            links_at(ran.root, rev)
    assert verdicts(ran, run) == {b: "stale", "workspace": "stale"}


def test_a_broken_lock_does_not_hide_other_revisions(ran, caplog):
    run, b = ran.facts(), ran.commit("B")
    ran.write(**{"dvc.lock": "stages: [\n"})
    c = ran.commit("C")
    with caplog.at_level(logging.WARNING, "mlflow_dovetail"):
        assert verdicts(ran, run) == {b: "exact", c: "stale", "workspace": "stale"}
    assert f"1 dvc.lock files cannot be read, such as dvc.lock of {c[:9]}" in caplog.text


def test_without_dvc_it_is_said_what_to_install(ran, monkeypatch):
    ran.commit("B")
    locks.read_claims.cache_clear()
    locks._parse_stages.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "dvc.utils.serialize", None)
    with pytest.raises(DovetailError, match="pip install dvc"):
        links_at(ran.root, "HEAD")
    assert links_at(ran.root, "HEAD~1") == []


# --- locks


LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: python prepare.py
    outs:
    - path: x
      hash: md5
      md5: {md5}
  train@1e-05:
    cmd: python train.py
      --much
    params:
      params.yaml:
        lr: 1e-05
        flag: on
        version: 0o17
        when: 12:30
        none: ~
    outs:
    - path: mlflow_run.json
      hash: md5
      md5: {md5}
"""


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        ("prepare:", '"prepare":'),
        ("schema: '2.0'\n", ""),
        ("stages:", "# a comment\nstages:"),
        ("cmd: python prepare.py", "cmd: &a python prepare.py"),
    ],
)
def test_a_lock_has_the_values_that_dvc_reads(own_home, change):
    from dvc.utils.serialize import parse_yaml

    text = LOCK.format(md5="ab" * 16).replace(*change, 1)
    (claim,) = locks.read_claims("dvc.lock", text.encode(), b"")
    assert claim.entry == parse_yaml(text, "dvc.lock")["stages"]["train@1e-05"]
    assert claim.entry["params"]["params.yaml"]["lr"] == 1e-05
    assert claim.entry["params"]["params.yaml"]["flag"] == "on"
    assert (claim.stage, claim.digest, claim.path) == ("train@1e-05", "ab" * 16, "mlflow_run.json")


def test_a_stage_twice_in_a_lock_is_broken(own_home):
    text = LOCK.format(md5="ab" * 16).replace("prepare:", "train@1e-05:")
    with pytest.raises(locks.BrokenLock, match="duplicate"):
        locks.read_claims("dvc.lock", text.encode(), b"")


# --- speed, and what is kept


def cached(project: Project) -> Path:
    return project.root / ".dovetail" / "cache"


def test_what_was_read_is_kept_until_a_ref_moves(ran, monkeypatch):
    run, b = ran.facts(), ran.commit("B")
    before = revs_of(ran.root, run)
    assert {path.name for path in cached(ran).iterdir()} == {"links.msgpack", "revs.msgpack"}
    assert ran.git("status", "--porcelain") == ""
    with monkeypatch.context() as patch:
        patch.setattr("mlflow_dovetail.dvc_link.history.scan_links", None)
        assert revs_of(ran.root, run) == before
        other = msgspec.structs.replace(run, outs={})
        assert {rev.rev for rev in revs_of(ran.root, other)} == {b, "workspace"}
    ran.git("tag", "later")
    assert revs_of(ran.root, run)[0].names == ("main", "later")


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x93", "half", b"\xc0"])
def test_a_broken_cache_is_read_again(ran, content):
    run = ran.facts()
    ran.commit("B")
    before = revs_of(ran.root, run)
    for path in cached(ran).iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    assert revs_of(ran.root, run) == before
    assert revs_of(ran.root, run) == before


def test_a_cache_that_cannot_be_written_is_no_error(ran, tmp_path):
    run, b = ran.facts(), ran.commit("B")
    (tmp_path / "file").write_text("")
    assert {rev.rev for rev in revs_of(ran.root, run, cache=tmp_path / "file")} == {b, "workspace"}
    assert not cached(ran).exists()


def test_the_cache_keeps_some_answers_only(ran, monkeypatch):
    monkeypatch.setattr("mlflow_dovetail.dvc_link.cache._MOST_ANSWERS", 3)
    for number in range(9):
        revs_of(ran.root, msgspec.structs.replace(NOT_THERE, token=str(number)))
    size = (cached(ran) / "revs.msgpack").stat().st_size
    revs_of(ran.root, msgspec.structs.replace(NOT_THERE, token="9"))
    assert (cached(ran) / "revs.msgpack").stat().st_size == size


def test_nothing_of_git_or_dvc_is_written(ran):
    run = ran.facts()
    ran.commit("B")
    ran.dvc("exp", "save", "--quiet", "--name", "kept")
    time.sleep(0.02)

    def state() -> dict[str, tuple[int, int]]:
        found = [path for folder in (".git", ".dvc") for path in (ran.root / folder).rglob("*")]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = state()
    for rev in ("HEAD", "workspace", "kept"):
        links_at(ran.root, rev)
    revs_of(ran.root, run)
    assert state() == before


def test_an_other_index_or_folder_in_the_environment_changes_nothing(ran, monkeypatch):
    run, b = ran.facts(), ran.commit("B")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    assert {rev.rev for rev in revs_of(ran.root, run)} == {b, "workspace"}
