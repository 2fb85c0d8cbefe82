"""Every command of this repository's README does what it says, in a clone."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import bash_blocks

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

TEST_COMMAND = ["make test"]
DEMO = ["make demo"]
SHOW = [
    "dovetail show RUN",
    "dovetail show RUN --json",
    "dovetail patch show RUN",
    "dovetail restore RUN ../again",
    "dovetail runs REV",
    "dovetail revs RUN",
    "dovetail predictions show RUN",
    "dovetail sync",
    "dovetail doctor",
]


@pytest.fixture
def clone(tmp_path: Path, repository_copy: Path) -> Path:
    """This working tree as a clone named as the README names it."""
    subprocess.run(["git", "clone", "--quiet", repository_copy, tmp_path / "dovetail"], check=True)
    for name in ("make.py", "Makefile"):
        (tmp_path / "dovetail" / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path / "dovetail"


def test_the_demo_trains_and_shows_its_run(clone, shell, tmp_path):
    assert DEMO in bash_blocks(README)
    printed = shell([DEMO], clone, DOVETAIL_ENVIRONMENTS=str(tmp_path / "environments"))
    (project,) = (tmp_path / "home" / "dovetail-demo").glob("*/digits-demo")
    assert json.loads((project / "metrics.json").read_text())["best/val/acc"] >= 0.97
    assert "test/acc" in printed
    run_id = json.loads((project / "mlflow_run.json").read_text())["run_id"]
    assert re.search(rf"dovetail show {run_id}", printed)
    _, _, last = printed.rpartition("==>")
    commands = [line.strip() for line in last.splitlines() if line.startswith("  ")]
    # What it printed as the way to the browser opens the page, and finds this environment's programs.
    assert commands[-1] == "mlflow ui --workers 1"
    shell([[*commands[:-1], "dvc status", commands[-1]]], tmp_path)
    assert f"runs/{run_id}?workflowType=machine_learning" in last


def test_the_other_commands_run_as_they_stand(clone, shell, tmp_path, own_programs, monkeypatch):
    others = [block for block in bash_blocks(README) if block not in (DEMO, TEST_COMMAND, SHOW)]
    assert len(others) == 2
    # In an environment of its own, which sees the packages of this one: what is tested is that pip takes the commands.
    make_environment = ["python -m venv --system-site-packages venv", ". venv/bin/activate"]
    link = 'echo "$OUTER" > "$(python -c "import sysconfig; print(sysconfig.get_path(\'purelib\'))")/outer.pth"'
    outer = subprocess.run(
        ["python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        env={"PATH": own_programs},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    shell([make_environment, [link], *others], tmp_path, PATH=own_programs, OUTER=outer)
    assert (tmp_path / "digits-classifier" / "dvc.yaml").exists()
    (tmp_path / "work").mkdir()
    rows = "{'id': ['a'], 'label': ['cat'], 'prediction': ['dog']}"
    logged = f"    run.log_param('lr', 1)\n    run.table('val').append({rows})\n"
    train = f"import mlflow_dovetail as dt\nwith dt.start_run() as run:\n{logged}print(run.run_id)\n"
    (tmp_path / "work" / "train.py").write_text(train)
    commit = "git -c user.name=Ada -c user.email=ada@example.invalid commit -qm first"
    show = [line.replace("RUN", "$RUN").replace("REV", "HEAD") for line in SHOW]
    work = [". venv/bin/activate", "cd work", "git init -q", "git add .", commit, "echo x=1 > new.py"]
    shell([[*work, "RUN=$(python train.py)", *show]], tmp_path, PATH=own_programs)
    assert (tmp_path / "again" / "new.py").read_text() == "x=1\n"


def test_the_test_command_is_what_ci_runs():
    assert TEST_COMMAND in bash_blocks(README)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == TEST_COMMAND[0]
    assert f"run: {TEST_COMMAND[0]}" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "python3 make.py $@" in (ROOT / "Makefile").read_text()


def test_the_example_of_the_logger_runs(tmp_path, monkeypatch):
    import pytorch_lightning

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {"Trainer": pytorch_lightning.Trainer}
    exec(example, names)
    assert type(names["trainer"].logger).__name__ == "DovetailLogger"


def test_it_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for document in [README, *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document}: {link}"
