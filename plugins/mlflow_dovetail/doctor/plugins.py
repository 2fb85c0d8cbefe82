"""The entry points that MLflow, Lightning and Hydra load by themselves: there, and loaded one by one.

Source:
    MLflow's registries of plugins (3.17) survive `ImportError` and `AttributeError` while a plugin loads; any other
    exception ends `import mlflow`.
"""

from __future__ import annotations

import os
from importlib import metadata

from mlflow_dovetail.doctor.records import Finding, Place, Step, Told, ok, problem, warning
from mlflow_dovetail.redact import mask_text

DISTRIBUTION = "mlflow-dovetail"
OURS = {
    ("mlflow.run_context_provider", "dovetail"),
    ("mlflow.dataset_source", "dvc"),
    ("pytorch_lightning.callbacks_factory", "dovetail"),
}
# MLflow's own need extras that nobody has to have.
_NOT_LOOKED_AT = {"mlflow", "mlflow-skinny"}
_GROUPS = {
    "mlflow": ("mlflow.",),
    "others": ("pytorch_lightning.", "lightning.pytorch.", "lightning.fabric.", "hydra."),
}
_GOES_ON = (ImportError, AttributeError)


def check(place: Place) -> Told:
    """Load the plugins of one part, "mlflow" or "others"."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # a look is no use of MLflow
    if place.part == "others":
        yield from _missing()
    loaded, causes = [], list[str]()
    for plugin in _plugins(_GROUPS[place.part]):
        yield Step(f"loading {_named(plugin)}")
        failure = _load(plugin)
        if failure is None:
            loaded.append(plugin)
        elif not any(cause in failure.why for cause in causes):  # ours that need MLflow fail with what ends its import
            causes.append(failure.why)
            yield failure
    if loaded:
        yield ok(f"{len(loaded)} {'plugins load' if len(loaded) > 1 else 'plugin loads'}: {_by_group(loaded)}.")


def _missing() -> Told:
    try:
        there = {(one.group, one.name) for one in metadata.distribution(DISTRIBUTION).entry_points}
    except metadata.PackageNotFoundError:
        there = set()
    absent = [f"{name} ({group})" for group, name in sorted(OURS - there)]
    if absent:
        yield problem(
            f"Dovetail has not told its plugins: {', '.join(absent)}.",
            "They are found by the installed package's metadata, which are missing or of another version.",
            "Install Dovetail anew: pip install --force-reinstall --no-deps, and what requirements.txt has for it.",
        )


def _plugins(prefixes: tuple[str, ...]) -> list[metadata.EntryPoint]:
    groups = [group for group in metadata.entry_points().groups if group.startswith(prefixes)]
    found = {
        (one.group, one.name, one.value): one
        for group in groups
        for one in metadata.entry_points(group=group)
        if _distribution(one) not in _NOT_LOOKED_AT
    }
    return sorted(found.values(), key=lambda one: (_distribution(one) == DISTRIBUTION, one.group, one.name))


def _load(plugin: metadata.EntryPoint) -> Finding | None:
    try:
        plugin.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        why = f"{type(error).__name__}: {mask_text((str(error).splitlines() or [''])[0][:300])}"
        remedy = f"Mend or remove it: pip install --force-reinstall {_distribution(plugin)}, or pip uninstall it."
        if plugin.group.startswith("mlflow.") and not isinstance(error, _GOES_ON):
            return problem(f"{_named(plugin)} ends `import mlflow`.", why, remedy)
        return warning(f"{_named(plugin)} does not load.", why, remedy)
    return None


def _named(plugin: metadata.EntryPoint) -> str:
    return f"{plugin.name!r} of {_distribution(plugin)} ({plugin.group})"


def _distribution(plugin: metadata.EntryPoint) -> str:
    return plugin.dist.name if plugin.dist else "an unknown package"


def _by_group(plugins: list[metadata.EntryPoint]) -> str:
    return ", ".join(f"{one.name} ({one.group})" for one in plugins)
