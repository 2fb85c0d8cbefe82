"""The page of a comparison in a real Chromium: what it shows, what it does, and that nothing in it comes alive."""

from __future__ import annotations

import importlib.util
import io
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlflow_dovetail.prediction_tables.comparison_page import render_comparison
from prediction_tables.two_runs import diff, run

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RUNS = ("strong penalty", "weak penalty")


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits, told by two logistic regressions, and the images of them."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    seen, unseen = np.arange(0, 1797, 2), np.arange(1, 1797, 2)
    columns = {
        "id": [f"digit-{i:04}" for i in unseen],
        "image": [f"{i:032x}" for i in unseen],
        "label": data.target[unseen],
        "ink": data.data[unseen].sum(axis=1),
    }
    runs = []
    for strength in (1e-5, 1e-1):
        model = LogisticRegression(C=strength, max_iter=3000).fit(data.data[seen], data.target[seen])
        said = model.predict_proba(data.data[unseen])
        answers = {"prediction": said.argmax(axis=1), "probabilities": said.astype("float32").tolist()}
        runs.append(run({**columns, **answers}, classes=NAMES))
    images = {f"{i:032x}": picture((255 - data.images[i] * 15.9).astype("uint8")) for i in unseen}
    return diff(*runs), images


def kept(images):
    return lambda digests: {digest: images[digest] for digest in digests if digest in images}


@pytest.fixture(scope="module")
def page_of_digits(digits):
    comparison, images = digits
    return render_comparison(comparison, names=RUNS, thumbnails=kept(images))


@pytest.fixture(scope="module")
def browser():
    pictures = load("make_screenshot")
    if pictures.chromium() is None:
        pytest.skip("no Chromium or Chrome on the PATH; .ci/run installs one")
    with pictures.browse() as browser:
        yield browser


@pytest.fixture
def show(browser, tmp_path):
    """Open a page from disk; at the end it has said nothing on the console and asked for no other file."""
    opened = []

    @contextmanager
    def open_page(html, *, host=None, **options):
        file = tmp_path / "page.html"
        file.write_bytes(html)
        (tmp_path / "host.html").write_text(host or "", encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        context.set_default_timeout(8000)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        opened.append(page)
        page.goto((tmp_path / ("host.html" if host else "page.html")).as_uri())
        yield page
        assert said == []
        assert {url for url in asked if not url.startswith("data:image/")} <= {
            file.as_uri(),
            (tmp_path / "host.html").as_uri(),
            "about:srcdoc",
        }
        context.close()

    yield open_page
    assert opened


def visible_ids(page):
    # What is off the screen is not laid out, and has no inner text yet.
    return page.locator(".card:visible h3").all_text_contents()


def test_it_opens_with_what_is_newly_wrong(show, page_of_digits, digits):
    comparison, _ = digits
    with show(page_of_digits) as page:
        assert visible_ids(page) == [one.id for one in comparison.worse.first(300)]
        body = page.inner_text("body")
        for shown in (
            f"weak penalty is right where strong penalty is wrong on {len(comparison.better)} examples",
            "exact McNemar test, two-sided",
            "weak penalty is better on examples like these",
            f"{comparison.score_b * 100:.2f} %",
        ):
            assert shown in body
        sizes = page.locator(".card:visible img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert sizes == [8] * len(comparison.worse)
        first = page.locator(".card:visible").first
        one = comparison.worse.first(1)[0]
        assert first.locator(".answer").all_inner_texts() == [
            f"A\n✓\nright:\n{one.prediction_a}\n{one.confidence_a * 100:.1f} %",
            f"B\n✗\nwrong:\n{one.prediction_b}\n{one.confidence_b * 100:.1f} %",
        ]


def test_tabs_search_and_class(show, page_of_digits, digits):
    comparison, _ = digits
    right = comparison.better.first(300)
    with show(page_of_digits) as page:
        page.get_by_role("tab", name="Newly right").click()
        assert visible_ids(page) == [one.id for one in right]
        page.get_by_label("Label", exact=True).select_option("eight")
        eights = [one.id for one in right if one.label == "eight"]
        assert visible_ids(page) == eights != []
        assert page.inner_text("#shown") == f"{len(eights)} of {len(right)} shown"
        page.get_by_label("Search").fill(f" {eights[-1].upper()} ")
        assert visible_ids(page) == [eights[-1]]
        page.get_by_role("tab", name="Changed").click()
        assert visible_ids(page) == []
        page.get_by_label("Search").fill("")
        page.get_by_role("button", name="three", exact=True).click()
        assert visible_ids(page) == [one.id for one in comparison.changed.first(300) if one.label == "three"] != []


def test_everything_is_reached_by_keyboard(show, page_of_digits, digits):
    comparison, _ = digits
    worse = [one.id for one in comparison.worse.first(300)]
    with show(page_of_digits) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "tab-worse"
        for key, expected in (("ArrowRight", "better"), ("ArrowLeft", "worse"), ("ArrowLeft", "changed")):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.id") == f"tab-{expected}"
            assert page.locator(".examples:visible").get_attribute("id") == expected
        page.keyboard.press("ArrowRight")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        large = page.locator("dialog[open] h3")
        assert large.inner_text() == worse[0]
        page.keyboard.press("ArrowRight")
        assert large.inner_text() == worse[1]
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert large.inner_text() == worse[0]
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        assert page.evaluate("document.activeElement.className") == "look"


def test_a_click_enlarges(show, page_of_digits):
    with show(page_of_digits) as page:
        small = page.locator(".card:visible img").first.bounding_box()["width"]
        page.locator(".card:visible .look").first.click()
        assert page.locator("dialog img").bounding_box()["width"] > 2 * small
        page.get_by_role("button", name="Next").click()
        assert page.locator("dialog h3").inner_text() == visible_ids(page)[1]
        page.get_by_role("button", name="Close").click()
        assert page.locator("dialog[open]").count() == 0


FRAMES = {
    "a file": '<iframe sandbox="allow-scripts" src="page.html" width=1200 height=900></iframe>',
    "a document of its own": '<iframe sandbox="allow-scripts" srcdoc="{}" width=1200 height=900></iframe>',
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_it_works_in_a_sandboxed_frame(show, page_of_digits, frame):
    text = page_of_digits.decode().replace("&", "&amp;").replace('"', "&quot;")
    with show(page_of_digits, host=frame.format(text)) as page:
        inner = page.frame_locator("iframe")
        inner.get_by_role("tab", name="Changed").click()
        inner.locator(".card:visible .look").first.click()
        assert inner.locator("dialog[open] img").evaluate("one => one.naturalWidth") == 8


def test_it_is_readable_without_a_script_and_in_print(show, page_of_digits, digits):
    comparison, _ = digits
    every = [one.id for part in (comparison.worse, comparison.better, comparison.changed) for one in part.first(300)]
    with show(page_of_digits, java_script_enabled=False) as page:
        assert visible_ids(page) == every
        assert page.locator("h2:visible").all_inner_texts()[-2:] == ["By class", "By slice"]
        assert page.locator(".tools:visible, dialog:visible").count() == 0
    with show(page_of_digits) as page:
        page.get_by_label("Search").fill("digit-00")
        page.emulate_media(media="print")
        assert visible_ids(page) == every
        assert page.locator(".tools:visible").count() == 0


def test_light_and_dark_both_have_contrast(show, page_of_digits):
    luminance = """one => { const [r, g, b] = getComputedStyle(one)[%s].match(/[\\d.]+/g).map(Number)
        .map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b }"""
    for scheme in ("light", "dark"):
        with show(page_of_digits, color_scheme=scheme) as page:
            ground = page.locator(".card:visible").first.evaluate(luminance % "'backgroundColor'")
            assert (ground > 0.5) == (scheme == "light")
            for text in (".right .value", ".wrong .value", "h3", ".sure", ".label strong"):
                ink = page.locator(f".card:visible {text}").first.evaluate(luminance % "'color'")
                assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 4.5, (scheme, text)


def test_a_narrow_screen_is_not_scrolled_sideways(show, page_of_digits):
    with show(page_of_digits, viewport={"width": 360, "height": 700}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><svg onload=alert(1)>",
    '" onclick="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    '=HYPERLINK("http://example.invalid")',
    "javascript:alert(1)",
    "\u202egnp.exe\u202d",
    "nul\x00and\x1bescape",
    "<!--",
    "&lt;b&gt;",
    "long " * 200_000,
]


@pytest.fixture(scope="module")
def hostile_page():
    n = len(HOSTILE)
    columns = {"id": [f"{i} {text}" for i, text in enumerate(HOSTILE)], "text": HOSTILE}
    columns["label"] = [*HOSTILE[:9], *HOSTILE[4:9]]
    columns |= {"site": [*HOSTILE[:5], *[HOSTILE[0]] * (n - 5)], HOSTILE[2]: [*HOSTILE[:4], *[HOSTILE[5]] * (n - 4)]}
    shared = {"kinds": {HOSTILE[2]: "class"}, "policy": HOSTILE[1], "table": HOSTILE[0]}
    a = run({**columns, "prediction": HOSTILE, "image": HOSTILE}, **shared)
    b = run({**columns, "prediction": HOSTILE[::-1], "image": HOSTILE[::-1]}, **shared)
    images = {HOSTILE[2]: b"<svg onload=alert(1)>", HOSTILE[3]: b'\x89PNG"><script>alert(1)</script>'}
    return render_comparison(diff(a, b), names=(HOSTILE[1], HOSTILE[2]), thumbnails=kept(images))


def test_hostile_text_stays_text(show, hostile_page):
    with show(hostile_page) as page:
        assert page.title().startswith("</script><script>alert(1)</script> → <img src=x onerror=alert(1)>")
        assert page.locator("script").count() == 1
        assert page.locator("[onclick], [onerror], [onload], [onfocus], a, link, iframe, object").count() == 0
        assert {src[:22] for src in page.locator("img").evaluate_all("all => all.map(one => one.src)")} == {
            "data:image/png;base64,"
        }
        cards = " ".join(page.locator(".card h3").all_text_contents())
        for text in ("<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "nul␀and␛escape", "&lt;b&gt;", "<!--"):
            assert text in cards
        page.get_by_label("Search").fill("<IMG src=x")
        page.locator(".card:visible .look").first.click()
        assert page.locator("dialog script, dialog [onerror]").count() == 0
        page.keyboard.press("Escape")
        page.get_by_label("Label", exact=True).select_option(HOSTILE[2])
        assert visible_ids(page) == [f"2 {HOSTILE[2]}"]
    assert len(hostile_page) < 200_000


def test_what_is_put_into_the_page_does_not_run(browser, tmp_path, page_of_digits):
    """The policy holds by itself, were a text to come through unescaped."""
    planted = b"<script>document.title = 'owned'</script><img src=x onerror=alert(1)></main>"
    (tmp_path / "page.html").write_bytes(page_of_digits.replace(b"</main>", planted))
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.title() != "owned"
    assert len([text for text in refused if "Content Security Policy" in text]) >= 2
    page.close()


def test_the_same_input_gives_the_same_bytes(digits, page_of_digits):
    comparison, images = digits
    assert render_comparison(comparison, names=RUNS, thumbnails=kept(images)) == page_of_digits


def test_images_are_asked_for_once_and_without_them_it_says_so(show, digits):
    comparison, _ = digits
    asked = []
    html = render_comparison(comparison, names=RUNS, thumbnails=lambda digests: asked.append(digests) or {})
    parts = (comparison.worse, comparison.better, comparison.changed)
    shown = {one.image_a for part in parts for one in part.first(300)}
    (digests,) = asked
    assert sorted(digests) == sorted(shown), "each once"
    first = [part.first(1)[0].image_a for part in parts if len(part)]
    assert digests[: len(first)] == first, "what stands first of each kind comes first"
    with show(html) as page:
        assert page.locator(".card:visible .look").first.inner_text() == "image not kept"


def test_two_images_of_an_example_stand_side_by_side(show):
    columns = {"id": ["a", "b"], "label": [0, 0]}
    a = run({**columns, "prediction": [0, 0], "image": ["A", "A"]})
    b = run({**columns, "prediction": [1, 1], "image": ["A", "B"]})
    images = {"A": picture(np.zeros((4, 4), "uint8")), "B": picture(np.full((6, 6, 3), 200, "uint8"), "WEBP")}
    with show(render_comparison(diff(a, b), names=RUNS, thumbnails=kept(images))) as page:
        widths = [
            card.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
            for card in page.locator(".card:visible").all()
        ]
        assert widths == [[4], [4, 6]]
        assert page.locator(".which").all_inner_texts() == ["as A has it", "as B has it"]


def test_what_is_cut_is_said(show):
    names = [f"{i:04}" for i in range(1000)]
    a = run({"id": names, "label": [0] * 1000, "prediction": [0] * 1000})
    b = run({"id": [*names[:950], "x"], "label": [0] * 951, "prediction": [1] * 950 + [0]}, policy="first 951")
    with show(render_comparison(diff(a, b), names=RUNS, thumbnails=kept({}))) as page:
        assert len(visible_ids(page)) == 300
        body = page.inner_text("main")
        for said in ("The first 300 of 950", "50 examples only in strong penalty.", "kept only some rows (first 951)"):
            assert said in body


def test_a_regression_shows_errors(show):
    kinds = {"label": "number", "prediction": "number"}
    columns = {"id": list("abc"), "label": [1.0, 2.0, 3.0], "text": ["un", "deux", "trois"]}
    a = run({**columns, "prediction": [1.5, 2.0, 5.0]}, kinds=kinds)
    b = run({**columns, "prediction": [1.0, 2.5, 3.5]}, kinds=kinds)
    with show(render_comparison(diff(a, b), names=RUNS, thumbnails=kept({}))) as page:
        body = page.inner_text("main")
        for shown in ("mean absolute error of A", "0.8333", "Farther off 1", "Wilcoxon's signed-rank test"):
            assert shown in body
        page.get_by_role("tab", name="Nearer").click()
        assert visible_ids(page) == ["c", "a"]
        card = page.locator(".card:visible").first
        assert re.sub(r"\s+", " ", card.inner_text()) == "trois c label 3 A 5 off by 2 B 3.5 off by 0.5"


def test_runs_that_agree_have_an_empty_page_that_says_so(show):
    a = run({"id": ["a", "b"], "label": ["x", "y"], "prediction": ["x", "x"]})
    with show(render_comparison(diff(a, a), names=RUNS, thumbnails=kept({}))) as page:
        assert "nothing tells them apart" in page.inner_text("main")
        assert page.inner_text(".examples:visible .none") == "None."
