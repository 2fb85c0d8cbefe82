"""Every example and command of docs/recording.md does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from mlflow_dovetail import names, store

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recording.md"


def test_the_examples_run_and_the_commands_do_what_they_say(tmp_path, shell):
    (tmp_path / "pyproject.toml").touch()
    logger, block = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    run_command, sync = bash_blocks(PAGE)
    example = f"from pytorch_lightning import Trainer\n{logger}\n{block}"
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True, timeout=120)
    shell([run_command, sync], tmp_path)

    with store.open(f"sqlite:///{tmp_path / 'mlflow.db'}") as opened:
        first, quick = opened.find_run("first"), opened.find_run("quick")
        assert (first.status, quick.status) == ("FINISHED", "FINISHED")
        assert len(opened.metric_history(first.run_id, "loss")) == 100
        assert first.params["lr"] == "0.1"
        kept = {one.path for one in opened.list_artifacts(first.run_id)}
        assert {"notes/why.txt", names.ARTIFACT_REQUIREMENTS, names.ARTIFACT_HOST} <= kept
        console = opened.read_artifact(quick.run_id, names.ARTIFACT_CONSOLE, tmp_path / "read")
        assert console.read_text() == "hello\n"


def test_the_page_names_what_is_stored():
    text = PAGE.read_text(encoding="utf-8")
    stored = [
        names.ARTIFACT_CONSOLE,
        names.ARTIFACT_REQUIREMENTS,
        names.ARTIFACT_HOST,
        names.ARTIFACT_TRACEBACK,
        names.TAG_END_CAUSE,
        names.TAG_STATUS_JOURNAL,
        names.TAG_RENAMED,
        names.TAG_NONFINITE,
        names.TAG_ATTEMPT,
        names.TAG_CHANGED_PARAMS,
        names.ENV_OFFLINE,
        names.ENV_STRICT,
        names.ENV_DIR,
        names.ENV_DISABLED,
    ]
    assert [name for name in stored if f"`{name}" not in text] == []
