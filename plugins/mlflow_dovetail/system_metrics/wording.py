"""Figures and names as they stand in a sentence of advice: rounded for people."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_dovetail.system_metrics.evidence import HostFacts
from mlflow_dovetail.system_metrics.records import Gpu

# A longer list of numbers is counted instead.
LONGEST_LIST = 4


def percent(value: float) -> str:
    """`61 %`, of 0 to 100."""
    return f"{value:.0f} %"


def seconds(value: float) -> str:
    """`42 ms`, `0.42 s`, `4.2 s`, `1234 s`: two digits where there are no more."""
    if value < 0.0995:
        return f"{value * 1e3:.2g} ms"
    return f"{value:.2g} s" if value < 99.5 else f"{value:.0f} s"


def gigabytes(value: float) -> str:
    """`9.6`, `80`, of bytes: the unit, GB of 1e9 bytes, is the caller's."""
    return f"{value / 1e9:.1f}" if value < 9.95e9 else f"{value / 1e9:.0f}"


def listed(words: Sequence[str]) -> str:
    """`0`, `0 and 3`, `0, 1 and 3`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def gpus(some: Sequence[Gpu], all_used: Sequence[Gpu]) -> str:
    """`GPU 0`, `GPU 0 MIG 1`, `GPUs 0 and 3`, `5 of 8 GPUs`, and `8 GPUs` when that is all of them."""
    names = [f"{gpu.index}" if gpu.mig is None else f"{gpu.index} MIG {gpu.mig}" for gpu in some]
    if len(some) == 1:
        return f"GPU {names[0]}"
    if len(some) == len(all_used):
        return f"{len(some)} GPUs"
    return f"GPUs {listed(names)}" if len(some) <= LONGEST_LIST else f"{len(some)} of {len(all_used)} GPUs"


def ranks(numbers: Sequence[int]) -> str:
    """`Rank 3`, `Ranks 1 and 2`, `9 ranks`."""
    if len(numbers) > LONGEST_LIST:
        return f"{len(numbers)} ranks"
    return f"Rank{'' if len(numbers) == 1 else 's'} {listed([str(number) for number in numbers])}"


def workers(count: int | None, host: HostFacts) -> str:
    """`; 2 workers on a 16-core host`; nothing where the number of workers is unknown."""
    if count is None:
        return ""
    return f"; {count} worker{'' if count == 1 else 's'}{cores(host)}"


def cores(host: HostFacts) -> str:
    """` on a 16-core host`, or ` on 4 of the host's 16 cores`; nothing where their number is unknown."""
    if host.cores is None:
        return ""
    if host.usable_cores is not None and host.usable_cores < host.cores:
        return f" on {round(host.usable_cores, 1):g} of the host's {host.cores} cores"
    article = "an" if f"{host.cores}".startswith("8") or host.cores in (11, 18) else "a"
    return f" on {article} {host.cores}-core host"
