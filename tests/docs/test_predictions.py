"""docs/predictions.md: its Python and its commands run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "predictions.md"


def test_the_example_is_shown_compared_and_loaded(tmp_path: Path, shell):
    _, example, load = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    second = example.replace('run_name="first"', 'run_name="second"').replace('["cat", "cat"]', '["cat", "dog"]')
    check = "assert len(rows) == 4 and list(rows.columns)[:2] == ['run_id', 'id'], rows"
    (tmp_path / "example.py").write_text("\n".join([example, second, load, check, ""]))
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, check=True, timeout=200)
    printed = shell(bash_blocks(PAGE), tmp_path)
    assert re.search(r"^b +dog +cat +0.6", printed, re.MULTILINE), printed
    assert re.search(r"newly right +1", printed) and "McNemar" in printed
    assert (tmp_path / "diff.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
