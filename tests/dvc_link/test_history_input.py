"""What cannot be read is told with its remedy, and hides nothing else; dvc.lock has the values that DVC reads."""

from __future__ import annotations

import logging
import sys

import pytest

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link import digest_at, locks, read_state
from mlflow_dovetail.dvc_link.history import links_at, revs_of
from mlflow_dovetail.errors import DovetailError

from .projects import NOT_THERE, Project, only, verdicts


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


def test_a_clone_without_all_files_and_one_without_all_commits(ran, tmp_path):
    run, b = ran.facts(), ran.commit("B")
    ran.git("config", "uploadpack.allowFilter", "true")
    partial, shallow = Project(tmp_path / "partial"), Project(tmp_path / "shallow")
    ran.git("clone", "--quiet", "--no-checkout", "--filter=blob:none", ran.root.as_uri(), str(partial.root))
    for call in (lambda: links_at(partial.root, "HEAD"), lambda: revs_of(partial.root, run)):
        with pytest.raises(DovetailError, match="git fetch --refetch --no-filter"):
            call()
    partial.git("fetch", "--quiet", "--refetch", "--no-filter")
    assert verdicts(partial, run) == {b: "exact"}
    ran.git("clone", "--quiet", "--depth=1", ran.root.as_uri(), str(shallow.root))
    assert verdicts(shallow, run) == {b: "exact", "workspace": "exact"}


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
    monkeypatch.setitem(sys.modules, "dvc.utils.serialize", None)
    with pytest.raises(DovetailError, match="pip install dvc"):
        links_at(ran.root, "HEAD")
    assert links_at(ran.root, "HEAD~1") == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what DVC itself uses
def test_a_remote_whose_own_package_is_not_installed_hides_nothing_else(ran):
    ran.dvc("remote", "add", "--quiet", "--default", "far", "hdfs://far/away")
    state = read_state(ran.root, {names.ENV_DVC_STAGE: "evaluate"})
    (model,) = state.deps
    assert (state.cause, state.remote, model.in_cache, model.on_remote) == ("", "far", True, None)
    assert state.input_id and digest_at(ran.root, "model.txt") == model.digest


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


def test_a_value_that_another_stage_has_named_is_read(own_home):
    text = LOCK.format(md5="ab" * 16).replace("cmd: python prepare.py", "cmd: &a python prepare.py")
    text = text.replace("cmd: python train.py\n      --much", "cmd: *a")
    (claim,) = locks.read_claims("dvc.lock", text.encode(), b"")
    assert claim.entry["cmd"] == "python prepare.py"


@pytest.mark.parametrize(
    ("wdir", "path"),
    [("a/${item}", "x/a/1e-05/mlflow_run.json"), ("../b", "b/mlflow_run.json"), ("${item.a}", None)],
)
def test_the_working_folder_of_a_stage_that_is_made_many_times(own_home, wdir, path):
    pipeline = f"stages:\n  train:\n    foreach: [1e-05]\n    do:\n      cmd: x\n      wdir: {wdir}\n"
    (claim,) = locks.read_claims("x/dvc.lock", LOCK.format(md5="ab" * 16).encode(), pipeline.encode())
    assert (claim.stage, claim.path) == ("x/dvc.yaml:train@1e-05", path)


def test_a_stage_twice_in_a_lock_is_broken(own_home):
    text = LOCK.format(md5="ab" * 16).replace("prepare:", "train@1e-05:")
    with pytest.raises(locks.BrokenLock, match="duplicate"):
        locks.read_claims("dvc.lock", text.encode(), b"")
