"""Names that break things elsewhere: a project that works, or an error that says what to answer instead."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from omegaconf import OmegaConf
from scaffold.answers import check_answers
from scaffold.errors import ScaffoldError

# project_name: the directory and the package.
GOOD = {
    "My  Project": ("my-project", "my_project"),
    "Größe | Zahl": ("grosse-zahl", "grosse_zahl"),
    "名前": ("ming-qian", "ming_qian"),
    "Bob's net": ("bob-s-net", "bob_s_net"),
    "3D": ("3d", "project_3d"),
    "Name.": ("name", "name"),
    "-rf": ("rf", "rf"),
    "$(touch x)": ("touch-x", "touch_x"),
    "a/b": ("a-b", "a_b"),
    "null": ("null", "null"),
    "1e5": ("1e5", "project_1e5"),
    "x" * 200: ("x" * 64, "x" * 64),
}
REFUSED = {
    "😀": "Give a name with letters or digits",
    "..": "Give a name with letters or digits",
    "~": "Give a name with letters or digits",
    "  ": "Give a name with letters or digits",
    "two\nlines": "Use letters, digits, spaces and hyphens",
    "`id`": "Use letters, digits, spaces and hyphens",
    "class": "Use for example `package_name=class_project`",
    "random": "Use for example `package_name=random_project`",
    "Test": "Use for example `package_name=test_project`",
    "torch": "Use for example `project_name='torch Project'`",
    "MLflow": "Use for example `project_name='MLflow Project'`",
    "CON": "Use for example `project_name='CON Project'`",
    "lpt1": "Use for example `project_name='lpt1 Project'`",
}
# What YAML takes for something else, and what shells, tables and paths stumble over.
WORST = ("null", "1e5", "Größe | Zahl's $HOME")


def answers(name: str, repository: Path) -> dict[str, str]:
    context = generate_context(str(repository / "template" / "cookiecutter.json"), extra_context={"project_name": name})
    return prompt_for_config(context, no_input=True)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name(name, repository_copy):
    given = answers(name, repository_copy)
    check_answers(given, repository_copy / "template")
    assert (given["__project_slug"], given["package_name"]) == GOOD[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_name_comes_with_a_better_one(name, repository_copy):
    with pytest.raises(ScaffoldError, match=re.escape(REFUSED[name])):
        check_answers(answers(name, repository_copy), repository_copy / "template")


@pytest.mark.parametrize("name", WORST)
def test_the_worst_names_compose(name, bake):
    """The directory's name is the name of MLflow's experiment, letter by letter."""
    project: Path = bake(project_name=name)
    package = next(project.glob("*/compose.py")).parent.name
    done = subprocess.run([sys.executable, "-m", f"{package}.compose"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert OmegaConf.load(project / "params.yaml").logger.experiment_name == project.name


def test_a_project_trains_in_any_folder(tmp_path, repository_copy, cookiecutter, bake_environment):
    """The name too is one of the worst; what `dvc repro` does is in test_repro.py."""
    folder = tmp_path / "with space, größe 名, quotes ' and | $HOME\nand a second line"
    folder.mkdir()
    done = cookiecutter(folder, str(repository_copy), "--no-input", f"project_name={WORST[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    (project,) = folder.iterdir()
    trainer = project / "configs" / "trainer" / "default.yaml"
    text = trainer.read_text(encoding="utf-8")
    trainer.write_text(re.sub("max_epochs: .*", "max_epochs: 1", text), encoding="utf-8")
    path = f"{Path(sys.executable).parent}:{bake_environment['PATH']}"
    environment = {**bake_environment, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((project / "evaluation.json").read_text())["test/acc"] > 0.3
    assert (project / "mlflow.db").exists()
