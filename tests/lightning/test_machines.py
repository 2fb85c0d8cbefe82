"""The machines and ranks of a Lightning training in its one run: speed of each rank, samples of each host, advice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_dovetail import store

SLOW_LOADER = """
import sys, time
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset
from mlflow_dovetail.lightning import DovetailLogger

class Rows(Dataset):
    def __len__(self): return int(sys.argv[2])
    def __getitem__(self, index):
        time.sleep(float(sys.argv[3]))
        return torch.full((1,), 0.5)

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, _):
        return self.layer(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_checkpointing": False}
trainer = pl.Trainer(**trainer, **eval(sys.argv[4]), logger=DovetailLogger("speed", "r", tracking_uri=sys.argv[1]))
trainer.fit(Model(), DataLoader(Rows(), batch_size=2))
"""
OTHER = "another-machine"


def command(uri: str, rows: int, seconds: float, trainer: dict) -> list[str]:
    return [sys.executable, "train.py", uri, str(rows), str(seconds), repr(trainer)]


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DOVETAIL_"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "train.py").write_text(SLOW_LOADER)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store.open(uri, "speed").close()
    return uri


def test_a_slow_loader_is_seen_in_the_runs_metrics_and_its_rank_is_kept(tmp_path: Path, uri: str):
    done = subprocess.run(command(uri, 40, 0.05, {}), cwd=tmp_path, env=environment(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    with store.open(uri) as opened:
        run = opened.find_run("r")
        summary = json.loads(opened.read_artifact(run.run_id, "system/summary.json", tmp_path / "read").read_text())
    assert run.metrics["system/training_data_seconds"] >= 0.09
    assert run.metrics["system/training_data_percentage"] > 60
    assert run.metric_steps["system/training_data_seconds"] < 60, "seconds since the run's start"
    (speed,) = summary["training"]
    assert (speed["rank"], speed["steps"], speed["samples"]) == (0, 20, 40)
    assert summary["metrics"]["system/process_memory_megabytes"]["maximum"] > 50


@pytest.mark.skipif(os.geteuid() != 0, reason="a name of its own for a second machine needs root")
def test_each_machine_of_a_training_samples_itself_into_the_one_run(tmp_path: Path, uri: str):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    job["GLOO_SOCKET_IFNAME"] = "lo"
    trainer = {"num_nodes": 2, "devices": 1, "strategy": "ddp"}
    words = command(uri, 40, 0.1, trainer)
    first = subprocess.Popen(words, cwd=tmp_path, env=environment(**job, NODE_RANK="0"), stderr=subprocess.PIPE)
    named = ["unshare", "--uts", "sh", "-c", f'hostname {OTHER}; exec "$@"', "sh", *words]
    second = subprocess.run(
        named, cwd=tmp_path, env=environment(**job, NODE_RANK="1"), capture_output=True, timeout=120, check=False
    )
    _, said = first.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), said.decode() + second.stderr.decode()
    wait_for_recorder(tmp_path / ".dovetail/hosts" / OTHER)
    with store.open(uri) as opened:
        (run,) = opened.search("dovetail.status.host", "ok")
        paths = {one.path for one in opened.list_artifacts(run.run_id)}
    assert run.status == "FINISHED"
    assert run.metrics["system/process_memory_megabytes"] > 50
    assert run.metrics[f"system/{OTHER}/process_memory_megabytes"] > 50
    assert run.tags[f"dovetail.status.host.{OTHER}"] == "ok"
    assert {"system/summary.json", f"system/{OTHER}/summary.json", "environment/host.json"} <= paths
    other = next((tmp_path / ".dovetail/hosts" / OTHER).rglob("captured/system/*/summary.json"))
    assert [speed["rank"] for speed in json.loads(other.read_text())["training"]] == [1]


def wait_for_recorder(root: Path) -> None:
    """The other machine's rank does not wait for its recorder, which sends what it has by itself."""
    (log,) = root.rglob("recorder.log")
    subprocess.run(["timeout", "60", "sh", "-c", f"until grep -q Done {log}; do sleep 0.2; done"], check=True)
