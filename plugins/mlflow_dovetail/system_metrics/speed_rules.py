"""Rules on where the training's time went: what kept the GPUs waiting, and which rank kept the others waiting.

Each returns None where nothing is wrong or something that it needs is unknown. The first line of its docstring is the
rule as the documentation has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.system_metrics import wording
from mlflow_dovetail.system_metrics.evidence import Claim, Evidence
from mlflow_dovetail.system_metrics.records import Gpu
from mlflow_dovetail.system_metrics.wording import percent, seconds

# Well-fed trainings are at 80 to 100 %: NVML counts a moment as used when any kernel ran in it.
IDLE_PERCENT = 30.0
# Removing what takes a fifth of each step makes a training 1.25 times as fast: worth a person's time.
CAUSE_SHARE = 0.2
# A cause that explains less than half of the idle time would name the wrong culprit.
EXPLAINED_SHARE = 0.5
# Without a GPU that waits, loading is work like any other, until it is as large as the rest together, or nearly.
LOADING_SHARE_WITHOUT_GPU = 0.4
# One thread that never waits is at 100; sampling, a logger's thread and pinning of memory add and take a little.
ONE_CORE_PERCENT = (80.0, 120.0)
# Ranks wait for one another at every step: what one of them has more than the others, all lose.
RANK_EXCESS_SHARE = 0.1
RANK_EXCESS_RATIO = 2.0


class Idle(NamedTuple):
    """The GPUs that were idle, and their mean."""

    gpus: list[Gpu]
    share: float
    seconds: float


def data_loading(evidence: Evidence) -> Claim | None:
    """A GPU is idle 30 % of the time or more, and loading is 20 % of a step and explains half of it; 40 % without GPU.

    Of several ranks the one in the middle speaks: one that loads slowly is another rule's.
    """
    speed = _typical(evidence.speeds, _data_share)
    if speed is None:
        return None
    workers = wording.workers(speed.data_workers, evidence.host)
    took = f"loading took {_of_each_step(speed.data_seconds, speed)}{workers}."
    if not _is_measured(evidence):
        share = _data_share(speed)
        return Claim(took.capitalize(), share) if share >= LOADING_SHARE_WITHOUT_GPU else None
    return _blame(evidence, _data_share(speed), speed.data_seconds, took)


def logging(evidence: Evidence) -> Claim | None:
    """A GPU is idle 30 % of the time or more, and logging is 20 % of a step and explains half of it."""
    speed = _typical(evidence.speeds, _logging_share)
    if speed is None:
        return None
    took = f"logging took {_of_each_step(speed.logging_seconds, speed)}; log less often."
    return _blame(evidence, _logging_share(speed), speed.logging_seconds, took)


def validation(evidence: Evidence) -> Claim | None:
    """A GPU is idle 30 % of the time or more, and validation is 20 % of the training and explains half of it."""
    speed = _typical(evidence.speeds, _validation_share)
    if speed is None:
        return None
    whole = f"the training's {seconds(_training_seconds(speed))}"
    took = f"validation took {seconds(speed.validation_seconds)} of {whole}; validate less often, or give it workers."
    return _blame(evidence, _validation_share(speed), speed.validation_seconds, took)


def cpu_bound(evidence: Evidence) -> Claim | None:
    """A GPU is idle 30 % of the time or more while the run is at 80 to 120 % of one core and nothing else takes 20 %.

    Only of a run of one process: the figure is that of all its processes on the host.
    """
    idle, cpu = _find_idle(evidence), evidence.summary.get("process_cpu_utilization_percentage")
    if not (idle and cpu and len(evidence.speeds) == 1):
        return None
    lowest, highest = ONE_CORE_PERCENT
    speed = evidence.speeds[0]
    others = (_data_share(speed), _logging_share(speed), _validation_share(speed))
    if not lowest <= cpu.mean <= highest or max(others) >= CAUSE_SHARE:
        return None
    busy = f"the run kept one core at {percent(cpu.mean)}{wording.cores(evidence.host)}"
    return Claim(f"{_say_idle(idle, evidence)}: {busy}; larger batches or compiled code help.", idle.share)


def slow_rank(evidence: Evidence) -> Claim | None:
    """Ranks wait for data twice as long as the one in the middle or longer, and for 10 % of a step more than it."""
    middle = _typical(evidence.speeds, _data_share)
    if middle is None:
        return None
    least = max(_data_share(middle) + RANK_EXCESS_SHARE, _data_share(middle) * RANK_EXCESS_RATIO)
    slow = [speed for speed in evidence.speeds if _data_share(speed) >= least]
    others = [speed for speed in evidence.speeds if speed not in slow]
    if not slow:
        return None
    worst, best = max(slow, key=_data_share), max(others, key=_data_share)
    who, it = wording.ranks(sorted(speed.rank for speed in slow)), "it" if len(slow) == 1 else "they"
    held, at_most = ("", "") if len(others) == 1 else (f" {len(others)}", "s at most")
    waited = f"{it} waited {_of_each_step(worst.data_seconds, worst)} for data"
    rest = f"the other{at_most} {seconds(best.data_seconds / best.steps)}"
    sentence = f"{who} held the other{held} back: {waited}, {rest}."
    return Claim(sentence, _data_share(worst) - _data_share(best))


def _data_share(speed: TrainingSpeed) -> float:
    """How much of its steps a rank waited for data, 0 to 1."""
    return speed.data_seconds / speed.step_seconds


def _logging_share(speed: TrainingSpeed) -> float:
    return speed.logging_seconds / speed.step_seconds


def _validation_share(speed: TrainingSpeed) -> float:
    return speed.validation_seconds / _training_seconds(speed)


def _training_seconds(speed: TrainingSpeed) -> float:
    return speed.step_seconds + speed.validation_seconds


def _typical(speeds: Sequence[TrainingSpeed], share: Callable[[TrainingSpeed], float]) -> TrainingSpeed | None:
    """The rank in the middle, the lower one of two."""
    return sorted(speeds, key=share)[(len(speeds) - 1) // 2] if speeds else None


def _is_measured(evidence: Evidence) -> bool:
    return any(evidence.stat(gpu, "utilization_percentage") for gpu in evidence.used_gpus())


def _find_idle(evidence: Evidence) -> Idle | None:
    stats = [(gpu, evidence.stat(gpu, "utilization_percentage")) for gpu in evidence.used_gpus()]
    idle = [(gpu, 1 - stat.mean / 100, stat.seconds) for gpu, stat in stats if stat and stat.mean <= 100 - IDLE_PERCENT]
    if not idle:
        return None
    return Idle(
        gpus=[gpu for gpu, _, _ in idle],
        share=fmean(share for _, share, _ in idle),
        seconds=fmean(share * seconds for _, share, seconds in idle),
    )


def _blame(evidence: Evidence, share: float, spent: float, took: str) -> Claim | None:
    """The claim that something kept GPUs waiting, if they waited, it is large, and it explains enough of the wait."""
    idle = _find_idle(evidence)
    if not idle or share < CAUSE_SHARE or spent < EXPLAINED_SHARE * idle.seconds:
        return None
    return Claim(f"{_say_idle(idle, evidence)}: {took}", idle.share * min(1.0, spent / idle.seconds))


def _say_idle(idle: Idle, evidence: Evidence) -> str:
    return f"{wording.gpus(idle.gpus, evidence.used_gpus())} idle {percent(idle.share * 100)} of the time"


def _of_each_step(spent: float, speed: TrainingSpeed) -> str:
    return f"{seconds(spent / speed.steps)} of each {seconds(speed.step_seconds / speed.steps)} step"
