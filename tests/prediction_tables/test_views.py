"""The views of a long table: made of its last epoch, in memory for that one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mlflow_dovetail.prediction_tables import compaction
from mlflow_dovetail.prediction_tables.page.choice import ROWS
from mlflow_dovetail.prediction_tables.views import write_views

PEAK = """
import re, sys
from pathlib import Path
from mlflow_dovetail.prediction_tables import read_manifest
from mlflow_dovetail.prediction_tables.views import write_views

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

def views(folder):
    write_views(Path(folder), read_manifest(Path(folder)), {})

views(sys.argv[1])
before = peak()
views(sys.argv[2])
print(peak() - before)
"""


def _table(on_disk, root, epochs, rows=ROWS):
    table = on_disk(root)
    writer = table.writer()
    numbers = np.arange(rows)
    for epoch in range(epochs):
        columns = {"id": numbers, "label": numbers % 3, "prediction": (numbers + epoch) % 3, "epoch": epoch}
        writer.append({**columns, "probabilities": np.full((rows, 3), 1 / 3, np.float32)})
    table.compact()
    return table


def test_a_long_table_needs_no_more_memory_than_its_last_epoch(tmp_path, on_disk):
    short, long = _table(on_disk, tmp_path / "short", 1), _table(on_disk, tmp_path / "long", 150)
    command = [sys.executable, "-c", PEAK, str(short.target), str(long.target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) < 40_000  # kB; all of it, read and looked at, is 185,000


LONG = [
    (6000, "5,000 of the 6,000 rows of epoch 2, the last", "The 12,000 rows of earlier epochs are not in it."),
    (2000, "all 2,000 rows of epoch 2, the last.", "The 4,000 rows of earlier epochs are not in it."),
]


@pytest.mark.parametrize(("rows", "holds", "lacks"), LONG)
def test_of_a_long_table_the_page_tells_of_its_last_epoch(tmp_path, on_disk, monkeypatch, rows, holds, lacks):
    monkeypatch.setattr(compaction, "_GROUP_ROWS", 1000)
    table = _table(on_disk, tmp_path, 3, rows)
    write_views(table.target, table.manifest, {})
    page = (table.target / "index.html").read_text()
    assert holds in page and lacks in page
    assert "were found" not in page


def test_the_page_of_a_resumed_run_is_of_its_last_attempt(table):
    for attempt, epochs in ((1, range(10)), (2, range(4, 7))):
        writer = table.writer(writer=str(attempt), attempt=attempt)
        for epoch in epochs:
            writer.append({"id": ["a", "b"], "label": [0, 1], "prediction": [0, attempt - 1], "epoch": epoch})
    write_views(table.target, table.compact(), {})
    page = (table.target / "index.html").read_text()
    assert "Left out while logging: 6 (rows of later epochs, which an earlier attempt had come to)" in page
    assert "were found" not in page


def test_of_a_short_table_the_page_holds_every_row(tmp_path, on_disk):
    table = _table(on_disk, tmp_path, 3, rows=100)
    write_views(table.target, table.manifest, {})
    page = (table.target / "index.html").read_text()
    assert "The page holds every row of the table." in page and '"size":300,' in page
