"""What the files of this room hand each other: readings, GPUs, the speed of a training, and what is found in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

# Values of one moment by metric key, without the prefix `system/`: what is unknown is absent, never zero.
Reading = Mapping[str, float]


class Source(Protocol):
    """Something that is sampled. One thread calls it; no call raises."""

    name: str
    """As in the tag `dovetail.status.<name>`."""

    maxima: frozenset[str]
    """Keys of `poll` whose maximum of a window is a metric of its own, `<key>_max`: their mean hides the story.

    Known after the first `poll`.
    """

    def poll(self) -> Reading:
        """What is cheap to ask and changes fast: asked each second; a window has the mean of what was there."""
        ...

    def close_window(self) -> Reading:
        """What is asked once a window: rates and shares since the last call, totals since the start, slow values."""
        ...

    def troubles(self) -> Mapping[str, int]:
        """What could not be read since the last call, and how often: cause -> count."""
        ...


@dataclass(frozen=True)
class Gpu:
    """A GPU of this host, or one MIG instance of it.

    Args:
        index: NVML's, which is the one of `nvidia-smi`.
        uuid: `GPU-...`, or `MIG-...` of an instance.
        name: The model.
        pci_bus_id: Of the whole device.
        mig: The instance's index on its device; None for a whole device.
    """

    index: int
    uuid: str
    name: str
    pci_bus_id: str
    mig: int | None = None

    @property
    def key(self) -> str:
        """How its metrics begin: `gpu_0` or `gpu_0_mig_1`."""
        return f"gpu_{self.index}" if self.mig is None else f"gpu_{self.index}_mig_{self.mig}"


@dataclass(frozen=True)
class Stat:
    """One metric over a whole run: means are weighted by the seconds that each window stands for."""

    mean: float
    minimum: float
    maximum: float
    last: float
    seconds: float


Summary = Mapping[str, Stat]
"""By metric key, without the prefix `system/`."""


@dataclass(frozen=True)
class Finding:
    """Something that held the run back, or may soon.

    Args:
        rule: Its name, stable: such as `data_loading`.
        sentence: For people, with the evidence in it.
        weight: 0 to 1: the share of the run's time or of a resource that it concerns; the greatest comes first.
    """

    rule: str
    sentence: str
    weight: float
