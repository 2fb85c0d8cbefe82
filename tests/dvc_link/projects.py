"""Projects whose stages write their own link, without MLflow, and what is asked of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlflow_dovetail.dvc_link.history import LinkAt, RunFacts, revs_of
from mlflow_dovetail.dvc_link.identity import digest_of, input_id, link_token

TRAIN = """
import os, pathlib, sys, uuid
from mlflow_dovetail.dvc_link.identity import encode_link
from mlflow_dovetail.dvc_link.records import Link

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(exist_ok=True, parents=True)
params = pathlib.Path(__file__).with_name("params.yaml").read_text()
link = Link(uuid.uuid4().hex, uuid.uuid4().hex, "sqlite:///mlflow.db")
(folder / "mlflow_run.json").write_bytes(encode_link(link))
(folder / "model.txt").write_text("model of " + params)
if "crash: true" in params:
    sys.exit(1)
"""
PIPELINE = """
stages:
  train:
    cmd: python train.py
    deps: [train.py, data.txt]
    params: [crash, lr]
    outs: [model.txt]
    metrics: [{mlflow_run.json: {cache: false}}]
  evaluate:
    cmd: python -c "print(1, file=open('eval.json', 'w'))"
    deps: [model.txt]
    params: [threshold]
    metrics: [{eval.json: {cache: false}}]
"""
PARAMS = "lr: 1e-05\nthreshold: 1\ncrash: false\n"
FILES = {
    "train.py": TRAIN,
    "dvc.yaml": PIPELINE,
    "params.yaml": PARAMS,
    "data.txt": "1 2 3\n",
    ".gitignore": "/model.txt\n",
}


@dataclass
class Project:
    """A project's folder, and what a person does in it."""

    root: Path

    def run(self, *command: str, code: int | None = 0) -> str:
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=120)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str, code: int | None = 0) -> str:
        return self.run("dvc", *arguments, code=code)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def commit(self, message: str = "more") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.head

    def repro(self, *arguments: str) -> RunFacts:
        self.dvc("repro", *arguments)
        return self.facts()

    def experiment(self, name: str, *arguments: str) -> RunFacts:
        self.dvc("exp", "run", "--quiet", "--name", name, *arguments)
        return self.facts(experiment=name, rev=self.experiment_commit(name) if "--temp" in arguments else "")

    def experiment_commit(self, name: str) -> str:
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}")

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def facts(self, *, link: str = "mlflow_run.json", stage: str = "train", lock: str = "dvc.lock", rev: str = "",
              experiment: str = "") -> RunFacts:  # fmt: skip
        """What the store would know of the run that the link file names, read independently of what is tested."""
        content, locked = (self._read(name, rev) for name in (link, lock))
        entry = yaml.safe_load(locked.replace(b"1e-05", b"1.0e-05"))["stages"][stage]
        ids = json.loads(content)
        return RunFacts(
            ids["token"], ids["run_id"], "FINISHED",
            link_token=link_token(content), input_id=input_id(entry), experiment=experiment,
            outs={out["path"]: digest_of(out) for out in entry["outs"]},
            deps={dep["path"]: digest_of(dep) for dep in entry.get("deps", [])},
            params=entry.get("params") or {}, command=entry["cmd"],
        )  # fmt: skip

    def _read(self, name: str, rev: str) -> bytes:
        return self.git("show", f"{rev}:{name}").encode() + b"\n" if rev else (self.root / name).read_bytes()


def make_project(root: Path, files: dict[str, str]) -> Project:
    root.mkdir(parents=True)
    project = Project(root)
    project.git("init", "--quiet")
    project.dvc("init", "--quiet")
    project.dvc("config", "core.analytics", "false")
    project.dvc("config", "core.autostage", "true")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    project.commit("A")
    return project


NOT_THERE = RunFacts("f" * 32, "e" * 32, "FINISHED", link_token="d" * 32)


def verdicts(project: Project, run: RunFacts) -> dict[str, str]:
    """By revision; "workspace" as it is."""
    found = revs_of(project.root, run)
    assert len({(rev.rev, rev.link) for rev in found}) == len(found)
    return {rev.rev: rev.verdict for rev in found}


def only(links: list[LinkAt]) -> LinkAt:
    (link,) = links
    return link
