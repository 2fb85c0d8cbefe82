"""Run folders of every version that has been released still open, and hold what they held.

`released/v<n>` holds the bytes that a version wrote (`make_released.py`); they are never made again.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from journals import artifacts, points, send

from mlflow_dovetail.run_folder import RunFolder
from mlflow_dovetail.store import MemoryStore

RELEASED = Path(__file__).with_name("released")


@pytest.mark.parametrize("version", sorted(path.name for path in RELEASED.glob("v*")))
def test_a_folder_of_a_released_version_opens_and_is_sent(version: str, tmp_path: Path, memory: MemoryStore):
    copy = shutil.copytree(RELEASED / version, tmp_path / "folder")
    for part in ("artifacts", "sent", "captured", "lease"):
        (copy / part).mkdir(exist_ok=True)  # git keeps no empty folder
    folder = RunFolder.open(copy)
    about = folder.describe()
    assert (about.version, about.token, about.name) == (1, "00112233445566778899aabbccddeeff", "kept")
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert (run.status, run.tags["dovetail.attempt"], run.params) == ("FINISHED", "2", {"lr": "0.1", "model": "cnn"})
    assert (run.tags["who"], run.tags["t_g"], run.tags["a"]) == ("me", "mapped", "b")
    sent = points(memory, run.run_id)
    assert sent["val/loss"] == [(step, 1.0 / (step + 1)) for step in range(10)] + [(10, 0.1), (11, 0.11)]
    assert sent["attempt_2/val/loss"] == [(8, 0.08), (9, 0.09)]
    assert sent["acc_1"] == [(step, step / 10) for step in range(10)]
    assert sent["test/acc"] == [(0, 0.75)]
    assert math.isnan(sent["odd"][0][1])
    assert json.loads(run.tags["dovetail.nonfinite"]) == {"odd": {"nan": 1, "inf": 1}}
    assert json.loads(run.tags["dovetail.changed_params"]) == {"2": {"lr": "0.2"}}
    assert "an example of a cause ×1" in run.tags["dovetail.status.journal"]
    assert [one.name for one in run.inputs] == ["digits"]
    expected = {"console.log": b"epoch 1\n", "notes/old.txt": b"second"}
    assert artifacts(memory, run.run_id, tmp_path / "a") == expected
