#!/usr/bin/env python3
"""Photograph MLflow's UI: `python docs/make_screenshot.py PROJECT` writes the four pictures of docs/images/.

PROJECT is a generated project after `dvc repro` and a sweep of two values, as its README has them. Needs a Chromium or
Chrome on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

# Without these a Chromium as root does not start, and one without a network waits for its vendor.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> None:
    """Open the run that the project's link names, its neighbours, and the children of a sweep; write the pictures."""
    project, images = Path(sys.argv[1]), Path(__file__).parent / "images"
    run_id = json.loads((project / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"]
    with serve(project) as address, browse() as browser:
        open_run(browser, address, run_id).screenshot(path=images / "run.png")
        open_sweep(browser, address, run_id).screenshot(path=images / "sweep.png")
        open_comparison(browser, address, run_id).screenshot(path=images / "comparison.png")
        open_predictions(browser, address, run_id).screenshot(path=images / "predictions.png")


def chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def serve(directory: Path) -> Iterator[str]:
    """`mlflow ui` in a directory, on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).parent / "mlflow", "ui", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, cwd=directory, env=environment, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_for(address: str, seconds: float = 90) -> None:
    """Until the server answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@contextmanager
def browse() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_run(browser: Browser, address: str, run_id: str, tab: str = "") -> Page:
    """A run's page; `tab` is "", "/model-metrics" or "/artifacts"."""
    page = open_runs(browser, address, run_id, f"/{run_id}{tab}?")
    page.get_by_text("Model metrics").first.wait_for(timeout=60_000)
    page.wait_for_timeout(3_000)  # the page polls, so it is never idle
    return page


def open_sweep(browser: Browser, address: str, run_id: str) -> Page:
    """The table of a run's experiment, its sweeps unfolded."""
    page = open_runs(browser, address, run_id, "?compareRunsMode=TABLE")
    page.set_viewport_size({"width": 1280, "height": 520})
    page.get_by_text("Run Name").first.wait_for(timeout=60_000)
    page.wait_for_timeout(3_000)
    for fold in page.locator("[role=gridcell][col-id*='Run Name'] button").all():  # a parent's cell alone has one
        fold.click()
    page.wait_for_timeout(2_000)
    return page


def open_comparison(browser: Browser, address: str, run_id: str) -> Page:
    """MLflow's comparison of the children of a sweep in a run's experiment."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    experiment_id = client.get_run(run_id).info.experiment_id
    runs = client.search_runs([experiment_id], "tags.mlflow.parentRunId LIKE '%'")
    asked = urllib.parse.urlencode(
        {"runs": json.dumps([run.info.run_id for run in runs]), "experiments": json.dumps([experiment_id])}
    )
    page = new_page(browser)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{address}/#/compare-runs?{asked}&workflowType=machine_learning")
    page.get_by_text("Parallel Coordinates Plot").first.wait_for(timeout=60_000)
    page.wait_for_timeout(3_000)
    return page


def open_predictions(browser: Browser, address: str, run_id: str) -> Page:
    """The page of the run's table `val` among its artifacts."""
    page = open_run(browser, address, run_id, "/artifacts/predictions/val/index.html")
    page.frame_locator("iframe").locator("#count").wait_for(timeout=20_000)
    page.get_by_text("Path:").evaluate("path => path.remove()")  # of the machine that takes the picture
    return page


def open_runs(browser: Browser, address: str, run_id: str, what: str) -> Page:
    """The page of the runs of a run's experiment; `what` follows in its address."""
    from mlflow.tracking import MlflowClient

    experiment_id = MlflowClient(address).get_run(run_id).info.experiment_id
    page = new_page(browser)
    page.goto(f"{address}/#/experiments/{experiment_id}/runs{what}&workflowType=machine_learning")
    return page


def new_page(browser: Browser) -> Page:
    """An empty page, on which MLflow's assistant will not open by itself as it does on the first visit."""
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    page.add_init_script(
        "if (window === top) localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
    )
    return page


if __name__ == "__main__":
    main()
