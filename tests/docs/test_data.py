"""The example and the commands of docs/data.md do what they say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mlflow_dovetail import names

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_example_is_linked_and_the_commands_find_it(tmp_path: Path, shell):
    text = PAGE.read_text(encoding="utf-8")
    (pipeline,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.csv").write_text("a\nb\n")
    (tmp_path / "dvc.yaml").write_text(pipeline)
    (tmp_path / "train.py").write_text(program)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (commands,) = bash_blocks(PAGE)
    commit = "git -c user.name=Ada -c user.email=ada@example.invalid commit -qm first"
    begin = ["dvc init --quiet", "dvc add --quiet data/rows.csv", "git add .", commit]
    printed = shell([[*begin, *commands]], tmp_path)
    found = printed.partition("$ dovetail runs workspace")[2]
    assert len(re.findall(r"rows +FINISHED +exact +train", found)) == 1
    assert len(re.findall(r"rows +FINISHED +reads +train +data/rows.csv", found)) == 1
    assert re.search(r"workspace +uncommitted", found)
    run_id = re.search(r"([0-9a-f]{32}) +rows", found)[1]
    assert run_id in found.partition("$ dvc exp show")[2]
    assert (tmp_path / "model.txt").read_text() == "2"


def test_the_page_names_what_is_stored():
    text = PAGE.read_text(encoding="utf-8")
    stored = [
        names.ARTIFACT_DVC,
        names.TAG_DVC_DEPENDENCIES,
        names.TAG_DVC_OUTPUTS,
        names.TAG_DVC_INPUT_ID,
        names.TAG_DVC_LINK,
        names.TAG_DVC_CHANGED,
        f"{names.ENV_CHANGED_INPUTS}=warn",
    ]
    assert [name for name in stored if name not in text] == []
