"""On which GPUs a run is: those of its mask, else those that its processes are seen on, else those that are free."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

# A program that has not begun with CUDA by then may be on a GPU and not be recognised: in a container, NVML names the
# processes by their numbers on the host.
PATIENCE_SECONDS = 15.0


class Attribution:
    """Which GPUs are reported.

    Args:
        visible: Keys of all GPUs that the run may use, in their order.
        declared: A mask names them.
        since: When the first call was made, in seconds, on the clock of the `now` of the others.
    """

    def __init__(self, visible: Collection[str], *, declared: bool, since: float) -> None:
        self._visible = tuple(visible)
        self._declared = declared
        self._since = since
        self._decided = False
        self._seen: set[str] = set()
        self._others: set[str] = set()

    @property
    def how(self) -> Literal["mask", "processes", "visible", "undecided"]:
        """What the choice rests on."""
        if self._declared:
            return "mask"
        if self._seen:
            return "processes"
        return "visible" if self._decided else "undecided"

    def saw(self, keys: Collection[str]) -> None:
        """Processes of the run are on these GPUs; a run that leaves a GPU goes on being reported there."""
        self._seen.update(keys)

    def saw_others(self, keys: Collection[str]) -> None:
        """Only other people's processes are on these GPUs now: whatever they do, it is not the run's."""
        self._others = set(keys)

    def decide(self) -> None:
        """No more waiting: the run ends."""
        self._decided = True

    def reported(self, now: float) -> tuple[str, ...]:
        """Keys of the GPUs that are the run's; none while that is open."""
        if now - self._since >= PATIENCE_SECONDS:
            self.decide()
        if self.how == "processes":
            return tuple(key for key in self._visible if key in self._seen)
        if self.how == "visible":
            return tuple(key for key in self._visible if key not in self._others)
        return () if self.how == "undecided" else self._visible
