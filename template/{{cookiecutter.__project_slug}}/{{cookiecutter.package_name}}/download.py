"""Write data/raw/digits.csv again: `python -m {{cookiecutter.package_name}}.download`.

The file comes with the project and is versioned by DVC. This makes it where neither a DVC remote nor a colleague has
it (a fresh clone in CI), byte for byte, from the copy that scikit-learn carries: no network.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0; the 1,797 examples of its test set as in `sklearn.datasets.load_digits`.
"""

from __future__ import annotations

from pathlib import Path

RAW_FILE = Path("data/raw/digits.csv")


def main() -> None:
    """Write the digits: a header, then a row of 64 pixels (0-16) and a label (0-9) for each."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    header = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)] + ["label"]
    rows = (
        [*(int(value) for value in pixels), int(label)]
        for pixels, label in zip(digits.data, digits.target, strict=True)
    )
    text = "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"
    RAW_FILE.parent.mkdir(parents=True, exist_ok=True)
    RAW_FILE.write_text(text, encoding="utf-8", newline="\n")
    print(f"{RAW_FILE}: {len(digits.target)} examples")


if __name__ == "__main__":
    main()
