"""What a device counts by itself, between two readings: its energy, and the time that its clocks were held down."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_dovetail.system_metrics.gpu_fields import EVENT_REASONS, SUPPORTED_REASONS, THROTTLES, Throttle, percent_of
from mlflow_dovetail.system_metrics.nvml import Device
from mlflow_dovetail.system_metrics.records import Reading

# No board draws more: what a 32-bit counter that went around may have grown by.
MOST_WATTS = 5_000
NANOSECONDS = 1e9
ANY_REASON = 2**64 - 1


class Energy:
    """Joules since the first reading; a counter that goes around or begins anew loses nothing that was counted."""

    def __init__(self) -> None:
        self._joules = 0.0
        self._last: tuple[int, float] | None = None

    def add(self, millijoules: int, now: float) -> float:
        """The sum with this reading of the device's counter, made at `now` in seconds."""
        if self._last is not None:
            before, at = self._last
            self._joules += _growth(before, millijoules, MOST_WATTS * 1000 * (now - at)) / 1000
        self._last = millijoules, now
        return self._joules


def _growth(before: int, now: int, most: float) -> int:
    if now >= before:
        return now - before
    around = now + 2**32 - before
    # More than the board can draw in that time: the driver was loaded anew, and counts from zero.
    return around if before < 2**32 and around <= most else now


class ThrottleShares:
    """For which share of a window each reason held the clocks down.

    Args:
        device: Whose clocks event reasons are polled.
        counters: What the driver's counters of nanoseconds are at `now`, by the number of their field.
        now: In seconds.
    """

    def __init__(self, device: Device, counters: Mapping[int, int], now: float) -> None:
        self._device = device
        # Where a driver cannot say which bits it knows, a bit that is not set is a reason that does not hold.
        supported = device.ask_first(SUPPORTED_REASONS)
        self._supported = ANY_REASON if supported is None else int(supported)
        self._counters, self._since = counters, now
        self._polled: list[int] = []

    def poll(self) -> None:
        """Ask which reasons hold now."""
        reasons = self._device.ask_first(EVENT_REASONS)
        if reasons is not None:
            self._polled.append(reasons)

    def close(self, counters: Mapping[int, int], now: float) -> Reading:
        """Percent by metric, since the last call or the start; a reason that nothing tells of is absent."""
        nanoseconds = (now - self._since) * NANOSECONDS
        shares = {throttle.metric.name: self._share(throttle, counters, nanoseconds) for throttle in THROTTLES}
        self._counters, self._since = counters, now
        self._polled.clear()
        return {name: share for name, share in shares.items() if share is not None}

    def _share(self, throttle: Throttle, counters: Mapping[int, int], nanoseconds: float) -> float | None:
        counted = self._counted(throttle.counter, counters, nanoseconds)
        if counted is None:
            return self._polled_share(throttle.bits)
        return max(counted, self._polled_share(throttle.uncounted_bits) or 0.0)

    def _counted(self, counter: int | None, counters: Mapping[int, int], nanoseconds: float) -> float | None:
        if counter is None or counter not in counters or counter not in self._counters:
            return None
        grown = counters[counter] - self._counters[counter]
        # It began anew: how much of this is of the window is not known.
        share = None if grown < 0 else percent_of(grown, nanoseconds)
        return None if share is None else min(share, 100.0)

    def _polled_share(self, bits: int) -> float | None:
        if not self._supported & bits:
            return None
        return percent_of(sum(1 for reasons in self._polled if reasons & bits), len(self._polled))
