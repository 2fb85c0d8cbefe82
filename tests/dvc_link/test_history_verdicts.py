"""What does not fit the run is told, with what differs."""

from __future__ import annotations

import msgspec
import pytest

from mlflow_dovetail.dvc_link.history import judge, links_at, revs_of, unfinished_at
from mlflow_dovetail.dvc_link.identity import link_token
from mlflow_dovetail.errors import DovetailError

from .projects import NOT_THERE, only, verdicts


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


def test_code_that_was_edited_after_the_stage_ran_is_stale_in_the_commit_that_has_both(ran):
    project, run = ran, ran.facts()
    project.edit("train.py", "model of ", "another model of ")
    here = revs_of(project.root, run)[-1]
    assert (here.rev, here.verdict, here.details) == ("workspace", "stale", ("train.py",))
    edited = project.commit("B")
    assert [(rev.verdict, rev.details) for rev in revs_of(project.root, run) if rev.rev == edited] == [
        ("stale", ("train.py",))
    ]
    assert judge(only(links_at(project.root, "HEAD")), run) == ("stale", ("train.py",))
    assert judge(only(links_at(project.root, "workspace")), run) == ("stale", ("train.py",))
    project.git("restore", "--source=HEAD~1", "train.py")
    restored = project.commit("C")
    assert verdicts(project, run)[restored] == "exact"


def test_other_line_ends_and_files_kept_elsewhere_are_no_edits(plain):
    project = plain
    (project.root / "data.txt").write_bytes(b"1 2 3\r\n4 5 6\r\n")
    project.write(**{".gitattributes": "data.txt text eol=crlf\n"})
    run = project.repro()
    project.commit("B")
    assert project.git("show", "HEAD:data.txt").count("\r") == 0
    assert verdicts(project, run) == {project.head: "exact", "workspace": "exact"}
    project.write(**{"data.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"})
    project.commit("C")
    assert verdicts(project, run)[project.head] == "exact"


def test_a_symbolic_link_to_a_dependency_is_no_edit(plain):
    project = plain
    project.write(**{"real.txt": "7 8 9\n"})
    (project.root / "data.txt").unlink()
    (project.root / "data.txt").symlink_to("real.txt")
    run = project.repro()
    project.commit("B")
    assert verdicts(project, run) == {project.head: "exact", "workspace": "exact"}
