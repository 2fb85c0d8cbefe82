"""What DVC writes does not make the code dirty; everything else still does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_dovetail import context
from mlflow_dovetail.context import read_git_state
from mlflow_dovetail.repository import read_dvc_outs

Git = Callable[..., str]

PIPELINE = """\
stages:
  compose:
    cmd: python -m pkg.compose
    outs: [{params.yaml: {cache: false, persist: true}}]
  train:
    cmd: python -m pkg.train
    deps: [train.py]
    outs:
      - models/model.ckpt
    metrics:
      - metrics.json: {cache: false}
      - mlflow_run.json: {cache: false}
    plots:
      - plots/loss.csv:
          cache: false
  many:
    foreach: [a, b]
    do:
      cmd: run ${item}
      wdir: work
      outs: ["${item}.txt"]
"""
LOCK = """\
schema: '2.0'
stages:
  many@a:
    cmd: run a
    outs: [{path: a.txt, md5: d41d8cd98f00b204e9800998ecf8427e}]
"""
WRITTEN_BY_DVC = [
    "params.yaml", "metrics.json", "mlflow_run.json", "dvc.lock", "plots/loss.csv", "models/model.ckpt",
    "work/a.txt", "data/raw/digits.csv", "data/raw/images/1.png", "sub/out.txt",
]  # fmt: skip


@pytest.fixture
def project(repo: Path, git: Git) -> Path:
    """A project whose uncached outs are committed, as DVC's own documentation advises."""
    files = {
        "dvc.yaml": PIPELINE,
        "dvc.lock": LOCK,
        "data/raw/digits.csv.dvc": "outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: digits.csv\n",
        "data/raw/images.dvc": "outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e.dir\n  path: images\n",
        "sub/dvc.yaml": "stages:\n  one:\n    cmd: x\n    wdir: ../sub\n    outs: [out.txt]\n",
        "metrics.json": "{}",
        "params.yaml": "a: 1",
    }
    for name, text in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text)
    git("add", ".")
    git("commit", "-m", "pipeline")
    return repo


def write(project: Path, *names: str) -> None:
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("changed\n" if name != "dvc.lock" else LOCK + "  x: {cmd: y}\n")


@pytest.mark.parametrize("name", WRITTEN_BY_DVC)
def test_an_out_is_clean(project: Path, name: str) -> None:
    write(project, name)
    assert read_git_state().dirty is False


def test_all_outs_at_once_and_deleted_ones_are_clean(project: Path) -> None:
    write(project, *WRITTEN_BY_DVC)
    (project / "metrics.json").unlink()
    assert read_git_state().dirty is False


@pytest.mark.parametrize(
    "name",
    ["train.py", "dvc.yaml", "data/raw/digits.csv.dvc", "models/code.py", "data/raw/notes.txt", "out.txt", "a.txt"],
)
def test_beside_outs_a_change_of_code_counts(project: Path, name: str) -> None:
    write(
        project, *(out for out in WRITTEN_BY_DVC if not name.startswith("data/raw/digits") or "digits" not in out), name
    )
    assert read_git_state().dirty is True


def test_a_new_pipeline_that_is_not_committed_counts_itself_but_its_outs_do_not(repo: Path, git: Git) -> None:
    (repo / "dvc.yaml").write_text("stages:\n  one:\n    cmd: x\n    outs: [a.bin]\n")
    (repo / "a.bin").touch()
    assert read_git_state().dirty is True
    git("add", "dvc.yaml")
    git("commit", "-m", "pipeline")
    assert read_git_state().dirty is False


@pytest.mark.parametrize(
    "text",
    [
        "{% raw %}\n",
        "[]",
        "stages: 5\n",
        "stages:\n  a: [1]\n",
        "stages:\n  a:\n    outs: {b: 1}\n",
        "\0",
        "- &a [*a]\n",
    ],
)
def test_an_odd_pipeline_file_makes_no_outs_and_no_error(project: Path, git: Git, text: str) -> None:
    (project / "dvc.yaml").write_text(text)
    git("commit", "-am", "odd")
    state = read_git_state()
    assert (state.dirty, state.cause) == (False, None)
    write(project, "metrics.json")
    state = read_git_state()
    assert (state.dirty, state.cause) == (True, None)


@pytest.mark.parametrize("out", [".", "..", "../repo", "/", "s3://bucket/x", ""])
def test_an_out_that_would_hide_the_whole_repository_hides_nothing(project: Path, git: Git, out: str) -> None:
    (project / "dvc.yaml").write_text(f"stages:\n  a:\n    cmd: x\n    outs: ['{out}']\n")
    git("commit", "-am", "odd")
    write(project, "train.py")
    assert read_git_state().dirty is True


def test_an_out_with_a_template_is_known_from_a_lock_that_is_not_committed_yet(project: Path, git: Git) -> None:
    git("rm", "--cached", "dvc.lock")
    git("commit", "-m", "no lock")
    write(project, "work/a.txt")
    assert read_git_state().dirty is False
    (project / "dvc.lock").unlink()
    assert read_git_state().dirty is True


def test_gitignore_counts_only_where_dvc_does_not_write_it(project: Path, git: Git) -> None:
    (project / ".gitignore").write_text("*.log\n/model.ckpt\n")
    assert read_git_state().dirty is False
    git("rm", "-r", "-q", "--cached", "dvc.yaml", "dvc.lock", "data", "sub")
    git("commit", "-m", "no pipeline")
    for name in ("dvc.yaml", "dvc.lock"):
        (project / name).unlink()
    shutil.rmtree(project / "data")
    shutil.rmtree(project / "sub")
    assert read_git_state().dirty is True


PROBE = """\
import json, pathlib
from mlflow_dovetail.context import encode, read_git_state, read_launch
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/model.bin").write_text("x")
tags = {**encode(read_git_state()), **encode(read_launch())}
told = {"dirty": tags["dovetail.git.dirty"], "stage": tags["dovetail.dvc.stage"]}
pathlib.Path("metrics.json").write_text(json.dumps(told))
"""


def test_a_real_stage_is_clean_the_first_time_and_dirty_after_an_edit(
    repo: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc = pytest.importorskip("dvc") and [sys.executable, "-W", "ignore", "-m", "dvc"]
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.setenv("PYTHONPATH", str(Path(context.__file__).parents[2]))
    (repo / "probe.py").write_text(PROBE)
    (repo / "dvc.yaml").write_text(
        f"stages:\n  probe:\n    cmd: '{sys.executable} probe.py'\n    deps: [probe.py]\n"
        "    outs: [models/model.bin]\n    metrics: [{metrics.json: {cache: false}}]\n"
    )
    subprocess.run([*dvc, "init", "-q"], check=True)
    git("add", ".")
    git("commit", "-m", "pipeline")
    for expected in ("false", "true"):
        subprocess.run([*dvc, "repro", "-q"], check=True)
        assert json.loads((repo / "metrics.json").read_text()) == {"dirty": expected, "stage": "probe"}
        (repo / "probe.py").write_text(PROBE + "# edited\n")


def test_without_yaml_the_flag_is_left_out_only_where_outs_matter(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_git_state().dirty is False
    write(project, "metrics.json")
    state = read_git_state()
    assert state.dirty is None
    assert "PyYAML is missing" in str(state.cause)


def test_reading_stops_at_the_deadline(project: Path) -> None:
    outs = read_dvc_outs(project, ["dvc.yaml"], ["a"], deadline=time.monotonic() - 1)
    assert outs.cause == "too many DVC files to read in time"
