"""What a multirun varies, read off Hydra's own words: the command line's overrides and the sweeper's `params`."""

from __future__ import annotations

import math

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, OmegaConf


def told(config: DictConfig) -> list[str]:
    """All overrides of a multirun, those of the sweeper's `params` last."""
    given = [str(override) for override in config.hydra.overrides.task]
    return given + _params(config)


def swept(config: DictConfig) -> dict[str, Override]:
    """The overrides that have more than one value, by key; the command line wins over the sweeper's `params`.

    Raises:
        OverrideParseException: One of them is none.
    """
    given = [str(override) for override in config.hydra.overrides.task]
    parsed = OverridesParser.create().parse_overrides(_params(config) + given)
    last = {override.get_key_element(): override for override in parsed}
    return {key: override for key, override in last.items() if override.is_sweep_override()}


def count_jobs(config: DictConfig) -> int | None:
    """How many jobs the multirun has; None where only its sweeper knows."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    if trials is not None:
        return int(trials)
    varied = swept(config).values()
    # What a glob matches is known to Hydra's loader alone.
    if any(not one.is_discrete_sweep() or one.value_type == ValueType.GLOB_CHOICE_SWEEP for one in varied):
        return None
    return math.prod(sum(1 for _ in one.sweep_string_iterator()) for one in varied)


def _params(config: DictConfig) -> list[str]:
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]
