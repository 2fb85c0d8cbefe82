"""Projects of every shape: many stages, several pipelines, working folders, folders as outputs, work trees."""

from __future__ import annotations

import msgspec
import pytest

from mlflow_dovetail.dvc_link.history import judge, links_at, revs_of

from .projects import PARAMS, TRAIN, Project, make_project, only, verdicts


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
    beside.write(README="later")
    later = beside.commit("on no branch either")
    assert verdicts(ran, second) == {detached: "exact", later: "exact"}


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
