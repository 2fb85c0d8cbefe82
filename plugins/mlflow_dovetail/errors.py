"""Every error that Dovetail raises.

DovetailError
├── RunNotFound         no run, or more than one, answers to what was given
├── StoreUnavailable    the tracking store cannot be opened
├── StoreRefused        the tracking store answered, and said no
├── RunFolderInvalid    a folder is no run folder, or cannot be written
├── RunFolderBusy       another process writes or sends the run folder
├── Offline             a read that needs the store, while the run has none
└── Degraded            under DOVETAIL_STRICT=1: something could not be recorded
"""

from __future__ import annotations

from collections.abc import Iterator


class DovetailError(Exception):
    """An error that says what happened, why, and what to do.

    Args:
        what: What could not be done, one sentence.
        why: The cause, one sentence.
        remedy: What the user can do now, one sentence.
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.remedy}"


class RunNotFound(DovetailError):
    """No run, or more than one, answers to the id, token, prefix or name that was given."""


class StoreUnavailable(DovetailError):
    """The tracking store cannot be reached, or its address cannot be used."""


class StoreRefused(DovetailError):
    """The tracking store answered and did not take what was sent."""


class RunFolderInvalid(DovetailError):
    """A folder is not a run folder of a version that is known, or it cannot be written."""


class RunFolderBusy(DovetailError):
    """Another process writes or sends the run folder at this moment."""


class Offline(DovetailError):
    """Something was to be read from the store while the run is recorded offline."""


class Degraded(DovetailError):
    """Something could not be recorded; raised only under `DOVETAIL_STRICT=1`, counted in a tag otherwise."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it, each once: a chain may be a ring."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: Lightning and Hydra go on with another one, `SystemExit` for instance."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))
