"""The digits as arrays: read, checked and split. It needs no PyTorch, and so `prepare` starts at once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPLIT_KEYS = ("raw", "val_fraction", "test_fraction", "split_seed")
PIXELS = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
Examples = tuple[np.ndarray, np.ndarray]


class DataError(ValueError):
    """The data is missing or is not what its reader expects."""


def read_raw(path: str | Path) -> Examples:
    """Read the CSV.

    Returns:
        images (n, 1, 8, 8) float32 in 0-1; labels (n,) int64 in 0-9.

    Raises:
        DataError: The file is missing, or its columns or values are not those of the digits.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist. Run `dvc pull`, or `python -m {__package__}.download`.")
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} is no table of whole numbers: {error}. Run `dvc checkout` to restore it.") from error
    if table.shape[1] != 65 or not len(table):
        raise DataError(f"{path} has the shape {table.shape}, not (n, 65). Run `dvc checkout` to restore it.")
    images, labels = table[:, :64], table[:, 64]
    if images.min() < 0 or images.max() > 16 or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path} has pixels outside 0-16 or labels outside 0-9. Run `dvc checkout` to restore it.")
    return _scaled(images), labels


def example_files(path: Path) -> list[Path]:
    """The file itself, or every CSV and image below a directory, sorted.

    Raises:
        DataError: There is none.
    """
    files = [path] if path.is_file() else sorted(_below(path))
    if not files:
        why = "It holds neither a CSV nor an image." if path.is_dir() else "There is no such file or directory."
        raise DataError(
            f"{path} has no examples. {why} Name a CSV as data/raw/digits.csv, an image, or their directory."
        )
    return files


def _below(folder: Path) -> Iterator[Path]:
    known = {".csv", *IMAGES}
    return (one for one in folder.rglob("*") if one.suffix.lower() in known and not one.is_dir())


def read_examples(file: Path) -> Iterator[np.ndarray]:
    """Images (1, 8, 8) float32 in 0-1, one by one: of a CSV each row, whether or not it has labels, else the one image.

    Raises:
        DataError: The file is neither such a CSV nor an image.
    """
    if file.suffix.lower() in IMAGES:
        yield _read_image(file)
        return
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        header = lines.readline().strip().split(",")
        if header not in (PIXELS, [*PIXELS, "label"]):
            raise DataError(
                f"{file} has another shape: {len(header)} columns, the first '{header[0][:40]}'. A row is 64 pixels "
                "(pixel_0_0 to pixel_7_7), with or without a label. Name such a CSV, or an image."
            )
        first = 2
        while rows := list(islice(lines, 1024)):
            if any(map(str.strip, rows)):  # a last line may be blank, and the only one of its block
                yield from _parse(rows, len(header), f"{file}, lines {first} to {first + len(rows) - 1}")
            first += len(rows)


def _parse(rows: list[str], columns: int, where: str) -> np.ndarray:
    try:
        table = np.loadtxt(rows, delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{where}: no table of whole numbers. {error}. Correct the rows, then predict again."
        ) from error
    pixels = table[:, :64]
    if table.shape[1] != columns or pixels.min() < 0 or pixels.max() > 16:
        raise DataError(f"{where}: not {columns} columns with pixels in 0-16. Correct the rows, then predict again.")
    return _scaled(pixels)


def _read_image(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)  # a phone keeps how it was held
            small = _grey(upright, file).resize((8, 8), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} is no image that can be read: {error}. Remove it, or name the others.") from error
    return np.asarray(small, dtype=np.float32)[None] / 255


def _grey(image: Image.Image, file: Path) -> Image.Image:
    if image.mode.startswith("I;16"):  # `convert` would cut these to 255, which is nearly all of them
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{file} has 32 bits a pixel, of which nothing says what is white. Save it with 8 or 16 bits.")
    return image.convert("L")


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return (pixels.reshape(-1, 1, 8, 8) / 16).astype(np.float32)


def split(examples: Examples, *, val_fraction: float, test_fraction: float, split_seed: int) -> dict[str, Examples]:
    """Shuffle once with `split_seed` and cut into train, val and test."""
    images, labels = examples
    order = np.random.default_rng(split_seed).permutation(len(labels))
    n_val, n_test = (max(1, round(fraction * len(labels))) for fraction in (val_fraction, test_fraction))
    parts = np.split(order, [len(order) - n_val - n_test, len(order) - n_test])
    return {name: (images[part], labels[part]) for name, part in zip(SPLITS, parts, strict=True)}


def save_splits(splits: dict[str, Examples], directory: Path, settings: dict[str, Any]) -> None:
    """Write one `.npz` a split, and beside them the settings and the raw file that they were made from."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in splits.items():
        np.savez(directory / f"{name}.npz", images=images, labels=labels)
    made_with = {"settings": settings, "raw_md5": file_md5(Path(settings["raw"]))}
    (directory / "split.json").write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")


def load_splits(cfg: dict[str, Any]) -> tuple[dict[str, Examples], str]:
    """The prepared splits, and the md5 of the raw file that they were made from.

    They are made in memory where they are missing or were made with other settings: so a run outside DVC may change
    `data.val_fraction` and gets what it asked for, and never writes a DVC output.

    Raises:
        DataError: The raw file has changed since they were made, or is needed and missing.
    """
    raw, directory = Path(cfg["raw"]), Path(cfg["prepared"])
    kept = directory / "split.json"
    made_with = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if made_with.get("settings") == {key: cfg[key] for key in SPLIT_KEYS}:
        if raw.exists() and file_md5(raw) != made_with["raw_md5"]:
            raise DataError(f"{directory} was made from another {raw}. Run `dvc repro prepare`, then train again.")
        return {name: _load_examples(directory / f"{name}.npz") for name in SPLITS}, made_with["raw_md5"]
    log.warning("%s is missing or was made with other settings: splitting %s in memory.", directory, raw)
    return split(read_raw(raw), **{key: cfg[key] for key in SPLIT_KEYS if key != "raw"}), file_md5(raw)


def file_md5(path: Path) -> str:
    """The hash by which DVC knows a file."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _load_examples(path: Path) -> Examples:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]
