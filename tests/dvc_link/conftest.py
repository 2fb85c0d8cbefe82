"""Real git and real DVC projects whose stages write their own link, without MLflow: a second each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mlflow_dovetail.dvc_link.history import RunFacts
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


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings, caches or analytics of this machine's user."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[safe]\n\tdirectory = *\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "DOVETAIL_", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "site"))
        yield


@pytest.fixture(scope="module")
def bases(own_home: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`plain`: one commit A, nothing was run. `ran`: a run on A with an edit, not committed. Copied, not used."""
    plain = make_project(tmp_path_factory.mktemp("plain") / "project", FILES)
    ran = Project(plain.root.parent / "ran")
    shutil.copytree(plain.root, ran.root, symlinks=True)
    ran.edit("params.yaml", "1e-05", "0.2")
    ran.dvc("repro", "--quiet")
    return {"plain": plain.root, "ran": ran.root}


@pytest.fixture
def new_project(bases: dict[str, Path], tmp_path: Path) -> Callable[[str], Project]:
    def make(base: str) -> Project:
        root = tmp_path / uuid.uuid4().hex[:8] / "project"
        shutil.copytree(bases[base], root, symlinks=True)
        return Project(root)

    return make


@pytest.fixture
def plain(new_project: Callable[[str], Project]) -> Project:
    return new_project("plain")


@pytest.fixture
def ran(new_project: Callable[[str], Project]) -> Project:
    return new_project("ran")


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
