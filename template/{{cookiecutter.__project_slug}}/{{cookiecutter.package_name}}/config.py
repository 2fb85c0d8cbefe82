"""What a configuration may hold, and the one check that every entry point calls.

The values stand in `configs/`, the allowed names and types here. A new key is one line in each. The schema is kept out
of Hydra's `defaults` lists because `dvc exp run -S` composes them without importing this package.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

CONFIG_DIR = Path("configs")
PARAMS_FILE = Path("params.yaml")


class ConfigError(ValueError):
    """A key that does not exist, is missing, or has a value of the wrong type or range."""


@dataclass
class Data:
    raw: str = MISSING  # CSV with a header, versioned by DVC
    prepared: str = MISSING  # folder that the prepare stage writes
    val_fraction: float = MISSING
    test_fraction: float = MISSING
    split_seed: int = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING


@dataclass
class Cnn:
    name: str = MISSING
    channels: int = MISSING
    dropout: float = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclass
class Mlp:
    name: str = MISSING
    hidden: int = MISSING
    dropout: float = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING


# `model.name` picks the schema; model.py builds the network of the same name.
MODELS: dict[str, type] = {"cnn": Cnn, "mlp": Mlp}


@dataclass
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`, by its names, and `compile`."""

    max_epochs: int = MISSING
    accelerator: str = MISSING
    devices: Any = MISSING  # a number, "auto", or a list of indices
    strategy: str = MISSING
    compile: bool = MISSING  # torch.compile for the network
    precision: str = MISSING
    deterministic: bool = MISSING
    gradient_clip_val: float | None = None
    log_every_n_steps: int = MISSING
    check_val_every_n_epoch: int = MISSING
    limit_train_batches: Any = None  # a number of batches (int) or a fraction (float); null: all
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    num_sanity_val_steps: int = MISSING
    enable_progress_bar: bool = MISSING


# What this project has been run with; another of Lightning's is a word here.
CHOICES = {
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.strategy": ("auto", "ddp", "ddp_find_unused_parameters_true"),
    "trainer.precision": ("64-true", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"),
    "callbacks.mode": ("max", "min"),
}


@dataclass
class Callbacks:
    monitor: str = MISSING
    mode: str = MISSING
    early_stopping_patience: int | None = None  # validations without a better value; null: train to the end
    predictions: bool = MISSING


@dataclass
class Logger:
    experiment_name: str = MISSING
    tracking_uri: str | None = None  # null: MLFLOW_TRACKING_URI, else mlflow.db in this project
    run_id: str | None = None  # resumes this run
    register: str | None = None  # registers the best model under this name


@dataclass
class Config:
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    notes: str | None = None
    seed: int = MISSING
    ckpt_path: str | None = None
    data: Data = field(default_factory=Data)
    model: Any = MISSING
    trainer: Trainer = field(default_factory=Trainer)
    callbacks: Callbacks = field(default_factory=Callbacks)
    logger: Logger = field(default_factory=Logger)


def validate(cfg: DictConfig) -> DictConfig:
    """The configuration with every value in its declared type.

    Raises:
        ConfigError: Names the key, the file that sets it, and the nearest valid name.
    """
    schema = _schema(cfg)
    for key in _unknown_keys(cfg, schema):
        raise ConfigError(f"{_where(key, cfg)}: unknown key '{key}'.{_suggestion(key, schema)}")
    try:
        checked = OmegaConf.merge(schema, cfg)
        assert isinstance(checked, DictConfig)
        OmegaConf.to_container(checked, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        reason = str(error).splitlines()[0].strip()
        raise ConfigError(f"{_where(key, cfg)}: '{key}': {reason}. Correct the value, then run again.") from error
    _check_ranges(checked)
    return checked


def check_syntax() -> None:
    """Read every file of `configs/`: Hydra shows one that is no YAML as a traceback, and too late for DVC's outputs.

    Raises:
        ConfigError: Names the file and the line.
    """
    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        try:
            OmegaConf.load(path)
        except (YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            reason = " ".join(str(error).replace(str(path.resolve()), path.name).split())
            raise ConfigError(f"{place}: not valid YAML: {reason}. Correct the file, then run again.") from error


def load(path: Path = PARAMS_FILE) -> DictConfig:
    """The validated configuration of a file that `compose` wrote."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist: the compose stage writes it. Run `dvc repro compose`.")
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path} does not hold a mapping. Run `dvc repro --force compose`.")
    return validate(cfg)


def _schema(cfg: DictConfig) -> DictConfig:
    schema = OmegaConf.structured(Config)
    model = cfg.get("model")
    name = model.get("name") if isinstance(model, DictConfig) else None
    if name not in MODELS:
        nearest = difflib.get_close_matches(str(name), MODELS, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        raise ConfigError(f"{_where('model.name', cfg)}: unknown model '{name}'.{hint} Known: {', '.join(MODELS)}.")
    with_model = OmegaConf.merge(schema, {"model": OmegaConf.structured(MODELS[name])})
    assert isinstance(with_model, DictConfig)
    return with_model


def _unknown_keys(cfg: DictConfig, schema: DictConfig, prefix: str = "") -> Iterator[str]:
    known = set(schema.keys())  # `key in schema` is false while the value is missing
    for key in cfg:
        path = f"{prefix}{key}"
        if key not in known:
            yield path
        elif isinstance(cfg._get_node(key), DictConfig) and path != "tags":
            yield from _unknown_keys(cfg[key], schema[key], f"{path}.")


def _suggestion(key: str, schema: DictConfig) -> str:
    parent, _, leaf = key.rpartition(".")
    valid = [str(name) for name in (OmegaConf.select(schema, parent) if parent else schema)]
    nearest = difflib.get_close_matches(leaf, valid, n=1, cutoff=0.5)
    hint = f" Did you mean '{parent + '.' if parent else ''}{nearest[0]}'?" if nearest else ""
    return f"{hint} Valid here: {', '.join(sorted(valid))}."


def _where(key: str, cfg: DictConfig) -> str:
    """The config files that set `key` to the value in `cfg`, with the line; else where a value can come from."""
    value = OmegaConf.select(cfg, key) if key else None
    places = [f"{path}:{line}" for path, line in _definitions(key, value)]
    written = OmegaConf.load(PARAMS_FILE) if not places and PARAMS_FILE.exists() else None
    return ", ".join(places) or (str(PARAMS_FILE) if _sets(written, key, value) else "command line")


def _definitions(key: str, value: Any) -> Iterator[tuple[Path, int]]:
    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        is_global = "@package _global_" in text or path.parent == CONFIG_DIR
        package = "" if is_global else ".".join(path.parent.relative_to(CONFIG_DIR).parts) + "."
        loaded = OmegaConf.create({}) if not text.strip() else OmegaConf.load(path)
        if key.startswith(package) and _sets(loaded, key[len(package) :], value):
            leaf = re.escape(key.rpartition(".")[2])
            match = re.search(rf"^\s*{leaf}\s*:", text, re.MULTILINE)
            yield path, text[: match.end()].count("\n") + 1 if match else 1


def _sets(loaded: Any, key: str, value: Any) -> bool:
    found = OmegaConf.select(loaded, key) if isinstance(loaded, DictConfig) else None
    return found is not None and found == value


def _check_ranges(cfg: DictConfig) -> None:
    positive = ["model.lr", "data.batch_size", "trainer.max_epochs", "data.val_fraction", "data.test_fraction"]
    for key in positive:
        if not OmegaConf.select(cfg, key) > 0:
            raise ConfigError(f"{_where(key, cfg)}: '{key}' must be above 0, not {OmegaConf.select(cfg, key)}.")
    for key, choices in CHOICES.items():
        if OmegaConf.select(cfg, key) not in choices:
            raise ConfigError(
                f"{_where(key, cfg)}: '{key}' is '{OmegaConf.select(cfg, key)}'. Choose one of: {', '.join(choices)}."
            )
    if not _are_devices(cfg.trainer.devices):
        raise ConfigError(
            f"{_where('trainer.devices', cfg)}: 'trainer.devices' is {cfg.trainer.devices!r}. Give a number above 0, "
            "'auto' for all, or a list of indices."
        )
    if cfg.trainer.check_val_every_n_epoch > cfg.trainer.max_epochs or cfg.trainer.limit_val_batches == 0:
        raise ConfigError(
            f"{_where('trainer.max_epochs', cfg)}: no validation would run, and '{cfg.callbacks.monitor}' chooses the "
            "best model. Let 'trainer.check_val_every_n_epoch' be at most 'trainer.max_epochs', and "
            "'trainer.limit_val_batches' not 0."
        )
    if cfg.data.val_fraction + cfg.data.test_fraction >= 1:
        raise ConfigError(
            f"{_where('data.val_fraction', cfg)}: 'data.val_fraction' and 'data.test_fraction' leave nothing to train on: "
            f"{cfg.data.val_fraction} + {cfg.data.test_fraction} is 1 or more."
        )


def _are_devices(devices: Any) -> bool:
    if isinstance(devices, ListConfig):
        return len(set(devices)) == len(devices) > 0 and all(type(one) is int and one >= 0 for one in devices)
    return devices in ("auto", -1, "-1") or (type(devices) is int and devices > 0)
