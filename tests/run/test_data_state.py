"""A run in a DVC stage: which inputs it had, that they stayed, and the file by which every revision knows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_dovetail import store
from mlflow_dovetail.dvc_link import input_id, link_token
from mlflow_dovetail.records import Run

TRAIN = """
import sys
from pathlib import Path
import mlflow_dovetail as dt
with dt.start_run(run_name=sys.argv[1]) as run:
    rows = Path("data/rows.csv").read_text().count("\\n")
    Path("model.txt").write_text(f"{rows}\\n")
    if len(sys.argv) > 2:
        exec(sys.argv[2])
    run.write_link()
"""
EVALUATE = """
import json
from pathlib import Path
import mlflow_dovetail as dt
with dt.track(json.loads(Path("mlflow_run.json").read_text())["run_id"]) as run:
    run.log_metrics({"test/rows": float(Path("model.txt").read_text())}, 0)
Path("evaluation.json").write_text("{}")
"""
# A busy machine reads the inputs beside the training's first seconds.
AFTER_THE_START = "run._captures.data.wait();"
NOT_INHERITED = ("MLFLOW_", "DOVETAIL_", "DVC_", "GIT_")


class Project:
    """A git and DVC repository with data, a `.dvc` file, a parameter file and stages."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(home), "PATH": path}
        self.environment = kept | quiet

    def call(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.root, env=self.environment | variables, capture_output=True, text=True, timeout=200
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def stage(self, name: str, command: str, *, deps: list[str], metrics: list[str], outs: list[str]) -> None:
        pipeline = self.root / "dvc.yaml"
        stages = json.loads(pipeline.read_text())["stages"] if pipeline.exists() else {}
        stages[name] = {
            "cmd": command,
            "deps": deps,
            "outs": outs,
            "params": ["lr"] if name == "train" else [],
            "metrics": [{metric: {"cache": False}} for metric in metrics],
        }
        pipeline.write_text(json.dumps({"stages": stages}, indent=1))  # JSON is YAML

    def lock(self, stage: str) -> dict:
        from dvc.utils.serialize import parse_yaml

        return parse_yaml((self.root / "dvc.lock").read_text(), "dvc.lock")["stages"][stage]

    def run(self, name: str) -> Run:
        with store.open(f"sqlite:///{self.root}/mlflow.db") as opened:
            return opened.find_run(name)

    def artifact(self, run: Run, path: str) -> dict:
        with store.open(f"sqlite:///{self.root}/mlflow.db") as opened:
            target = self.root.parent / "read" / run.run_id
            return json.loads(opened.read_artifact(run.run_id, path, target).read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("base")
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.invalid\n")
    project = Project(folder / "project", home)
    project.root.mkdir()
    project.call("git", "init", "--quiet")
    project.call("dvc", "init", "--quiet")
    project.call("dvc", "remote", "add", "--quiet", "--default", "here", str(folder / "remote"))
    (project.root / "data").mkdir()
    (project.root / "data/rows.csv").write_text("a\nb\nc\n")
    project.call("dvc", "add", "--quiet", "data/rows.csv")
    project.call("dvc", "push", "--quiet")
    (project.root / "params.yaml").write_text("lr: 1e-05\n")
    (project.root / "train.py").write_text(TRAIN)
    (project.root / "evaluate.py").write_text(EVALUATE)
    (project.root / ".gitignore").write_text("mlflow.db*\nmlartifacts/\n/model.txt\n")
    project.call("git", "add", ".")
    project.call("git", "commit", "--quiet", "-m", "first")
    store.open(f"sqlite:///{project.root}/mlflow.db", "Default").close()
    return project


@pytest.fixture
def project(base: Project, tmp_path: Path) -> Project:
    shutil.copytree(base.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", Path(base.environment["HOME"]))


Trained = Callable[..., Project]


@pytest.fixture
def train(project: Project) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the stage `train` of a run with this name, with this line of code in it."""

    def run(name: str, line: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        command = f"python train.py {name}" + (f" '{line}'" if line else "")
        project.stage(
            "train", command, deps=["data/rows.csv", "train.py"], outs=["model.txt"], metrics=["mlflow_run.json"]
        )
        return project.call("dvc", "repro", "train", check=False, **variables)

    return run


def test_a_stages_run_is_what_dvc_lock_says_it_is(project: Project, train):
    index = (project.root / ".git/index").read_bytes()
    done = train("first")
    assert done.returncode == 0, done.stdout + done.stderr
    run, lock = project.run("first"), project.lock("train")
    assert run.tags["dovetail.dvc.input_id"] == input_id(lock)
    link = (project.root / "mlflow_run.json").read_bytes()
    assert json.loads(link) == {
        "input_id": input_id(lock),
        "run_id": run.run_id,
        "store": "sqlite:///mlflow.db",
        "token": run.token,
    }
    in_lock = {out["path"]: out["md5"] for out in lock["outs"]}
    assert run.tags["dovetail.dvc.link"] == link_token(link) == in_lock.pop("mlflow_run.json")
    assert json.loads(run.tags["dovetail.dvc.outs"]) == in_lock
    data = next(dep for dep in lock["deps"] if dep["path"] == "data/rows.csv")
    assert json.loads(run.tags["dovetail.dvc.deps"])["data/rows.csv"] == data["md5"]
    (recorded,) = run.inputs
    assert (recorded.name, recorded.digest, recorded.context) == ("data/rows.csv", data["md5"], "train")
    state = project.artifact(run, "dvc/state.json")
    assert (state["stage"], state["params"], state["remote"]) == ("train", {"params.yaml": {"lr": 1e-05}}, "here")
    found = next(dep for dep in state["deps"] if dep["path"] == "data/rows.csv")
    assert (found["in_cache"], found["on_remote"], found["size_bytes"]) == (True, True, 6)
    assert found["tracked_by"] == "data/rows.csv.dvc"
    assert (project.root / ".git/index").read_bytes() == index
    assert run.tags["dovetail.status.dvc_link"] == "ok"


@pytest.mark.parametrize(("path", "told"), [("data/rows.csv", "data/rows.csv"), ("params.yaml", "params")])
def test_inputs_that_change_while_a_stage_runs_fail_it_before_it_is_linked(project: Project, train, path, told):
    edit = f'{AFTER_THE_START} Path("{path}").unlink(); Path("{path}").write_text("lr: 2\\\\n")'
    done = train("edited", edit)
    assert done.returncode != 0
    assert f"Changed since its start: {told}." in done.stderr + done.stdout
    assert not (project.root / "mlflow_run.json").exists()
    run = project.run("edited")
    assert (run.status, run.tags["dovetail.dvc.changed"]) == ("FAILED", told)
    assert "dovetail.dvc.link" not in run.tags


def test_that_can_be_a_warning(project: Project, train):
    edit = f'{AFTER_THE_START} Path("data/rows.csv").unlink(); Path("data/rows.csv").write_text("d\\\\n")'
    done = train("warned", edit, DOVETAIL_CHANGED_INPUTS="warn")
    assert done.returncode == 0, done.stdout + done.stderr
    run = project.run("warned")
    assert (run.status, run.tags["dovetail.dvc.changed"]) == ("FINISHED", "data/rows.csv")
    assert run.tags["dovetail.dvc.link"] == link_token((project.root / "mlflow_run.json").read_bytes())


def test_a_later_stage_adds_to_the_run_and_does_not_replace_its_inputs(project: Project, train):
    assert train("both").returncode == 0
    project.stage(
        "evaluate", "python evaluate.py", deps=["mlflow_run.json", "model.txt"], outs=[], metrics=["evaluation.json"]
    )
    project.call("dvc", "repro", "evaluate")
    run = project.run("both")
    assert run.metrics["test/rows"] == 3.0
    assert run.tags["dovetail.dvc.input_id"] == input_id(project.lock("train"))
    assert project.artifact(run, "dvc/state.json")["stage"] == "train"
    assert {dep["path"] for dep in project.artifact(run, "dvc/evaluate.json")["deps"]} == {
        "mlflow_run.json",
        "model.txt",
    }
    assert {(one.name, one.context) for one in run.inputs} == {("data/rows.csv", "train"), ("model.txt", "evaluate")}


def test_a_stage_that_is_not_python(project: Project):
    command = "dovetail exec --run-name shell -- sh -c 'wc -l < data/rows.csv > model.txt'"
    project.stage("train", command, deps=["data/rows.csv"], outs=["model.txt"], metrics=["mlflow_run.json"])
    project.call("dvc", "repro")
    run = project.run("shell")
    assert run.status == "FINISHED"
    assert run.tags["dovetail.dvc.input_id"] == input_id(project.lock("train"))
    in_lock = {out["path"]: out["md5"] for out in project.lock("train")["outs"]}
    assert run.tags["dovetail.dvc.link"] == in_lock["mlflow_run.json"]


def test_a_tracked_command_that_writes_the_link_itself(project: Project):
    command = "dovetail exec --run-name both -- python train.py both"
    project.stage("train", command, deps=["data/rows.csv", "train.py"], outs=["model.txt"], metrics=["mlflow_run.json"])
    project.call("dvc", "repro")
    run, link = project.run("both"), (project.root / "mlflow_run.json").read_bytes()
    assert json.loads(link)["input_id"] == run.tags["dovetail.dvc.input_id"] == input_id(project.lock("train"))
    assert run.tags["dovetail.dvc.link"] == link_token(link)


def test_a_direct_run_has_the_versions_of_the_projects_data(project: Project):
    (project.root / "data/rows.csv").unlink()
    (project.root / "data/rows.csv").write_text("edited\n")
    project.call(sys.executable, "train.py", "direct")
    run = project.run("direct")
    (data,) = project.artifact(run, "dvc/state.json")["deps"]
    assert (data["path"], data["digest"], data["in_cache"], data["on_remote"]) == (
        "data/rows.csv",
        link_token(b"edited\n"),
        False,
        False,
    )
    assert "dovetail.dvc.input_id" not in run.tags and run.inputs == ()
    assert json.loads((project.root / "mlflow_run.json").read_text()).keys() == {"run_id", "store", "token"}


def test_without_dvc_the_run_says_so_and_goes_on(project: Project):
    hidden = f"import sys; sys.modules['dvc'] = None; sys.argv = ['train.py', 'without']\n{TRAIN}"
    project.call(sys.executable, "-c", hidden)
    run = project.run("without")
    assert (run.status, run.tags["dovetail.status.dvc_link"]) == (
        "FINISHED",
        "degraded: DVC is not installed here: pip install dvc",
    )


def test_outside_a_dvc_repository_nothing_is_said(project: Project, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (elsewhere / "data/rows.csv").write_text("a\n")
    (elsewhere / "train.py").write_text(TRAIN)
    other = Project(elsewhere, Path(project.environment["HOME"]))
    other.call(sys.executable, "train.py", "plain")
    assert not [tag for tag in other.run("plain").tags if "dvc" in tag and tag != "dovetail.dvc.link"]


def test_imported_data_say_which_commit_they_came_from(project: Project, train, tmp_path: Path):
    shutil.copytree(project.root, tmp_path / "registry", symlinks=True)
    registry = Project(tmp_path / "registry", Path(project.environment["HOME"]))
    commit = registry.call("git", "rev-parse", "HEAD").stdout.strip()
    shutil.rmtree(project.root / "data")
    (project.root / "data").mkdir()
    project.call("dvc", "import", "--quiet", str(registry.root), "data/rows.csv", "--out", "data/rows.csv")
    assert train("imported").returncode == 0
    run = project.run("imported")
    state = project.artifact(run, "dvc/state.json")
    data = next(dep for dep in state["deps"] if dep["path"] == "data/rows.csv")
    assert (data["repo_rev"], data["tracked_by"], data["in_cache"]) == (commit, "data/rows.csv.dvc", True)
    assert run.tags["dovetail.dvc.input_id"] == input_id(project.lock("train"))
    (recorded,) = run.inputs
    assert recorded.digest == data["digest"]
