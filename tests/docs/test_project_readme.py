"""Every command of a generated project's README does what it says, from `python -m venv` on."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import bash_blocks


def test_every_command_runs_in_order(bake, shell, own_programs):
    project: Path = bake(project_name="Readme")
    blocks = bash_blocks(project / "README.md")
    assert len(blocks) >= 9
    printed = shell(blocks, project, PATH=own_programs)
    assert "Data and pipelines are up to date." in printed.rpartition("$ dvc pull")[2]
    assert json.loads((project / "evaluation.json").read_text())["test/acc"] > 0.9
    assert len((project / "outputs" / "predictions.csv").read_text().splitlines()) == 1798
    assert " passed" in printed.rpartition("$ pytest")[2]
