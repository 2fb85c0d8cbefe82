"""The data is versioned: its hash is in git, its bytes on the remote and with a colleague."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml

from .project import Project

RAW = "data/raw/digits.csv"


def recorded_md5(project: Project) -> str:
    """What the committed `.dvc` file says."""
    (out,) = yaml.safe_load(project.git("show", f"HEAD:{RAW}.dvc"))["outs"]
    return str(out["md5"])


def md5(project: Project) -> str:
    return hashlib.md5((project.path / RAW).read_bytes()).hexdigest()


@pytest.fixture
def project(new_project):
    return new_project()


def test_the_committed_hash_is_the_files(project):
    assert recorded_md5(project) == md5(project)
    assert project.dvc("status", f"{RAW}.dvc").output.strip() == "Data and pipelines are up to date."


def test_a_colleague_gets_the_same_bytes(project):
    """README: push, clone beside it, pull. The default remote is a folder beside both."""
    project.dvc("push")
    remote = project.path.parent / "digits-classifier-dvc-storage"
    assert [path.name for path in remote.rglob("*") if path.is_file()] == [md5(project)[2:]]
    project.git("clone", "--quiet", ".", "../colleague")
    colleague = Project(project.path.parent / "colleague", project.environment)
    assert not (colleague.path / RAW).exists()
    colleague.dvc("pull", "--allow-missing")
    assert md5(colleague) == md5(project)
    assert colleague.git("status", "--porcelain") == ""


def test_a_colleague_of_a_trained_project_has_nothing_to_do(trained):
    """With the results pushed, `dvc repro` in a clone trains nothing; and pulls without a word about what to allow."""
    project = trained.project
    project.dvc("push")
    project.git("clone", "--quiet", ".", "../colleague")
    colleague = Project(project.path.parent / "colleague", project.environment)
    colleague.dvc("pull")
    assert (colleague.path / "model.ckpt").read_bytes() == (project.path / "model.ckpt").read_bytes()
    done = colleague.dvc("repro")
    assert done.ran == done.restored == []
    assert colleague.git("status", "--porcelain") == ""


def test_a_colleague_without_data_makes_it_from_scikit_learn(project):
    (project.path / RAW).unlink()
    project.run(*project.module("download"))
    assert md5(project) == recorded_md5(project)


def test_new_data_is_a_new_version(project):
    before = recorded_md5(project)
    with (project.path / RAW).open("a", encoding="utf-8") as file:
        file.write(",".join(["0"] * 64 + ["1"]) + "\n")
    project.dvc("add", RAW)
    assert project.git("status", "--porcelain").strip() == f"M {RAW}.dvc"
    project.git("commit", "-qam", "One more digit")
    assert recorded_md5(project) == md5(project) != before
    # What is said about the data stays.
    kept = yaml.safe_load((project.path / f"{RAW}.dvc").read_text(encoding="utf-8"))
    assert "CC BY 4.0" in json.dumps(kept["meta"])
