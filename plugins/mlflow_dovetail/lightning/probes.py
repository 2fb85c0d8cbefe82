"""What a Trainer is given for the time of its training, so that it can be seen what its steps wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities import CombinedLoader

if TYPE_CHECKING:
    from pytorch_lightning.profilers import Profiler

_LOOKED_AT = 8  # of a list in a batch: it may have a million numbers


class ProfilerProbe:
    """Stands before the Trainer's profiler, passes everything on, and hears when some actions begin and end.

    Lightning has no hook between two steps, but tells its profiler of what it does there: the next batch that it asks
    for is an action of its own. That the profiler is a user's does not change what the user's is told.

    Args:
        given: The Trainer's own.
        begins: What to call as an action begins, by the action's name; it must not raise.
        ends: The same for its end; only of actions that are not context managers.
    """

    def __init__(
        self, given: Profiler, begins: Mapping[str, Callable[[], object]], ends: Mapping[str, Callable[[], object]]
    ) -> None:
        self.given = given
        # Lightning's default does nothing, and takes longer for it than to look an action up: 30 times a step.
        self._profile = nullcontext if type(given) is PassThroughProfiler else given.profile
        self._begins = begins
        self._ends = ends

    def start(self, action_name: str) -> None:
        """An action begins that is no context manager, as the wait for a batch."""
        if begins := self._begins.get(action_name):
            begins()
        self.given.start(action_name)

    def stop(self, action_name: str) -> None:
        """Such an action ends."""
        self.given.stop(action_name)
        if ends := self._ends.get(action_name):
            ends()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """An action begins that is a context manager, as a hook."""
        if begins := self._begins.get(action_name):
            begins()
        return self._profile(action_name)

    def __getattr__(self, name: str) -> Any:
        if name == "given" or name.startswith("__"):  # while it is copied there is none yet
            raise AttributeError(name)
        return getattr(self.given, name)

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """A copy of the Trainer, as a worker process of its own has it, has the Trainer's own profiler."""
        return _itself, (self.given,)


class TimedLoggers(list[Logger]):
    """The Trainer's loggers, which tell how long somebody was busy with them.

    Lightning and its callbacks log with `for logger in trainer.loggers:`, after all values were brought from the GPU:
    what the loop's body takes is the loggers' own.

    Args:
        loggers: The Trainer's own.
        spent: Called after each such loop with its seconds; it must not raise.
    """

    def __init__(self, loggers: list[Logger], spent: Callable[[float], object]) -> None:
        super().__init__(loggers)
        self._spent = spent

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return list, (list(super().__iter__()),)

    def __iter__(self) -> Iterator[Logger]:
        began = perf_counter()
        try:
            yield from super().__iter__()
        finally:
            self._spent(perf_counter() - began)


def _itself(value: Any) -> Any:
    return value


def batch_samples(batch: Any) -> int | None:
    """The first dimension of the first tensor in a batch; None where the first entries hold none."""
    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else None
    if isinstance(batch, Mapping):
        parts = iter(batch.values())
    elif isinstance(batch, (list, tuple)):
        parts = iter(batch)
    else:
        return None
    return next((size for part in islice(parts, _LOOKED_AT) if (size := batch_samples(part)) is not None), None)


def loader_batch_size(loaders: Any) -> int | None:
    """The `batch_size` of the first DataLoader that has one; None with a batch sampler of the user's."""
    sizes = (getattr(loader, "batch_size", None) for loader in _each(loaders))
    return next((size for size in sizes if isinstance(size, int)), None)


def loader_workers(loaders: Any) -> int | None:
    """How many worker processes the DataLoaders have together; None where there is no DataLoader."""
    workers = [getattr(loader, "num_workers", None) for loader in _each(loaders)]
    known = [count for count in workers if isinstance(count, int)]
    return sum(known) if known else None


def _each(loaders: Any) -> Iterator[Any]:
    """As Lightning takes them: one, or several in lists and dictionaries."""
    if isinstance(loaders, CombinedLoader):
        yield from _each(loaders.iterables)
    elif isinstance(loaders, Mapping):
        for one in loaders.values():
            yield from _each(one)
    elif isinstance(loaders, (list, tuple)):
        for one in loaders:
            yield from _each(one)
    else:
        yield loaders
