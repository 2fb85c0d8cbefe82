"""In real code of others: hardly a false alarm, and no planted key that hides."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from planted_secrets import PASSWORD, TOKENS

import mlflow_dovetail
from mlflow_dovetail.redact import Finding, find_secrets

PACKAGES = ("mlflow", "pytorch_lightning", "sklearn", "dvc", "hydra", "torch", "omegaconf", "sqlalchemy", "requests")
SUFFIXES = (".py", ".yaml", ".yml", ".toml", ".json")
SAMPLE = 800
MOST_FALSE_ALARMS = 0.01


def read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def sample() -> list[Path]:
    site = Path(pytest.__file__).parents[1]
    files = [path for package in PACKAGES for path in sorted((site / package).rglob("*")) if path.suffix in SUFFIXES]
    return random.Random(1).sample(files, SAMPLE)


def test_false_alarms_are_rare(sample):
    alarms = {str(path): found for path in sample if (found := find_secrets(read(path), path.name))}
    assert len(alarms) < MOST_FALSE_ALARMS * SAMPLE, alarms


def test_a_planted_secret_is_found_on_its_line(sample):
    generator = random.Random(2)
    code = [path for path in sample if path.suffix == ".py"]
    planted = [(rule, f'    x = "{token}"') for rule, token in TOKENS]
    planted.append(("literal value of a secret name", f'    password = "{PASSWORD}"'))
    for rule, secret_line in planted:
        path = generator.choice(code)
        lines = read(path).split("\n")
        at = generator.randrange(len(lines) + 1)
        text = "\n".join([*lines[:at], secret_line, *lines[at:]])
        assert set(find_secrets(text, path.name)) - set(find_secrets(read(path), path.name)) == {Finding(rule, at + 1)}


def test_the_rules_and_their_tests_hold_no_secret_themselves():
    files = [*Path(__file__).parent.glob("*.py"), *(Path(mlflow_dovetail.__file__).parent / "redact").glob("*.py")]
    assert len(files) > 10
    assert {str(path): found for path in files if (found := find_secrets(read(path), path.name))} == {}
