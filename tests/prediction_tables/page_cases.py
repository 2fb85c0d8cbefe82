"""Tables for the page: real digits, and the strange ones."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from mlflow_dovetail.prediction_tables.page import render_page
from mlflow_dovetail.prediction_tables.schema import Column, Manifest

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TYPES = {
    "number": pa.float64(),
    "probabilities": pa.list_(pa.float32()),
    "class": pa.int64(),
}
RUN = {"Run": "sleepy-fox-12", "Experiment": "digits"}

Case = tuple[pa.Table, Manifest, Mapping[str, bytes]]


def render(case: Case, title: str = "val", run: Mapping[str, str] = RUN) -> bytes:
    table, manifest, images = case

    def thumbnails(digests: Sequence[str]) -> Mapping[str, bytes]:
        return {digest: images[digest] for digest in digests if digest in images}

    return render_page(table, manifest, thumbnails, title=title, run=run)


def make(
    kinds: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    classes: Sequence[str] = (),
    images: Mapping[str, bytes] | None = None,
    **manifest: Any,
) -> Case:
    """A case of rows; `classes` are the names of label, prediction and probabilities."""
    columns = tuple(
        Column(name, kind, tuple(classes) if name in ("label", "prediction", "probabilities") else ())
        for name, kind in kinds.items()
    )
    arrays = {}
    for i, (name, kind) in enumerate(kinds.items()):
        values = [row[i] for row in rows]
        kind = "id" if any(isinstance(value, str) for value in values) else kind
        exact = kind == "number" and values and all(value is None or isinstance(value, int) for value in values)
        arrays[name] = pa.array(values, pa.int64() if exact else TYPES.get(kind, pa.string()))
    return pa.table(arrays), Manifest("val", columns, len(rows), (), **manifest), images or {}


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def digest(pixels: np.ndarray) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


@cache
def fitted(epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and probabilities of scikit-learn's 1,797 digits, after a short fit."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model = LogisticRegression(C=0.3, max_iter=3 * epoch + 5).fit(data.data[:900] / 16, data.target[:900])
    return (data.images * 15.9).astype(np.uint8), data.target, model.predict_proba(data.data / 16).astype(np.float32)


def digits(epochs: int = 1) -> Case:
    kinds = {
        "id": "id",
        "image": "image",
        "label": "class",
        "prediction": "class",
        "probabilities": "probabilities",
        "loss": "number",
        "epoch": "number",
        "step": "number",
        "writer": "class",
    }
    rows, images = [], {}
    for epoch in range(epochs):
        pixels, labels, probabilities = fitted(epoch)
        for i, (picture, label, shares) in enumerate(zip(pixels, labels, probabilities, strict=True)):
            name = digest(picture)
            images[name] = images.get(name) or png(picture)
            loss = float(-np.log(shares[label]))
            rows.append(
                (
                    f"digit-{i:04d}",
                    name,
                    int(label),
                    int(shares.argmax()),
                    shares.tolist(),
                    loss,
                    epoch,
                    113,
                    "abc"[i % 3],
                )
            )
    return make(kinds, rows, WORDS, images)


def many_images(count: int, side: int = 28) -> Case:
    """A table of that many different images, as large as a page may be asked for."""
    random = np.random.default_rng(1)
    kinds = {
        "id": "id",
        "image": "image",
        "label": "class",
        "prediction": "class",
        "probabilities": "probabilities",
        "loss": "number",
        "epoch": "number",
    }
    rows, images = [], {}
    shares = random.dirichlet(np.ones(10) * 0.3, count).astype(np.float32)
    labels = np.where(random.random(count) < 0.2, random.integers(0, 10, count), shares.argmax(1))
    for i in range(count):
        picture = random.integers(0, 256, (side, side), np.uint8)
        name = digest(picture)
        images[name] = png(picture)
        rows.append((f"{i:07d}", name, int(labels[i]), int(shares[i].argmax()), shares[i].tolist(), random.random(), 0))
    return make(kinds, rows, WORDS, images)


def many_classes(classes: int, count: int) -> Case:
    """Classes of which some are confused with their neighbour."""
    random = np.random.default_rng(2)
    label = random.integers(0, classes, count)
    wrong = random.random(count) < (label % 7) / 10
    prediction = np.where(wrong, (label + 1) % classes, label)
    rows = []
    for i in range(count):
        shares = np.full(classes, 0.3 / classes, np.float32)
        shares[prediction[i]] += 0.7
        rows.append((f"x{i}", int(label[i]), int(prediction[i]), shares.tolist()))
    kinds = {"id": "id", "label": "class", "prediction": "class", "probabilities": "probabilities"}
    return make(kinds, rows, [f"species {i:04d}" for i in range(classes)])


def many_rows(rows: int, epochs: int = 1) -> Case:
    """A classification in columns, since a list of tuples of that length takes seconds."""
    random = np.random.default_rng(4)
    label, prediction = random.integers(0, 5, (2, rows))
    shares = random.dirichlet(np.ones(5), rows).astype(np.float32)
    columns = {
        "id": [f"e{i}" for i in range(rows)],
        "label": label,
        "prediction": prediction,
        "probabilities": pa.FixedSizeListArray.from_arrays(shares.ravel(), 5).cast(pa.list_(pa.float32())),
        "loss": random.random(rows),
        "epoch": np.arange(rows) * epochs // rows,
    }
    kinds = {
        "id": "id",
        "label": "class",
        "prediction": "class",
        "probabilities": "probabilities",
        "loss": "number",
        "epoch": "number",
    }
    _, manifest, _ = make(kinds, [])
    return pa.table(columns), manifest, {}


def regression(count: int = 600) -> Case:
    random = np.random.default_rng(3)
    label = random.normal(40, 25, count)
    prediction = label * 0.92 + random.normal(0, 6, count)
    rows = [
        (f"house-{i}", float(label[i]), float(prediction[i]), float((label[i] - prediction[i]) ** 2))
        for i in range(count)
    ]
    rows += [("unknown", None, 3.5, None), ("broken", 7.0, float("nan"), float("nan"))]
    return make({"id": "id", "label": "number", "prediction": "number", "loss": "number"}, rows)


def texts() -> Case:
    sentence = "The quick brown fox jumps over the lazy dog, again and again, until the paragraph ends. "
    rows = [
        ("a", sentence * 3, "a fox jumps", "a fox jumps", 0.25, '{"tokens": [1, 2, 3], "source": "wiki"}'),
        ("b", sentence, "a dog sleeps", "a dog sleeps.", 1.5, '{"tokens": []}'),
        ("c", sentence * 9, "nothing", None, 3.0, None),
    ]
    kinds = {"id": "id", "text": "text", "label": "text", "prediction": "text", "loss": "number", "about": "json"}
    return make(kinds, rows)


HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    '"><svg onload=document.title="owned">',
    "{{ 7 * 7 }}{% raw %}",
    '=HYPERLINK("http://example.invalid","click")',
    "\u202eright-to-left override\u2066",
    "مرحبا بالعالم",
    "nul \x00 bell \x07 escape \x1b[31m",
    "line\u2028separator\u2029 & &amp; &#60;",
    "javascript:document.title='owned'",
    "w" * 1_000_000,
    "",
)


def hostile() -> Case:
    """The hostile texts in every place where a text can stand, names of columns and classes included."""
    kinds = {
        "id": "id",
        "image": "image",
        "text": "text",
        "label": "class",
        "prediction": "class",
        "probabilities": "probabilities",
        "loss": "number",
        **{text[:5000]: kind for text, kind in zip(HOSTILE[:5], ("text", "json", "class", "id", "image"), strict=True)},
    }
    rows = []
    for i, text in enumerate(HOSTILE):
        shares = np.full(len(HOSTILE), 0.01, np.float32)
        shares[i] = 0.8
        wrong = (i + 1) % len(HOSTILE)
        rows.append((text, text, text, i, wrong, shares.tolist(), float("nan"), text, text, text, text, "f" * 32))
    names = [f"{i} {text}" for i, text in enumerate(HOSTILE)]
    # What calls itself an image and is a page, and an image that is cut off.
    images = {HOSTILE[0]: b"<svg onload=alert(1)>", "f" * 32: png(np.zeros((8, 8), np.uint8))[:40]}
    return make(kinds, rows, names, images, policy=HOSTILE[0], left_out={HOSTILE[1]: 3})


def plain() -> Case:
    """Neither label nor prediction."""
    rows = [(f"r{i}", 2**62 + i if i else None, [None, float("inf"), 1e-7, 1234.5][i % 4]) for i in range(8)]
    return make({"id": "id", "count": "number", "value": "number"}, rows)


def empty() -> Case:
    return make({"id": "id", "label": "class", "prediction": "class", "loss": "number"}, [])
