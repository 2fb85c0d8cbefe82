"""An Optuna study that the same command finds again: what it is, what has been cut off, what is left to do."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mlflow_dovetail import store
from mlflow_dovetail.errors import DovetailError, causes
from mlflow_dovetail.redact import mask_text, strip_url_credentials
from mlflow_dovetail.store.creation import creating
from mlflow_dovetail.sweeps import hold
from mlflow_dovetail.sweeps.parent import Direction

Point = Mapping[str, Any]

# What the study and its trials keep beside Optuna's own; a swept key never begins so.
_IDENTITY = "dovetail.identity"
_PARENT = "dovetail.parent"
_JOBS = "dovetail.jobs"
_ERROR = "dovetail.error"

_REMEDY_FOR_DAMAGE = "Put back a copy of it from a backup, or move it away: then the sweep begins anew."
_REMEDY = (
    "Check that hydra.sweeper.storage is what you mean, that it can be reached and written, and that no other program "
    "has it locked; then run the same command again."
)


@dataclass(frozen=True)
class Identity:
    """What makes a sweep the same sweep: each part of it, by name, as the beginning of a hash: no secret is kept."""

    parts: Mapping[str, str]

    @classmethod
    def of(cls, config: DictConfig, space: Mapping[str, object], search: Mapping[str, object]) -> Identity:
        """Of what is swept, how it is searched, and all other values of the configuration but Hydra's own."""
        values = OmegaConf.to_container(config, resolve=False)
        assert isinstance(values, dict)
        rest = {key: value for key, value in values.items() if key != "hydra"}
        told = {**_flat(rest), **_flat(dict(search)), **{key: str(one) for key, one in space.items()}}
        return cls({key: _short_hash(repr(value)) for key, value in sorted(told.items())})

    @property
    def digest(self) -> str:
        """8 hex digits."""
        return _short_hash(json.dumps(self.parts))

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """The names of the parts that are not the same."""
        return sorted(key for key in {*self.parts, *other} if self.parts.get(key) != other.get(key))


def open_study(storage: str, name: str, identity: Identity, direction: Direction) -> optuna.Study:
    """Make the study, or find it again.

    Raises:
        DovetailError: Its name belongs to another sweep, or a process that lives, or may live, is at it; or the storage
            is damaged, is locked, does not answer, or is no database that Optuna can use.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = store.database_path(storage)
    with _translated(storage), creating(database) if database else nullcontext():
        study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            study.set_user_attr(_IDENTITY, dict(identity.parts))
        elif differences := identity.differences(known):
            raise _other_sweep(name, storage, differences)
        hold.take(study, is_alone=database is not None)
    return study


def parent_token(study: optuna.Study, new: str) -> str:
    """The token of the study's parent run: `new` in a new study, the same ever after."""
    if _PARENT not in study.user_attrs:
        study.set_user_attr(_PARENT, new)
    return str(study.user_attrs[_PARENT])


def jobs_before(study: optuna.Study) -> Path | None:
    """The folder with the jobs of the call before; None where they had no processes of their own."""
    before = study.user_attrs.get(_JOBS)
    return Path(before) if before else None


def keep_jobs(study: optuna.Study, folder: Path | None) -> None:
    """Name this call's folder to the next call. The jobs before are forgotten, so they must have ended."""
    study.set_user_attr(_JOBS, str(folder) if folder else None)


def fail(study: optuna.Study, trial: optuna.Trial, error: str) -> None:
    """A trial has failed by itself, and is not run again."""
    trial.set_user_attr(_ERROR, error)
    study.tell(trial, state=TrialState.FAIL)


def settle(study: optuna.Study, values: Mapping[int, float]) -> None:
    """Give the trials that a process has left behind their state: those that have a value have only not been told."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with suppress(ValueError):  # somebody else has told it meanwhile
            if trial.number in values:
                study.tell(trial.number, values[trial.number])
            else:
                study.tell(trial.number, state=TrialState.FAIL)


def enqueue_left(study: optuna.Study, grid: Sequence[Point] | None) -> None:
    """Line up what is known to be left: points of the grid, or trials that were cut off, to be run once more.

    A trial that failed by itself is run again in a grid only: a search has other points to try.
    """
    trials = study.get_trials(deepcopy=False)
    settled = {_key(_point(one)) for one in trials if one.state in (TrialState.COMPLETE, TrialState.WAITING)}
    if grid is None:
        settled |= {_key(_point(one)) for one in trials if _ERROR in one.user_attrs}
        wanted: Iterable[Point] = [_point(one) for one in trials if one.state is TrialState.FAIL and one.params]
    else:
        wanted = grid
    for point in wanted:
        if _key(point) not in settled:
            settled.add(_key(point))
            study.enqueue_trial(dict(point))


def count_complete(study: optuna.Study) -> int:
    """Trials with a value."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def count_drawn(study: optuna.Study) -> int:
    """Trials whose values the sampler has chosen."""
    return sum("fixed_params" not in one.system_attrs for one in study.get_trials(deepcopy=False))


def _point(trial: FrozenTrial) -> Point:
    """What a trial tries, or will try."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def _translated(storage: str) -> Iterator[None]:
    """What Optuna's storage raises: ImportError without a driver, RuntimeError over tables that are not its own."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        said = next((one.orig for one in causes(error) if isinstance(one, DBAPIError)), error)
        # Of a lock, a missing folder and the like it is a subclass.
        is_damaged = type(said) is sqlite3.DatabaseError
        raise DovetailError(
            f"Cannot open the study's storage {strip_url_credentials(storage)}.",
            f"{type(said).__name__}: {mask_text(str(said)).rstrip('.')}.",
            _REMEDY_FOR_DAMAGE if is_damaged else _REMEDY,
        ) from error


def _other_sweep(name: str, storage: str, differences: Sequence[str]) -> DovetailError:
    return DovetailError(
        f"Cannot go on with the study {name!r} of {strip_url_credentials(storage)}.",
        f"It is another sweep: {', '.join(differences)} differ from what its trials had.",
        "Give this one a name of its own, or none: hydra.sweeper.study_name=null.",
    )
