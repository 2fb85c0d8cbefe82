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


def test_every_verb_tag_and_function_is_in_the_reference():
    import mlflow_dovetail
    from mlflow_dovetail import cli, lightning, names

    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    stored = [getattr(names, name) for name in dir(names) if name.startswith(("TAG_", "ENV_"))]
    verbs = [f"dovetail {verb}" for verb in cli.COMMANDS]
    functions = [f"### {name}\n" for name in (*mlflow_dovetail.__all__, *lightning.__all__) if name != "__version__"]
    assert not [word for word in (*verbs, *stored, *functions) if word not in text]
