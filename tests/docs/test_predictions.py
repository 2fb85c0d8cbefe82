"""docs/predictions.md: its Python and its commands run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.streams import MOST_IMAGES

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "predictions.md"


PYTHON = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
# Of each kind of model, what its table has.
KINDS = {
    "texts": {"text": "text", "label": "class", "prediction": "class", "probabilities": "probabilities"},
    "numbers": {"label": "number", "prediction": "number", "rooms": "number", "loss": "number"},
    "masks": {"image": "image", "label": "image", "prediction": "image", "where_wrong": "image"},
}
CHECK = """
from mlflow_dovetail.run.predictions import open_tables
for name, expected in KINDS.items():
    with open_tables([name], "val") as (found,):
        kinds = {column.name: column.kind for column in found.manifest.columns}
        assert expected.items() <= kinds.items(), kinds
        images = [column for column, kind in kinds.items() if kind == "image"]
        digests = {digest for column in images for digest in found.rows()[column].to_pylist()}
        assert None not in digests and found.thumbnails(digests).keys() == digests
        print(name, found.rows().num_rows, found.manifest.left_out)
"""


def run(folder: Path, *blocks: str) -> str:
    (folder / "example.py").write_text("\n".join([*blocks, ""]))
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=folder, check=False, timeout=200, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_is_shown_compared_and_loaded(tmp_path: Path, shell):
    _, *_, example, load, query = PYTHON
    second = example.replace('run_name="first"', 'run_name="second"').replace('["cat", "cat"]', '["cat", "dog"]')
    check = "assert len(rows) == 4 and list(rows.columns)[:2] == ['run_id', 'id'], rows"
    asked = "assert by_label.set_index('label').confidence.to_dict() == {'cat': 0.9, 'dog': 0.6}, by_label"
    run(tmp_path, example, second, load, check, query, asked)
    printed = shell(bash_blocks(PAGE), tmp_path)
    assert re.search(r"^b +Wrong +dog +cat +0.6", printed, re.MULTILINE), printed
    assert re.search(r"newly right +1", printed) and "McNemar" in printed
    assert (tmp_path / "diff.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_texts_numbers_and_masks_are_kept(tmp_path: Path):
    _, *models, _, _, _ = PYTHON
    assert len(models) == len(KINDS)
    printed = run(tmp_path, *models, f"KINDS = {KINDS!r}", CHECK)
    for line in ("texts 4 {}", "numbers 20 {}", "masks 6 {}"):
        assert line in printed, printed


def test_the_stored_form_is_told_whole():
    page = PAGE.read_text(encoding="utf-8")
    fields = [*schema.Manifest.__struct_fields__, *schema.File.__struct_fields__, *schema.Column.__struct_fields__]
    for name in (*fields, *get_args(schema.Kind), *schema.MEDIA_COLUMNS):
        assert f"`{name}`" in page, name
    assert f"version {schema.VERSION} of this form" in page and f"{MOST_IMAGES:,} different ones" in page
