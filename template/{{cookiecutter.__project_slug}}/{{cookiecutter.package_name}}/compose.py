"""Stage compose: `configs/` becomes the one resolved `params.yaml` that all later stages read.

Under `dvc exp run -S`, DVC has composed `params.yaml` with the overrides already: it is checked and left as it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from {{ cookiecutter.package_name }} import config


def main() -> None:
    """Write `params.yaml`, or check the one that DVC wrote."""
    try:
        config.check_syntax()
        if "DVC_EXP_NAME" in os.environ:
            config.load()
        else:
            write_params(compose_params())
    except (config.ConfigError, HydraException, OmegaConfBaseException, YAMLError) as error:
        sys.exit(f"The configuration is not valid; nothing was run. {error}")


def compose_params() -> DictConfig:
    """`configs/train.yaml` with its groups, validated and every interpolation resolved."""
    with initialize_config_dir(str(config.CONFIG_DIR.resolve())):
        cfg = compose(config_name="train")
    config.validate(cfg)
    OmegaConf.resolve(cfg)
    return cfg


def write_params(cfg: DictConfig, path: Path = config.PARAMS_FILE) -> None:
    """Write the file as DVC does (`dvc.utils.hydra`), and print each value that changes: also an override it drops."""
    before = flatten(OmegaConf.to_container(OmegaConf.load(path))) if path.exists() else {}
    after = flatten(OmegaConf.to_container(cfg))
    for key in sorted(before.keys() | after.keys()) if before else []:
        if before.get(key) != after.get(key):
            print(f"params.yaml: {key}: {before.get(key)} -> {after.get(key)}")
    path.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """`{"model": {"lr": 1}}` as `{"model.lr": 1}`."""
    if not isinstance(tree, dict) or not tree:
        return {prefix.removesuffix("."): tree} if prefix else {}
    return {key: value for name, sub in tree.items() for key, value in flatten(sub, f"{prefix}{name}.").items()}


if __name__ == "__main__":
    main()
