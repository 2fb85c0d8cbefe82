"""Entry points that are broken in every way, in groups that are loaded by MLflow and by others."""

from __future__ import annotations

from importlib import metadata

import pytest

from mlflow_dovetail.doctor.plugins import OURS

from .conftest import Patient

PROVIDER, CALLBACKS = "mlflow.run_context_provider", "pytorch_lightning.callbacks_factory"


def test_ours_are_those_that_are_installed():
    there = {(one.group, one.name) for one in metadata.distribution("mlflow-dovetail").entry_points}
    assert {entry for entry in there if entry[0] != "console_scripts"} == OURS


@pytest.mark.parametrize(
    ("group", "code", "level", "told"),
    [
        (PROVIDER, "raise ValueError('no such thing')", "problem", "ends `import mlflow`"),
        (PROVIDER, "raise SystemExit(3)", "problem", "ends `import mlflow`"),
        (PROVIDER, "import a_package_that_is_not_there", "warning", "does not load"),
        (PROVIDER, "other = 1", "warning", "does not load"),
        (CALLBACKS, "raise ValueError('no such thing')", "warning", "does not load"),
    ],
)
def test_a_broken_one_is_named_with_its_error(patient: Patient, group, code, level, told):
    patient.plug_in(group, code)
    found = patient.only("plugins mlflow" if group == PROVIDER else "plugins others", level)
    assert told in found.what and "'sick' of sick" in found.what
    assert found.why.startswith(("ValueError: no such thing", "SystemExit: 3", "ModuleNotFoundError", "AttributeError"))
    assert "pip uninstall" in found.do


def test_one_that_prints_is_fine_and_spoils_nothing(patient: Patient):
    code = "import os\nprint('{\"level\": \"problem\"}', flush=True)\nos.write(1, b'noise')\nthing = 1"
    patient.plug_in("hydra.plugins", code)
    found = patient.examine("plugins others")
    assert {one.level for one in found} == {"ok"}
    assert any("sick (hydra.plugins)" in one.what for one in found)


def test_metadata_without_our_plugins_are_told(patient: Patient):
    """As an editable install that was made before a plugin was."""
    patient.install("mlflow-dovetail", "0.0.1")
    told = patient.only("plugins others", "problem")
    assert "mlflow.run_context_provider" in told.what and "Install Dovetail anew" in told.do
