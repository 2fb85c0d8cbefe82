"""`dovetail predictions show` and `diff`, on two real runs."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TRAIN = """
import sys
import numpy as np
import mlflow_dovetail as dt
labels = np.arange(20) % 2
for name, wrong in (("first", {3, 4, 5, 6, 7, 8, 9}), ("second", {9})):
    with dt.start_run(run_name=name) as run:
        guess = [int(1 - label if number in wrong else label) for number, label in enumerate(labels)]
        for epoch in range(2):
            run.table("val").append({
                "id": [f"e{number}" for number in range(20)], "label": labels, "prediction": guess,
                "image": np.random.default_rng(0).random((20, 70, 90)), "site": ["x", "y"] * 10,
                "text": ["\\x1b[31mred <b>" + "long " * 100] * 20, "epoch": epoch,
                "probabilities": [[0.25, 0.75] if one else [0.75, 0.25] for one in guess],
            })
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    (folder / "train.py").write_text(TRAIN)
    subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment(), check=True, timeout=200)
    return folder


def test_a_run_shows_each_table_in_one_line(project: Path):
    command = [sys.executable, "-m", "mlflow_dovetail", "show", "first"]
    page = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, timeout=100).stdout
    lines = [line.split() for line in page.splitlines() if "predictions/" in line]
    assert [line[0] for line in lines] == ["predictions/val/"] and lines[0][-1] == "files"
    whole = json.loads(subprocess.check_output([*command, "--json"], cwd=project, env=environment()))["artifacts"]
    mine = [one for one in whole if one["path"].startswith("predictions/val/")]
    assert int(lines[0][-2]) == len(mine) > 20, "with --json every file"


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DOVETAIL_"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true"}


def dovetail(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlflow_dovetail", "predictions", *words]
    return subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, timeout=100)


def test_mistakes_come_first_and_nothing_reaches_the_terminal_but_text(project: Path):
    done = dovetail(project, "show", "first", "--rows", "7")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "first, val: 40 rows, 20 of them of the last epoch. Most confident mistakes first" in lines[0]
    assert lines[2].split() == ["id", "text", "result", "label", "prediction", "confidence,", "%", "site", "epoch"]
    assert all("Wrong" in line and " 75.0 " in line for line in lines[3:]) and len(lines) == 10
    assert max(map(len, lines)) < 160, "a text is there in part, and says so"
    assert "(512 characters in all)" in lines[3]
    words = {word for line in lines[3:] for word in line.split()}
    assert {word for word in words if word[0] == "e" and word[1:].isdigit()} == {
        f"e{number}" for number in range(3, 10)
    }
    assert "\x1b" not in done.stdout


def test_all_rows_as_json(project: Path):
    found = json.loads(dovetail(project, "show", "second", "--json").stdout)
    assert len(found["rows"]) == 40 and found["table"] == "val" and len(found["run_id"]) == 32


def test_what_changed_between_two_runs(project: Path):
    found = json.loads(dovetail(project, "diff", "first", "second", "--json").stdout)
    assert {one["id"] for one in found["newly_right"]} == {f"e{number}" for number in range(3, 9)}
    assert found["newly_wrong"] == [] and found["changed"] == []
    assert found["p_value"] == pytest.approx(2 * 0.5**6)
    text = dovetail(project, "diff", "first", "second", "--slice", "site").stdout
    assert "newly right" in text and "McNemar" in text and "site" in text


def test_the_page_of_a_comparison(project: Path):
    done = dovetail(project, "diff", "first", "second", "--html", "diff.html")
    assert done.returncode == 0 and "Written: diff.html" in done.stderr
    page = (project / "diff.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    images = [base64.b64decode(one) for one in re.findall(r"data:image/\w+;base64,([\w+/=]+)", page)]
    assert {Image.open(io.BytesIO(one)).size for one in images} == {(90, 70)}, "more than thumbnails"
    assert len(images) == 6


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", "first", "second"), 2, "takes 1 of RUN"),
        (("diff", "first"), 2, "takes 2 of RUN"),
        (("show", "nobody"), 1, "nobody"),
        (("show", "first", "--table", "test"), 1, "It has val"),
        (("diff", "first", "second", "--slice", "nothing"), 1, "nothing"),
        (("show",), 2, "RUN"),
        (("show", "first", "--rows=-1"), 2, "no number of rows"),
    ],
)
def test_bad_input(project: Path, words: tuple[str, ...], code: int, told: str):
    done = dovetail(project, *words)
    assert done.returncode == code and told in done.stderr
    assert "Traceback" not in done.stderr
