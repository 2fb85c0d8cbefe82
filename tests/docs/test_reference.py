"""The reference is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for name, text in made.pages().items():
        kept = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert kept == text, "Run: python docs/make_reference.py"


def test_every_verb_and_tag_is_in_the_reference():
    from mlflow_dovetail import cli, names

    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    stored = [getattr(names, name) for name in dir(names) if name.startswith(("TAG_", "ENV_"))]
    assert not [word for word in [*(f"dovetail {verb}" for verb in cli.COMMANDS), *stored] if word not in text]
