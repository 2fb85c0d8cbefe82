"""Hydra's Optuna sweeper, made to go on where the same command was stopped."""

from __future__ import annotations

import itertools
import logging
import math
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

from mlflow_dovetail import redact, store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.sweeps import hold
from mlflow_dovetail.sweeps import study as studies
from mlflow_dovetail.sweeps.callback import SweepCallback
from mlflow_dovetail.sweeps.exits import JobExit, without_exit
from mlflow_dovetail.sweeps.jobs import Jobs
from mlflow_dovetail.sweeps.parent import Parent

log = logging.getLogger(__name__)

DEFAULT_STORAGE = "sqlite:///optuna.db"
_SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
_GRID = "optuna.samplers.GridSampler"
# Their seed belongs to the whole design; any other's is moved on with each trial, so that a sweep which is taken up
# again draws what it would have drawn.
_DESIGNS = (_GRID, "optuna.samplers.QMCSampler")
_LONGEST_ERROR = 500


class StudySweeper(OptunaSweeperImpl):
    """A sweep that is a study: the same command goes on with it until `n_trials` trials are complete.

    It takes what Hydra's Optuna sweeper takes, and differs in this: `n_trials` counts what all calls together have
    completed; `storage` is a URL and no object, `optuna.db` in the project's root when left out, where a relative
    sqlite path begins too; `study_name` is made from what is swept and the rest of the configuration when left out;
    `max_failure_rate` is the share of this call's trials above which it gives up; the sampler `grid` tries every
    combination, in order.

    Source:
        hydra-optuna-sweeper 1.4.0rc3, whose own loop begins anew each time.
    """

    def __init__(self, sampler: DictConfig, **settings: Any) -> None:
        super().__init__(None, **settings)
        self._sampler_settings = sampler

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra does; a job that calls `sys.exit` fails alone."""
        # Joblib's multiprocessing wants the very function that the program's module has.
        if config.hydra.launcher.get("backend") != "multiprocessing":
            task_function = without_exit(task_function)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the study."""
        self._process_searchspace_config()
        space, fixed, deleted = create_params_from_overrides([*self._parse_sweeper_params_config(), *arguments])
        self._space = {key: one for key, one in space.items() if key not in fixed}
        self._fixed = [*(f"{key}={value}" for key, value in fixed.items()), *deleted]
        try:
            grid = self._grid()
            study = self._open()
        except DovetailError as error:
            sys.exit(f"No trial was run. {error}")
        with hold.held(study):
            self._go_on(study, grid)

    def _open(self) -> optuna.Study:
        directions = self._get_directions()
        if len(directions) != 1:
            raise DovetailError(
                "Cannot sweep for several values at once.",
                f"There are {len(directions)} directions, and a parent run has one best child.",
                "Give one direction, or use Hydra's own sweeper: its _target_ is "
                "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper.",
            )
        if not isinstance(self.storage, str | None):
            raise DovetailError(
                "Cannot use hydra.sweeper.storage.",
                "It is an object, and a study that the same command is to find again has an address.",
                f"Give a URL such as {DEFAULT_STORAGE}, or leave it out.",
            )
        assert self.config is not None
        sampler = OmegaConf.to_container(self._sampler_settings)
        # By their full names, so that no value of the configuration has the same.
        search = {"hydra.sweeper.sampler": sampler, "hydra.sweeper.direction": directions[0], **self._fixed_in_params()}
        identity = studies.Identity.of(self.config, self._space, search)
        name = self.study_name or f"{self.config.hydra.job.name}-{identity.digest}"
        storage = store.resolve_uri(self.storage or DEFAULT_STORAGE)
        return studies.open_study(storage, name, identity, "maximize" if directions[0] == "maximize" else "minimize")

    def _fixed_in_params(self) -> dict[str, Any]:
        """What the sweeper's own settings change in every trial: no other part of the configuration shows it."""
        assert self.config is not None
        varied = {f"{key}={value}" for key, value in (self.params or {}).items() if key in self._space}
        fixed = sorted(set(self._parse_sweeper_params_config()) - varied)
        extender = self.config.hydra.sweeper.get("custom_search_space")
        told = {"hydra.sweeper.params": fixed, "hydra.sweeper.custom_search_space": extender}
        return {key: value for key, value in told.items() if value}

    def _go_on(self, study: optuna.Study, grid: list[studies.Point] | None) -> None:
        assert self.config is not None and self.hydra_context is not None
        callback = _callback(self.hydra_context.callbacks.callbacks)
        total = self.n_trials if grid is None else len(grid)
        parent = None
        if callback is not None:
            token = studies.parent_token(study, secrets.token_hex(16))
            if before := studies.jobs_before(study):
                Jobs(before).wait_for_left()
            studies.keep_jobs(study, callback.jobs.folder if callback.jobs else None)
            parent = callback.begin(self.config, token, study.study_name, self._get_directions()[0], total)
        settle = partial(self._settle, study, parent)
        settle()
        complete = studies.count_complete(study)
        if complete >= total:
            log.info(_nothing_left(study, total, is_grid=grid is not None))
            return
        studies.enqueue_left(study, grid)
        log.info("The study %s: %d of %d trials are complete.", study.study_name, complete, total)
        try:
            errors = self._run(study, total - complete)
        except BaseException:
            settle()
            raise
        self._report(study, total)
        if errors and isinstance(errors[0], JobExit):
            sys.exit(errors[0].code or 1)
        if errors:
            raise errors[0]

    @staticmethod
    def _settle(study: optuna.Study, parent: Parent | None) -> None:
        values: Mapping[int, float] = {}
        try:
            values = parent.values() if parent else {}
        except DovetailError as error:
            log.warning("Trials that ended without being told are run again: %s", error)
        studies.settle(study, values)

    def _run(self, study: optuna.Study, left: int) -> list[Exception]:
        """Run trials, as many at once as the launcher takes; the errors of those that failed."""
        assert self.launcher is not None
        at_once = self.n_jobs if self.n_jobs > 0 else os.cpu_count() or 1
        ended = 0
        errors: list[Exception] = []
        while ended < left and len(errors) <= self.max_failure_rate * ended:
            batch = [self._ask(study) for _ in range(min(at_once, left - ended))]
            returns = self.launcher.launch([one for _, one in batch], initial_job_idx=batch[0][0].number)
            for (trial, _), job in zip(batch, returns, strict=True):
                errors += _tell(study, trial, job)
            ended += len(batch)
        if ended < left:
            log.error("%d of %d trials have failed: the sweep gives up.", len(errors), ended)
        return errors

    def _ask(self, study: optuna.Study) -> tuple[optuna.Trial, Sequence[str]]:
        """The next trial, and its job's overrides."""
        study.sampler = self._sampler(studies.count_drawn(study))
        trial = study.ask()
        (overrides,) = self._configure_trials([trial], self._space, {}, self._fixed)
        return trial, overrides

    def _sampler(self, drawn: int) -> optuna.samplers.BaseSampler:
        settings = self._sampler_settings
        if settings._target_ == _GRID:
            return optuna.samplers.RandomSampler()  # all of a grid's trials are lined up: it is asked for nothing
        moved = settings.get("seed") is not None and settings._target_ not in _DESIGNS
        seed = {"seed": settings.seed + drawn} if moved else {}
        sampler = instantiate(settings, **seed, _execution_whitelist_=_SAMPLERS)
        assert isinstance(sampler, optuna.samplers.BaseSampler)
        return sampler

    def _grid(self) -> list[studies.Point] | None:
        """Every combination, the last key changing fastest; None where a sampler chooses."""
        if self._sampler_settings._target_ != _GRID:
            return None
        # A value that is told twice is one choice to Optuna too.
        choices = {key: [*dict.fromkeys(self._choices(key, one))] for key, one in self._space.items()}
        return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]

    def _choices(self, key: str, one: BaseDistribution) -> Sequence[Any]:
        try:
            return list(self._to_grid_sampler_choices(one))
        except ValueError as error:
            raise DovetailError(
                f"Cannot try every value of {key}.",
                "An interval has no end of them.",
                f"Give a list, such as {key}=1,2,5, or a range with a step; or a sampler that draws, such as "
                "hydra/sweeper/sampler=random.",
            ) from error

    def _report(self, study: optuna.Study, total: int) -> None:
        complete = studies.count_complete(study)
        again = "" if complete == total else " The same command runs the rest."
        log.info("The study %s: %d of %d trials are complete.%s", study.study_name, complete, total, again)
        if complete and self.config is not None:
            log.info("Best: %s", _best(study))
            best = {"name": "optuna", "best_params": study.best_params, "best_value": study.best_value}
            OmegaConf.save(OmegaConf.create(best), Path(self.config.hydra.sweep.dir) / "optimization_results.yaml")


def _tell(study: optuna.Study, trial: optuna.Trial, job: JobReturn) -> list[Exception]:
    """Tell the study what a job has returned; its error, where it has one."""
    try:
        study.tell(trial, _finite(job.return_value))
    except Exception as error:  # noqa: BLE001 - a job raises what it likes
        told = redact.mask_text(f"{type(error).__name__}: {error}")[:_LONGEST_ERROR]
        log.error("Trial %d failed: %s", trial.number, told)
        studies.fail(study, trial, told)
        return [error]
    return []


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"The job returned {number}, which is better or worse than nothing.")
    return number


def _best(study: optuna.Study) -> str:
    trial = study.best_trial
    return f"{trial.value:.6g}, trial {trial.number}: " + " ".join(f"{key}={one}" for key, one in trial.params.items())


def _nothing_left(study: optuna.Study, total: int, *, is_grid: bool) -> str:
    more = "" if is_grid else "For more, raise hydra.sweeper.n_trials. "
    return (
        f"Nothing to run: the study {study.study_name} has its {total} trials. Best: {_best(study)}. {more}"
        "To begin anew, give it a name: hydra.sweeper.study_name=second."
    )


def _callback(callbacks: Sequence[object]) -> SweepCallback | None:
    return next((one for one in callbacks if isinstance(one, SweepCallback)), None)
