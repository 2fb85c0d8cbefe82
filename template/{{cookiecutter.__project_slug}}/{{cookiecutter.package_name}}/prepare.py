"""Stage prepare: `data/raw/digits.csv` becomes the splits under `data/prepared/`."""

from __future__ import annotations

import sys
from pathlib import Path

from {{ cookiecutter.package_name }} import config
from {{ cookiecutter.package_name }}.data import SPLIT_KEYS, DataError, read_raw, save_splits, split


def main() -> None:
    """Read, check, split and write."""
    try:
        data = config.load().data
        settings = {key: data[key] for key in SPLIT_KEYS}
        splits = split(
            read_raw(data.raw),
            val_fraction=data.val_fraction,
            test_fraction=data.test_fraction,
            split_seed=data.split_seed,
        )
    except (config.ConfigError, DataError) as error:
        sys.exit(f"The data was not prepared. {error}")
    save_splits(splits, Path(data.prepared), settings)
    print(", ".join(f"{name}: {len(labels)}" for name, (_, labels) in splits.items()), f"-> {data.prepared}")


if __name__ == "__main__":
    main()
