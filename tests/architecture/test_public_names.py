"""What the package promises by name is there, sorted, typed and of one version."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import mlflow_dovetail
from mlflow_dovetail import errors, names

ROOT = Path(mlflow_dovetail.__file__).parent
REPOSITORY = Path(__file__).parents[2]
STATED = ["mlflow_dovetail", "mlflow_dovetail.store"]


def test_one_version():
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1] == mlflow_dovetail.__version__


def test_the_types_are_published():
    assert (ROOT / "py.typed").is_file()


@pytest.mark.parametrize("module", STATED)
def test_all_is_sorted_and_true(module):
    stated = importlib.import_module(module).__all__
    assert list(stated) == sorted(set(stated))
    assert all(hasattr(importlib.import_module(module), name) for name in stated)


def test_every_error_is_in_the_tree_at_the_top_of_its_file():
    tree = set(re.findall(r"^(?:[├└]── )?([A-Z]\w+)", errors.__doc__, re.MULTILINE)) - {"Every"}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree == defined


def test_every_tag_of_ours_begins_with_our_name_and_none_is_used_twice():
    tags = {key: value for key, value in vars(names).items() if key.startswith("TAG_")}
    assert len(set(tags.values())) == len(tags)
    assert all(
        value.startswith("mlflow." if key.startswith("TAG_MLFLOW_") else "dovetail.") for key, value in tags.items()
    )
