"""Every option of every group composes and is valid; what is wrong is refused by name."""

from __future__ import annotations

import shutil

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from {{ cookiecutter.package_name }} import compose, config

OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in (ROOT / "configs").glob("*/*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_valid(configure, option):
    config.validate(configure(option))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+model.chanels=8", r"unknown key 'model.chanels'.* Did you mean 'model.channels'"),
        ("+sed=1", r"unknown key 'sed'.* Did you mean 'seed'"),
        ("model.lr=fast", "'model.lr': Value 'fast' of type 'str' could not be converted to Float"),
        ("model.lr=0", "'model.lr' must be above 0"),
        ("model.name=cmn", "Did you mean 'cnn'"),
        ("data.val_fraction=0.9", "leave nothing to train on"),
        ("trainer.strategy=dpp", "'trainer.strategy' is 'dpp'. Choose one of: auto, ddp"),
        ("trainer.precision=bf16", "Choose one of: .*bf16-mixed"),
        ("trainer.devices=0", "'trainer.devices' is 0. Give a number above 0"),
        ("trainer.devices=[0,0]", "'trainer.devices' is .* Give a number above 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(configure, override, message):
    with pytest.raises(config.ConfigError, match=message):
        config.validate(configure(override))


def test_the_file_and_line_are_named(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    cnn = tmp_path / "configs" / "model" / "cnn.yaml"
    cnn.write_text(cnn.read_text(encoding="utf-8").replace("\nlr:", "\nlrr:"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(config.ConfigError, match=r"cnn\.yaml:5: unknown key 'model\.lrr'.* Did you mean 'model\.lr'"):
        compose.compose_params()


def test_params_file_is_the_whole_configuration(configure, tmp_path):
    cfg = configure("model=mlp")
    compose.write_params(cfg, tmp_path / "params.yaml")
    assert OmegaConf.to_container(config.load(tmp_path / "params.yaml")) == OmegaConf.to_container(config.validate(cfg))


def test_changed_values_are_printed(configure, tmp_path, capsys):
    compose.write_params(configure("model.lr=0.5"), tmp_path / "params.yaml")
    compose.write_params(configure(), tmp_path / "params.yaml")
    assert "params.yaml: model.lr: 0.5 -> " in capsys.readouterr().out
