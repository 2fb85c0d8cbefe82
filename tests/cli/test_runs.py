"""`dovetail runs`, `revs` and `show`: from revisions, files and models to runs and back, on a real pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli.test_patch import Project
from mlflow import MlflowClient

import mlflow_dovetail as dt
from mlflow_dovetail import store

TRAIN = """
import sys
from pathlib import Path
import mlflow_dovetail as dt
with dt.start_run(run_name=sys.argv[1]) as run:
    Path("model.txt").write_text(Path("data/rows.csv").read_text() * 2)
    run.write_link()
"""
PIPELINE = """
stages:
  train:
    cmd: python train.py NAME
    deps: [data/rows.csv, train.py]
    outs: [model.txt]
    metrics: [mlflow_run.json: {cache: false}]
"""


class Pipeline(Project):
    """A git and DVC repository whose one stage is a run."""

    @property
    def environment(self) -> dict[str, str]:
        import os
        import sys

        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**super().environment, "DVC_NO_ANALYTICS": "1", "PATH": path}

    def repro(self, name: str) -> None:
        (self.root / "dvc.yaml").write_text(PIPELINE.replace("NAME", name))
        self.call("dvc", "repro", "--quiet", check=True)

    def commit(self, message: str) -> str:
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def ask(self, *words: str) -> list[dict]:
        done = self.dovetail(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Pipeline:
    base = tmp_path_factory.mktemp("pipeline")
    found = Pipeline(base / "repo", base / "remote.git", base / "home")
    for folder in (found.root / "data", found.home):
        folder.mkdir(parents=True)
    (found.home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.invalid\n")
    found.git("init", "--quiet", "--initial-branch=main")
    found.call("dvc", "init", "--quiet", check=True)
    (found.root / "data/rows.csv").write_text("a\n")
    found.call("dvc", "add", "--quiet", "data/rows.csv", check=True)
    (found.root / ".gitignore").write_text("mlflow.db*\nmlartifacts/\n/model.txt\n")
    (found.root / "train.py").write_text(TRAIN)
    found.commit("A")
    store.open(f"sqlite:///{found.root}/mlflow.db", "Default").close()
    found.repro("first")  # on the dirty commit A: the result is committed as B
    found.commit("B")
    found.git("tag", "v1")
    (found.root / "data/rows.csv").unlink()
    (found.root / "data/rows.csv").write_text("a\nb\n")
    found.call("dvc", "add", "--quiet", "data/rows.csv", check=True)
    found.repro("second")
    found.commit("C")
    return found


def run_of(project: Pipeline, name: str):
    with store.open(f"sqlite:///{project.root}/mlflow.db") as opened:
        return opened.find_run(name)


def test_a_run_on_a_dirty_commit_belongs_to_the_commit_with_its_result(project: Pipeline):
    first = run_of(project, "first")
    (found,) = project.ask("runs", "v1")
    assert (found["run_id"], found["token"], found["verdict"]) == (first.run_id, first.token, "exact")
    assert project.ask("runs", "v1~1") == []
    (rev,) = project.ask("revs", "first")
    assert (rev["rev"], rev["verdict"]) == (project.git("rev-parse", "v1"), "exact")
    assert rev["names"] == ["v1"]
    assert first.tags["mlflow.source.git.commit"] == project.git("rev-parse", "v1~1"), "as MLflow has it"


def test_a_file_leads_to_the_runs_that_read_and_wrote_it(project: Pipeline):
    first, second = run_of(project, "first"), run_of(project, "second")
    assert [(one["run_id"], one["verdict"]) for one in project.ask("runs", "data/rows.csv")] == [
        (second.run_id, "reads")
    ]
    assert [one["run_id"] for one in project.ask("runs", "data/rows.csv@v1")] == [first.run_id]
    md5 = json.loads(first.tags["dovetail.dvc.deps"])["data/rows.csv"]
    assert {(one["run_id"], one["verdict"]) for one in project.ask("runs", f"md5:{md5}")} == {(first.run_id, "reads")}
    assert [one["verdict"] for one in project.ask("runs", "model.txt@main")] == ["writes"]
    assert [
        one.run_id
        for one in dt.runs(path="data/rows.csv", rev="v1", tracking_uri=first_uri(project), folder=project.root)
    ] == [first.run_id]


def first_uri(project: Pipeline) -> str:
    return f"sqlite:///{project.root}/mlflow.db"


def test_tables_are_for_people(project: Pipeline):
    done = project.dovetail("runs", "main")
    assert done.stdout.splitlines()[0].split() == ["run", "name", "status", "verdict", "stage"]
    assert done.stdout.splitlines()[1].split()[1:] == ["second", "FINISHED", "exact", "train"]
    assert "exact" in project.dovetail("revs", "second").stdout
    page = project.dovetail("show", "second").stdout
    assert "Revisions" in page and "exact  main" in page
    (data,) = [line for line in page.splitlines() if line.startswith("  data/rows.csv")]
    assert data.endswith("4 B  in the cache")


def test_a_registered_model_leads_to_run_and_revision(project: Pipeline):
    first = run_of(project, "first")
    client = MlflowClient(first_uri(project))
    client.create_registered_model("rows")
    client.create_model_version("rows", "s3://bucket/rows", first.run_id)
    client.set_registered_model_alias("rows", "champion", "1")
    assert project.ask("runs", "v1")[0]["models"] == ["rows/1"]
    assert project.ask("revs", "models:/rows@champion")[0]["rev"] == project.git("rev-parse", "v1")
    assert json.loads(project.dovetail("show", "models:/rows/1", "--json").stdout)["run_id"] == first.run_id


def test_a_hand_edited_link_and_one_of_another_store_are_told(project: Pipeline, tmp_path: Path):
    copy = Pipeline(tmp_path / "repo", project.remote, project.home)
    shutil.copytree(project.root, copy.root, symlinks=True)
    link = copy.root / "mlflow_run.json"
    link.write_text(link.read_text().replace("FINISHED", "").replace("\n}", "\n }"))
    (found,) = copy.ask("runs", "workspace")
    assert (found["verdict"], found["details"][0]) == ("tampered", "mlflow_run.json")
    link.write_text(link.read_text()[:20])
    (found,) = copy.ask("runs", "workspace")
    assert found["verdict"] == "tampered"
    (copy.root / "mlflow.db").unlink()
    store.open(f"sqlite:///{copy.root}/mlflow.db", "Default").close()
    (found,) = copy.ask("runs", "main")
    assert (found["verdict"], found["details"]) == ("dangling", ["sqlite:///mlflow.db"])


def test_a_run_in_two_stores_is_found_in_each(project: Pipeline, tmp_path: Path):
    second = f"sqlite:///{tmp_path}/second.db"
    done = project.dovetail("sync", "--tracking-uri", second)
    assert done.returncode == 0, done.stdout + done.stderr
    with store.open(second) as opened:
        copy = opened.find_run("first")
    here = run_of(project, "first")
    assert copy.token == here.token and copy.run_id != here.run_id
    for uri, run in ((first_uri(project), here), (second, copy)):
        (found,) = project.ask("runs", "v1", "--tracking-uri", uri)
        assert (found["run_id"], found["verdict"]) == (run.run_id, "exact")
        (rev,) = project.ask("revs", run.run_id, "--tracking-uri", uri)
        assert (rev["names"], rev["verdict"]) == (["v1"], "exact")


def test_an_experiment_that_failed_leads_to_its_run_and_not_to_its_baselines(project: Pipeline, tmp_path: Path):
    copy = Pipeline(tmp_path / "repo", project.remote, project.home)
    shutil.copytree(project.root, copy.root, symlinks=True)
    train = copy.root / "train.py"
    train.write_text(train.read_text().replace("    run.write_link()", "    raise SystemExit('no room')"))
    (copy.root / "dvc.yaml").write_text(PIPELINE.replace("NAME", "third"))
    assert copy.call("dvc", "exp", "run", "--temp", "--name", "bad").returncode != 0
    (found,) = copy.ask("runs", "bad")
    assert (found["name"], found["verdict"], found["status"]) == ("third", "failed", "FAILED")
    assert found["run_id"] == run_of(copy, "third").run_id


def test_what_is_not_there_is_an_error(project: Pipeline):
    for words, told in (
        (("runs", "no-such-rev"), "Cannot find the revision"),
        (("runs", "train.py@v1"), "Nobody knows train.py"),
        (("runs", "data/rows.csv@no-such-rev"), "data/rows.csv"),
        (("revs", "no-such-run"), "No run answers"),
    ):
        done = project.dovetail(*words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert told in done.stderr
    with store.open(first_uri(project), "Default") as opened:
        opened.create_run("ef" * 16, name="elsewhere")
    done = project.dovetail("revs", "elsewhere")
    assert (done.returncode, done.stdout) == (0, "") and "orphan" in done.stderr
    assert project.ask("revs", "elsewhere") == []
