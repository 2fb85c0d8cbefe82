"""Windows of a run: what was polled becomes one value a window, long runs get longer windows, and a run a summary."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from mlflow_dovetail.system_metrics.records import Reading, Stat, Summary

FIRST_INTERVAL_SECONDS = 5.0
# A window of a thousandth of what has passed is finer than a plot of the run can show, and the number of windows
# grows only with the logarithm of the time: 1,000 in the first 83 minutes, then 1,000 for each factor of e. That
# makes 3,900 after a day, 5,800 after a week and 9,800 after a year, where 5 s throughout would make 6 million.
THINNING = 1_000


class Window:
    """The polls since the last window. One thread uses it.

    Args:
        maxima: Keys whose maximum is a metric of its own, `<key>_max`.
    """

    def __init__(self, maxima: frozenset[str]) -> None:
        self._maxima = maxima
        self._polled: dict[str, _Weighted] = defaultdict(_Weighted)

    def add(self, reading: Reading) -> None:
        """Take the values of one poll; NaN and the infinities are left out, as if they were absent."""
        for key, value in reading.items():
            if math.isfinite(value):
                self._polled[key].add(value, weight=1)

    def close(self, extra: Reading) -> dict[str, float]:
        """Finish this window and begin the next.

        Args:
            extra: What is asked once a window; merged as it is, and it wins where a key was polled too.

        Returns:
            The mean of each key over the polls that had it, whose number may differ from key to key, and the maxima;
            a key that no poll had is absent. Only finite values.
        """
        polled, self._polled = self._polled, defaultdict(_Weighted)
        means = {key: seen.mean for key, seen in polled.items()}
        peaks = {f"{key}_max": seen.maximum for key, seen in polled.items() if key in self._maxima}
        return {**means, **peaks, **{key: value for key, value in extra.items() if math.isfinite(value)}}


def interval_seconds(elapsed: float) -> float:
    """How long a window is that begins so many seconds after the run's start.

    Returns:
        5 s in the first 83 minutes, then a thousandth of what has passed: 86 s after a day, 605 s after a week.
    """
    return max(FIRST_INTERVAL_SECONDS, elapsed / THINNING)


def next_due(started: float, due: float, now: float) -> float:
    """When the next window ends.

    It is reckoned from when the last one was due, not from when it was done, so that windows do not drift. Those that
    were missed, in a hung call or a sleeping machine, are left out rather than made up for.

    Args:
        started: When the run was first sampled, in seconds of a clock that never goes back (as are the others).
        due: When the last window was due; `started` for the first.
        now: When it was done.
    """
    interval = interval_seconds(due - started)
    missed = max(0, math.floor((now - due) / interval))
    return due + (missed + 1) * interval


def summarise(windows: Iterable[tuple[float, float, Reading]]) -> Summary:
    """What each metric was over a whole run, in the memory of one window.

    Args:
        windows: Of each: when it ended, in seconds of any clock; how many seconds it stands for; its values. In any
            order. Seconds that are no positive number weigh nothing.

    Returns:
        By key; the seconds are those of the windows that had it. A mean over 0 s is the last value that came.
        NaN and the infinities are left out; a key without any value is absent.
    """
    seen: dict[str, _Weighted] = defaultdict(_Weighted)
    for at, seconds, values in windows:
        weight = seconds if 0 < seconds < math.inf else 0.0
        for key, value in values.items():
            if math.isfinite(value):
                seen[key].add(value, weight=weight, at=at)
    return {key: one.stat() for key, one in seen.items()}


class _Weighted:
    """A weighted mean and the extremes of values that come one by one."""

    def __init__(self) -> None:
        self.maximum = -math.inf
        self._minimum = math.inf
        self._mean = 0.0
        self._weight = 0.0
        self._last = 0.0
        self._last_at = -math.inf

    def add(self, value: float, *, weight: float, at: float = 0.0) -> None:
        self._weight += weight
        share = weight / self._weight if self._weight else 1.0
        # In shares rather than as a sum to be divided at the end, which could overflow.
        self._mean = (1 - share) * self._mean + share * value
        self._minimum = min(self._minimum, value)
        self.maximum = max(self.maximum, value)
        if not at < self._last_at:
            self._last, self._last_at = value, at

    @property
    def mean(self) -> float:
        # The rounding of many steps may leave the range by a last digit.
        return min(max(self._mean, self._minimum), self.maximum)

    def stat(self) -> Stat:
        return Stat(self.mean, self._minimum, self.maximum, self._last, self._weight)
