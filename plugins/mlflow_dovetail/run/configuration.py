"""Configurations as they may leave the house: whole, readable, and without what the environment holds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from mlflow_dovetail import redact

_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([^},\s]+)")
_SHORTEST_SECRET = 4


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as dicts, lists and primitives, secrets masked by name and by form.

    An OmegaConf node is resolved, but for what reads the environment, which stays as it is written
    (`${oc.env:TOKEN}`), also when another value leads there; so do `???` and interpolations that lead nowhere.
    """
    if type(config).__module__.startswith("omegaconf"):
        config = _resolved(config, _environment_of(config))
    return redact.mask_mapping(dict(config))


def as_yaml(config: Mapping[str, Any]) -> str:
    """The text of `config/config.yaml`."""
    import yaml

    return str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _environment_of(config: Any) -> list[str]:
    """The values that the configuration takes from the environment."""
    from omegaconf import OmegaConf

    variables = _ENVIRONMENT.findall(OmegaConf.to_yaml(config, resolve=False))
    values = (os.environ.get(variable, "") for variable in variables)
    return [value for value in values if len(value) >= _SHORTEST_SECRET]


def _resolved(node: Any, secrets: list[str]) -> Any:
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(node, DictConfig):
        return {str(key): _value(node, key, secrets) for key in node}
    if isinstance(node, ListConfig):
        return [_value(node, index, secrets) for index in range(len(node))]
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def _value(parent: Any, key: Any, secrets: list[str]) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if OmegaConf.is_missing(parent, key):
        return "???"
    written = parent._get_node(key)
    if not OmegaConf.is_interpolation(parent, key):
        return _resolved(parent[key], secrets)
    text = str(written._value())
    try:
        resolved = _resolved(parent[key], secrets)
    except OmegaConfBaseException:
        return text
    leads_outside = bool(_ENVIRONMENT.search(text)) or any(secret in str(resolved) for secret in secrets)
    return text if leads_outside else resolved
