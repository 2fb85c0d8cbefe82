"""Predict with a trained model: `python -m {{ cookiecutter.package_name }}.predict model.ckpt data/raw/digits.csv -o predictions.csv`."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

from {{ cookiecutter.package_name }}.data import DataError, read_raw
from {{ cookiecutter.package_name }}.model import DigitClassifier


def main() -> None:
    """Write a row an example: its index, the predicted digit, and how sure the model is (0-1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a model.ckpt")
    parser.add_argument("examples", type=Path, help="a CSV with the columns of data/raw/digits.csv")
    parser.add_argument("-o", "--output", type=Path, help="the CSV to write; standard output when left out")
    arguments = parser.parse_args()
    if not arguments.checkpoint.exists():
        sys.exit(f"Nothing was predicted: {arguments.checkpoint} does not exist. Run `dvc repro` first.")
    try:
        images, _ = read_raw(arguments.examples)
    except DataError as error:
        sys.exit(f"Nothing was predicted. {error}")
    rows = predict(arguments.checkpoint, torch.from_numpy(images))
    if arguments.output:
        with arguments.output.open("w", encoding="utf-8", newline="") as file:
            write(file, rows)
        print(f"{arguments.output}: {len(rows)} predictions")
    else:
        write(sys.stdout, rows)


def predict(checkpoint: Path, images: torch.Tensor) -> list[tuple[int, int, float]]:
    """(index, digit, probability) for images (n, 1, 8, 8)."""
    model = DigitClassifier.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    with torch.inference_mode():
        probabilities, digits = model(images).softmax(dim=1).max(dim=1)
    return list(zip(range(len(images)), digits.tolist(), probabilities.tolist(), strict=True))


def write(file, rows: list[tuple[int, int, float]]) -> None:
    """CSV with a header."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["index", "prediction", "probability"])
    writer.writerows((index, digit, f"{probability:.4f}") for index, digit, probability in rows)


if __name__ == "__main__":
    main()
