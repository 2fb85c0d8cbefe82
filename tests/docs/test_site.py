"""docs/ as a site: it builds without a warning, its links lead somewhere, and it asks no network for anything."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_dovetail import store

from .conftest import bash_blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
PROJECT_README = ROOT / "template" / "{{cookiecutter.__project_slug}}" / "README.md"
# What a browser loads by itself; what a reader follows by a click (`<a href>`) may lead anywhere.
LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a broken link or anchor, or a page that is in no menu, fails."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_every_page_is_there(site):
    built = {path.relative_to(site) for path in site.rglob("*.html")} - {Path("404.html")}
    folders = {page for page in PAGES if page.name == "README.md"}
    expected = {page.with_suffix(".html") for page in {*PAGES} - folders}
    expected |= {page.with_name("index.html") for page in folders}
    assert built == expected
    assert not list(site.rglob("*.py"))


def test_no_page_loads_anything_from_elsewhere(site):
    found = {path.name: LOADED.findall(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    # Material's canonical link is written only with a site_url.
    assert {name: links for name, links in found.items() if links} == {}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"""(?:@import|url\()\s*["']?https?:[^"')]+""", styles) == []


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site on loopback, as any server of files would have it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(site), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_a_browser_reads_it_and_finds_words(address):
    """Every request of Chromium is counted: pages, pictures and the search."""
    spec = importlib.util.spec_from_file_location("make_screenshot", ROOT / "docs" / "make_screenshot.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    if pictures.chromium() is None:
        pytest.skip("no Chromium or Chrome on the PATH; .ci/run installs one")
    pictures.wait_for(address)
    requests: list[str] = []
    with pictures.browse() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("request", lambda request: requests.append(request.url))
        for name in ("first-hour.html", "concepts.html", "figures.html", "decisions/index.html", "index.html"):
            page.goto(f"{address}/{name}")
            broken = "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
            assert page.evaluate(broken) == []
        page.get_by_placeholder("Search").first.click()
        page.keyboard.type("recorder", delay=20)
        page.locator(".md-search-result__item a").first.wait_for(timeout=20_000)
    assert len(requests) > 20
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


def test_the_first_hours_commands_are_the_readmes():
    """Those are run as they stand by test_readme.py and test_project_readme.py."""
    known = {line for readme in (ROOT / "README.md", PROJECT_README) for block in bash_blocks(readme) for line in block}
    known = {line.replace("{{ cookiecutter.package_name }}", "digits_classifier") for line in known}
    lines = [line for block in bash_blocks(ROOT / "docs" / "first-hour.md") for line in block]
    assert [line for line in lines if line not in known] == []


def test_the_pages_for_an_existing_project_do_what_they_say(tmp_path: Path, shell, own_programs):
    page = ROOT / "docs" / "existing-project.md"
    text = page.read_text(encoding="utf-8")
    lightning, pytorch, hydra = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    pipeline, config = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "train_lightning.py").write_text(lightning)
    (tmp_path / "train_pytorch.py").write_text(pytorch)
    (tmp_path / "train_hydra.py").write_text(hydra)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(config)
    (tmp_path / "train_unchanged.py").write_text("import mlflow\nmlflow.log_metric('loss', 0.5)\n")
    (tmp_path / "dvc.yaml").write_text(pipeline)
    (tmp_path / ".gitignore").write_text("mlflow.db*\nmlartifacts/\nmlruns/\n")
    install, *blocks = bash_blocks(page)
    assert install == ['pip install "./dovetail[all]"']  # run by test_readme.py
    begin = ["git init -q", "dvc init -q", "git add .", "git commit -qm before"]
    printed = shell([begin, *blocks], tmp_path, PATH=own_programs)
    shown = printed.partition("$ dovetail show lightning")[2]
    assert re.search(r"FINISHED", shown) and "train/loss" in shown
    assert "train/loss" in printed.partition("$ dovetail show pytorch")[2]
    found = printed.partition("$ dovetail runs HEAD")[2]
    assert re.search(r"pytorch +FINISHED +exact +train", found), found
    assert re.search(r"best params +lr=0\.3", printed.partition("$ dovetail show sweep")[2])
    with store.open(f"sqlite:///{tmp_path / 'mlflow.db'}") as opened:
        assert opened.metric_history(opened.find_run("unchanged").run_id, "loss")[0].value == 0.5
