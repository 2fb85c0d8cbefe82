"""A run is found at the revisions that have its result, and at no other, after all that git does to it."""

from __future__ import annotations

from mlflow_dovetail.dvc_link.history import RunFacts, judge, links_at, revs_of

from .projects import NOT_THERE, Project, only, verdicts


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
