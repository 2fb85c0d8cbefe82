"""MLflow's own pages show what Dovetail keeps, in a real browser: a run, its tables, and tables of two runs."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 150
HOSTILE = "<img src=x onerror=document.title='owned'>"
NAMES = [*(f"digit {number}" for number in range(9)), HOSTILE]


class Ui(NamedTuple):
    """MLflow's pages over some runs; `run_ids` by their names."""

    pictures: ModuleType
    browser: Browser
    address: str
    run_ids: dict[str, str]

    def open(self, run: str, artifact: str) -> Page:
        return self.pictures.open_run(self.browser, self.address, self.run_ids[run], f"/artifacts/{artifact}")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    spec = importlib.util.spec_from_file_location("make_screenshot", ROOT / "docs" / "make_screenshot.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    if pictures.chromium() is None:
        pytest.skip("no Chromium or Chrome on the PATH; .ci/run installs one")
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run_ids = {"the-run": log_run(folder), **{name: log_table(name, step) for step, name in enumerate("ab")}}
    with pictures.serve(folder) as address, pictures.browse() as browser:
        yield Ui(pictures, browser, address, run_ids)


def log_run(folder: Path) -> str:
    from mlflow_dovetail.lightning import DovetailLogger

    subprocess.run(["git", "init", "--quiet"], check=True)
    (folder / "data.csv").write_text("a,b\n1,2\n")
    logger = DovetailLogger("lines", run_name="the-run", notes="**bold** words", tags={"team": "blue"})
    logger.log_config({"model": {"lr": 0.125}})
    logger.log_dataset("data.csv", name="numbers", context="training")
    for step in range(3):
        logger.log_metrics({"val/acc": step / 2}, step)
    logger.log_torch_model(torch.nn.Linear(1, 1), torch.zeros(2, 1))
    logger.finalize("success")
    return logger.run_id


def log_table(name: str, seed: int) -> str:
    """Real digits, of which a tenth is taken for the next one, each time other ones."""
    from mlflow_dovetail.lightning import DovetailLogger
    from mlflow_dovetail.prediction_tables import Class, Probabilities

    digits, random = load_digits(), np.random.default_rng(seed)
    labels = digits.target[:EXAMPLES]
    predictions = np.where(random.random(EXAMPLES) < 0.1, (labels + 1) % 10, labels)
    columns = {"label": Class(NAMES), "prediction": Class(NAMES), "probabilities": Probabilities(NAMES)}
    logger = DovetailLogger("digits", run_name=name)
    logger.run.table("val", columns).append(
        {
            "id": [f"digit-{number:03d}" for number in range(EXAMPLES)],
            "image": (digits.images[:EXAMPLES] * 15.9).astype(np.uint8),
            "label": labels,
            "prediction": predictions,
            "probabilities": np.eye(10)[predictions] * 0.5 + 0.05,
            "loss": random.random(EXAMPLES),
            "note": HOSTILE,
            "epoch": 0,
        }
    )
    logger.finalize("success")
    logger.run.close()
    return logger.run_id


def listen(page: Page) -> list[str]:
    """What must not be there: errors, dialogs, and requests to anybody but the server."""
    complaints: list[str] = []
    origin = page.evaluate("location.origin")

    def on_request(request: Any) -> None:
        of_artifact = request.frame != page.main_frame and request.url != request.frame.url
        if of_artifact and not request.url.startswith(("data:", "blob:")):
            complaints.append(f"the artifact asks for {request.url}")
        if not request.url.startswith((origin, "data:", "blob:")):
            complaints.append(request.url)

    def on_console(said: Any) -> None:
        # Of its own parts MLflow's page asks for some that this server does not have.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            complaints.append(said.text)

    page.on("request", on_request)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("response", lambda got: complaints.append(got.url) if got.status >= 400 and "artifact" in got.url else None)
    page.on("console", on_console)
    return complaints


def test_the_page_of_a_run_shows_it_whole(ui: Ui):
    overview = ui.pictures.open_run(ui.browser, ui.address, ui.run_ids["the-run"]).inner_text("body")
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
    artifacts = ui.open("the-run", "")
    artifacts.get_by_text("config", exact=True).first.click()
    artifacts.get_by_text("config.yaml").first.click()
    artifacts.get_by_text("lr: 0.125").first.wait_for(timeout=20_000)
    artifacts.get_by_text("code", exact=True).first.click()
    artifacts.get_by_text("diff.patch.txt").first.click()
    artifacts.get_by_text("+++ b/data.csv").first.wait_for(timeout=20_000)


def images(page: Page) -> list[tuple[str, int]]:
    """The run and the width of each image of a table that the browser has drawn."""
    drawn = page.locator("img[src*=thumbnails]")
    drawn.first.wait_for(timeout=20_000)
    page.wait_for_function("[...document.querySelectorAll('img[src*=thumbnails]')].every(one => one.complete)")
    found: list[tuple[str, int]] = drawn.evaluate_all(
        "all => all.map(one => [new URL(one.src).searchParams.get('run_uuid'), one.naturalWidth])"
    )
    return found


def test_a_table_is_shown_with_its_images(ui: Ui):
    page = ui.open("a", "")
    complaints = listen(page)
    for name in ("predictions", "val", "table.json"):
        page.get_by_text(name, exact=True).first.click()
    assert {width for _, width in images(page)} == {128}, "eight pixels are too few to be looked at"
    shown = page.locator("[role=row]").nth(1).inner_text()
    assert "digit-" in shown and any(name in shown for name in NAMES)
    assert page.get_by_text(HOSTILE, exact=True).count() > 0
    assert page.title() != "owned" and complaints == []


def test_tables_of_two_runs_stand_beside_each_other(ui: Ui):
    page = ui.pictures.open_runs(ui.browser, ui.address, ui.run_ids["a"], "?compareRunsMode=ARTIFACT")
    complaints = listen(page)
    expect(page.get_by_test_id("dropdown-tables")).to_contain_text("predictions/val/table.json", timeout=60_000)
    page.get_by_text("digit-").nth(3).wait_for(timeout=20_000)
    assert page.get_by_text("(empty)").count() == 0, "the first examples are in both runs"
    page.get_by_text("Compare:").click()
    page.get_by_role("option", name="image").click()
    drawn = images(page)
    assert {run for run, _ in drawn} == {ui.run_ids["a"], ui.run_ids["b"]}
    assert {width for _, width in drawn} == {128} and complaints == []


def test_the_page_of_a_table_works_in_mlflows_frame(ui: Ui):
    page = ui.open("b", "")
    complaints = listen(page)
    for name in ("predictions", "val", "index.html"):
        page.get_by_text(name, exact=True).first.click()
    frame = page.frame_locator("iframe")
    expect(frame.locator("#count")).to_have_text(f"{EXAMPLES} rows", timeout=20_000)
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"

    frame.get_by_label("Search all columns").fill("digit-00")
    expect(frame.locator("#count")).to_have_text(f"10 rows of the {EXAMPLES} in this page")
    frame.get_by_label("Search all columns").fill("")
    expect(frame.locator("#count")).to_have_text(f"{EXAMPLES} rows")

    frame.locator("#examples th", has_text="loss").get_by_role("button").click()
    losses = [float(text) for text in frame.locator("#examples tbody tr td:nth-child(8)").all_inner_texts()]
    assert losses == sorted(losses, reverse=True) and len(losses) == 50

    cell = frame.locator("#matrix td.miss.heat-9").first
    expected = int(cell.get_attribute("data-count"))
    cell.click()
    expect(frame.locator("#count")).to_contain_text(f"{expected} row")
    assert frame.locator("#examples tbody tr").count() == expected

    frame.locator("#examples tbody tr").first.get_by_role("button").first.click()
    expect(frame.locator("#example figcaption")).to_contain_text("8 × 8 pixels")
    page.keyboard.press("Escape")
    expect(frame.locator("#example")).to_be_hidden()
    assert complaints == [] and page.title() != "owned"
