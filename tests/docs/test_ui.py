"""MLflow's own page of a run shows what Dovetail keeps, in a real browser."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_a_run_shows_it_whole(tmp_path, monkeypatch):
    pictures = load("make_screenshot")
    if pictures.chromium() is None:
        pytest.skip("no Chromium or Chrome on the PATH; .ci/run installs one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow_dovetail.lightning import DovetailLogger

    subprocess.run(["git", "init", "--quiet"], check=True)
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    logger = DovetailLogger("lines", run_name="the-run", notes="**bold** words", tags={"team": "blue"})
    logger.log_config({"model": {"lr": 0.125}})
    logger.log_dataset("data.csv", name="numbers", context="training")
    for step in range(3):
        logger.log_metrics({"val/acc": step / 2}, step)
    logger.log_torch_model(torch.nn.Linear(1, 1), torch.zeros(2, 1))
    logger.finalize("success")

    with pictures.serve(tmp_path) as address, pictures.browse() as browser:
        overview = pictures.open_run(browser, address, logger.run_id).inner_text("body")
        for shown in (
            "the-run",
            "Finished",
            "bold words",
            "team",
            "model.lr",
            "0.125",
            "val/acc",
            "numbers",
            "dovetail.host",
            "model",
        ):
            assert shown in overview
        artifacts = pictures.open_run(browser, address, logger.run_id, "/artifacts")
        artifacts.get_by_text("config", exact=True).first.click()
        artifacts.get_by_text("config.yaml").first.click()
        artifacts.get_by_text("lr: 0.125").first.wait_for(timeout=20_000)
        artifacts.get_by_text("code", exact=True).first.click()
        artifacts.get_by_text("diff.patch.txt").first.click()
        artifacts.get_by_text("+++ b/data.csv").first.wait_for(timeout=20_000)
