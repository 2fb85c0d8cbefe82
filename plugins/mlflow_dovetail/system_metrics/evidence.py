"""What the rules of the advice look at: a run's figures, without those that are too few to judge by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.system_metrics.records import Gpu, Stat, Summary

# The first seconds of a training are imports, workers that start and kernels that are chosen: six windows of 5 s are
# the least in which they are not most of what was seen.
SHORTEST_SECONDS = 30.0
# The first step waits for the first batch of all; of twenty steps it is 5 %, below every threshold.
FEWEST_STEPS = 20


@dataclass(frozen=True)
class HostFacts:
    """What does not change on the host while a run runs. What is unknown is None.

    Args:
        cores: Logical ones of the host.
        usable_cores: Those that the run may use: the least of its affinity and its control group's limit.
        memory_bytes: Of the host.
        memory_limit_bytes: Of the run's control group; None where there is none.
        sees_gpu_processes: Whether the driver's lists of processes name this run's own wherever it is on a GPU, so
            that one without `process_memory_megabytes` is known to be without this run. False in a container with
            process numbers of its own, unless the run's processes were seen nevertheless.
    """

    cores: int | None = None
    usable_cores: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    sees_gpu_processes: bool = False


class Claim(NamedTuple):
    """What a rule says: the sentence, and its weight as in `Finding`."""

    sentence: str
    weight: float


@dataclass(frozen=True)
class Evidence:
    """The figures of one run on one host.

    Args:
        summary: Metrics that were seen for 30 s or longer.
        whole: All metrics: what never changes is in one window only, and some faults need no time to be judged.
        speeds: Of ranks that trained 20 steps and 30 s or longer.
        gpus: Those that the run may use.
    """

    host: HostFacts
    summary: Summary
    whole: Summary
    speeds: tuple[TrainingSpeed, ...]
    gpus: tuple[Gpu, ...]

    def stat(self, gpu: Gpu, field: str) -> Stat | None:
        """Of a GPU's metric; None where it is absent."""
        return self.summary.get(f"{gpu.key}_{field}")

    def constant(self, gpu: Gpu, field: str) -> float | None:
        """What never changes of a GPU, a total or a limit; None where it is absent or not above 0."""
        stat = self.whole.get(f"{gpu.key}_{field}")
        return stat.maximum if stat and stat.maximum > 0 else None

    def peak(self, key: str) -> float | None:
        """The highest value, of the maxima of the windows where they were kept; None where the metric is absent."""
        stat = self.summary.get(f"{key}_max") or self.summary.get(key)
        return stat.maximum if stat else None

    def used_gpus(self) -> list[Gpu]:
        """Those that this run's processes were on; where these cannot be told, all but those on which nobody worked."""
        return [gpu for gpu in self.gpus if self._is_used(gpu)]

    def busy_gpus(self, percent: float) -> list[Gpu]:
        """Those of the used ones whose mean utilisation is so high or higher."""
        stats = ((gpu, self.stat(gpu, "utilization_percentage")) for gpu in self.used_gpus())
        return [gpu for gpu, stat in stats if stat and stat.mean >= percent]

    def _is_used(self, gpu: Gpu) -> bool:
        if self.host.sees_gpu_processes:
            return self.constant(gpu, "process_memory_megabytes") is not None
        utilization = self.whole.get(f"{gpu.key}_utilization_percentage")
        return utilization is None or utilization.maximum > 0


def gather(host: HostFacts, summary: Summary, speeds: Iterable[TrainingSpeed], gpus: Sequence[Gpu]) -> Evidence:
    """Keep the figures that a rule may judge by; one that is no number counts as absent."""
    whole = {key: stat for key, stat in summary.items() if _are_numbers(astuple(stat))}
    return Evidence(
        host=host,
        summary={key: stat for key, stat in whole.items() if stat.seconds >= SHORTEST_SECONDS},
        whole=whole,
        speeds=tuple(speed for speed in speeds if _is_long_enough(speed)),
        gpus=tuple(gpus),
    )


def _is_long_enough(speed: TrainingSpeed) -> bool:
    spent = (speed.step_seconds, speed.data_seconds, speed.logging_seconds, speed.validation_seconds)
    if not _are_numbers(spent) or min(spent) < 0:
        return False
    return speed.steps >= FEWEST_STEPS and speed.step_seconds >= SHORTEST_SECONDS


def _are_numbers(values: Iterable[float]) -> bool:
    return all(map(math.isfinite, values))
