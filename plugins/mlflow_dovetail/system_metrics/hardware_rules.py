"""Rules on what the hardware did: clocks held down, memory full or unused, errors, links, disks.

Each returns None where nothing is wrong or something that it needs is unknown. The first line of its docstring is the
rule as the documentation has it.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from mlflow_dovetail.system_metrics import wording
from mlflow_dovetail.system_metrics.evidence import Claim, Evidence
from mlflow_dovetail.system_metrics.records import Gpu, Stat
from mlflow_dovetail.system_metrics.wording import gigabytes, percent

MEGABYTE = 1e6
# What may go wrong soon, and what only cost a little, stands behind what held the run back for a fifth of its time.
RISK = 0.2
# What could be better stands behind what may go wrong.
CHANCE = 0.1

# A hot minute in twenty is a warm day; more is cooling that does not suffice.
THERMAL_PERCENT = 5.0
# The signal of a power supply that cannot deliver: it never comes from a healthy one.
POWER_BRAKE_PERCENT = 1.0
# The umbrella of heat and brake in older drivers, so as heat.
HW_SLOWDOWN_PERCENT = 5.0
# Any dense training meets the limit of a good card, most of the time, and a card at its own limit keeps three quarters
# of its clock: below that, somebody has lowered the limit.
POWER_CAP_PERCENT = 50.0
SLOW_CLOCK_SHARE = 0.7
# The rest is less than fragmentation and a library's workspace ask for at any moment.
MEMORY_FULL_PERCENT = 95.0
# Three times the batch would fit.
MEMORY_UNUSED_PERCENT = 30.0
# In a shorter run, nobody has anything to gain.
MEMORY_UNUSED_SECONDS = 600.0
# Under this utilisation something else holds the run back, and links and batches are not the matter.
BUSY_PERCENT = 50.0
# Single corrected errors are what ECC is for; many within one run are a part that fails.
CORRECTED_ERRORS = 10.0
# 1 MB/s are 250 faults of 4 KiB; at 0.1 ms each, a thread waits 2.5 % of the time, at 40 MB/s always.
SWAP_IN_MEGABYTES = 1.0
SWAP_IN_MEGABYTES_ALWAYS = 40.0
# `full` means that no task at all could run: a healthy host is at 0.
MEMORY_PRESSURE_PERCENT = 5.0
# The kernel ends a process at 100, and a checkpoint or a worker takes some per cent at once.
HOST_MEMORY_PERCENT = 95.0
# A checkpoint of a billion parameters with Adam's state has 12 GB, one of a small model 0.1: a few more must fit.
DISK_PERCENT = 90.0
DISK_MEGABYTES = 5_000.0


def ecc_uncorrected(evidence: Evidence) -> Claim | None:
    """A GPU's uncorrected memory errors grew during the run, however short it was."""
    grown = _grown(evidence, "ecc_uncorrected_errors", least=0)
    if not grown:
        return None
    said = f"{wording.gpus(list(grown), evidence.gpus)}: {_errors(grown)} that ECC could not correct"
    return Claim(f"{said}; the results may be wrong, test the card.", 1)


def ecc_corrected(evidence: Evidence) -> Claim | None:
    """A GPU's corrected memory errors grew by 10 or more during the run, however short it was."""
    grown = _grown(evidence, "ecc_corrected_errors", least=CORRECTED_ERRORS)
    if not grown:
        return None
    said = f"{wording.gpus(list(grown), evidence.gpus)}: {_errors(grown)} that ECC corrected"
    return Claim(f"{said}; test the card.", RISK)


def gpu_unused(evidence: Evidence) -> Claim | None:
    """The run trained, and none of its processes was on any GPU that it may use, though the driver would name them."""
    if not (evidence.gpus and evidence.speeds and evidence.host.sees_gpu_processes) or evidence.used_gpus():
        return None
    who = wording.gpus(evidence.gpus, evidence.gpus)
    was = "was" if len(evidence.gpus) == 1 else "were"
    return Claim(f"{who} {was} free for this run, but it trained on the CPU; choose the trainer's accelerator.", 1)


def thermal_throttling(evidence: Evidence) -> Claim | None:
    """Heat held a GPU's clocks down 5 % of the time or more."""
    hot = _throttled(evidence, "throttle_thermal_percentage", THERMAL_PERCENT)
    if not hot:
        return None
    peaks = [evidence.peak(f"{gpu.key}_temperature_celsius") for gpu, _ in hot]
    highest = max((peak for peak in peaks if peak is not None), default=None)
    at = "" if highest is None else f", at up to {highest:.0f} °C"
    return _say_throttled(hot, evidence, "heat", f"{at}; see to its cooling.")


def power_brake(evidence: Evidence) -> Claim | None:
    """The power supply's brake signal held a GPU's clocks down 1 % of the time or more."""
    braked = _throttled(evidence, "throttle_power_brake_percentage", POWER_BRAKE_PERCENT)
    return _say_throttled(braked, evidence, "the power supply", "; check it and its cables.") if braked else None


def hw_slowdown(evidence: Evidence) -> Claim | None:
    """The hardware held a GPU's clocks down 5 % of the time or more, and neither heat nor the power supply is known."""
    if thermal_throttling(evidence) or power_brake(evidence):
        return None
    slow = _throttled(evidence, "throttle_hw_slowdown_percentage", HW_SLOWDOWN_PERCENT)
    return _say_throttled(slow, evidence, "the hardware", "; check cooling and power supply.") if slow else None


def power_cap(evidence: Evidence) -> Claim | None:
    """The power limit held a GPU's clocks down 50 % of the time or more, to 70 % of the highest clock or less."""
    capped = _throttled(evidence, "throttle_power_cap_percentage", POWER_CAP_PERCENT)
    clocks = {gpu: share for gpu, _ in capped if (share := _clock_share(evidence, gpu)) <= SLOW_CLOCK_SHARE}
    slow = [(gpu, stat) for gpu, stat in capped if gpu in clocks]
    if not slow:
        return None
    share = fmean(clocks.values())
    said = _say_throttled(slow, evidence, "the power limit", f", to {percent(100 * share)} of the highest in the mean.")
    return Claim(said.sentence, said.weight * (1 - share))


def gpu_memory_full(evidence: Evidence) -> Claim | None:
    """A GPU's memory was 95 % full or more at its peak."""
    used = evidence.used_gpus()
    peaks = {gpu: peak for gpu in used if (peak := _memory_peak(evidence, gpu)) and peak.percent >= MEMORY_FULL_PERCENT}
    if not peaks:
        return None
    worst = max(peaks.values())
    sentence = f"{wording.gpus(list(peaks), used)}: memory {worst.said()} at the peak; a larger batch may not fit."
    return Claim(sentence, RISK * worst.percent / 100)


def gpu_memory_unused(evidence: Evidence) -> Claim | None:
    """All GPUs in use are busy 50 % of 10 minutes or longer, and none ever has 30 % of its memory in use."""
    used = evidence.used_gpus()
    peaks = [peak for gpu in used if (peak := _memory_peak(evidence, gpu)) and peak.seconds >= MEMORY_UNUSED_SECONDS]
    if not used or len(peaks) < len(used) or len(evidence.busy_gpus(BUSY_PERCENT)) < len(used):
        return None
    most = max(peaks)
    if most.percent >= MEMORY_UNUSED_PERCENT:
        return None
    sentence = f"{wording.gpus(used, used)}: memory {most.said()} at the peak; a larger batch would fit."
    return Claim(sentence, CHANCE * (1 - most.percent / 100))


def pcie_link(evidence: Evidence) -> Claim | None:
    """The PCIe link of a GPU that is busy 50 % of the time never had the width or generation that it could have."""
    slow = [(left, said, gpu) for gpu in evidence.busy_gpus(BUSY_PERCENT) for left, said in _pcie_left(evidence, gpu)]
    if not slow:
        return None
    who = wording.gpus(list(dict.fromkeys(gpu for _, _, gpu in slow)), evidence.used_gpus())
    left, said, _ = min(slow, key=lambda one: one[0])
    return Claim(f"{who}: PCIe link at {said} under load; check the slot.", RISK * (1 - left))


def swap(evidence: Evidence) -> Claim | None:
    """The host reads 1 MB/s or more back from swap, in the mean."""
    stat = evidence.summary.get("swap_in_megabytes_per_second")
    if not stat or stat.mean < SWAP_IN_MEGABYTES:
        return None
    sentence = f"The host read {stat.mean:.0f} MB/s back from swap: what runs on it needs more memory than it has."
    return Claim(sentence, stat.mean / SWAP_IN_MEGABYTES_ALWAYS)


def memory_pressure(evidence: Evidence) -> Claim | None:
    """All tasks of the host, or of the run's control group, wait for memory 5 % of the time or more."""
    stat = evidence.summary.get("pressure_memory_full_percentage")
    if not stat or stat.mean < MEMORY_PRESSURE_PERCENT:
        return None
    return Claim(f"Everything stood still {percent(stat.mean)} of the time for want of memory.", stat.mean / 100)


def host_memory_full(evidence: Evidence) -> Claim | None:
    """The host's memory, or what the run's control group may have of it, was 95 % full or more at its peak."""
    limited = evidence.peak("memory_usage_of_limit_percentage")
    whole = evidence.peak("system_memory_usage_percentage")
    peak, size, whose = limited, evidence.host.memory_limit_bytes, "the run's limit"
    if limited is None or limited < HOST_MEMORY_PERCENT:
        peak, size, whose = whole, evidence.host.memory_bytes, "the host's memory"
    if peak is None or peak < HOST_MEMORY_PERCENT:
        return None
    of = f" of {gigabytes(size)} GB" if size else ""
    return Claim(
        f"{percent(peak)} of {whose}{of} was in use at the peak; at 100 % processes are killed.", RISK * peak / 100
    )


def disk_full(evidence: Evidence) -> Claim | None:
    """The disk was 90 % full or more, and had less than 5 GB left."""
    usage, left = evidence.summary.get("disk_usage_percentage"), evidence.summary.get("disk_available_megabytes")
    if not usage or not left or usage.maximum < DISK_PERCENT or left.minimum >= DISK_MEGABYTES:
        return None
    sentence = f"The disk was {percent(usage.maximum)} full, with {gigabytes(left.minimum * MEGABYTE)} GB left."
    return Claim(sentence, RISK * usage.maximum / 100)


def _throttled(evidence: Evidence, field: str, least: float) -> list[tuple[Gpu, Stat]]:
    stats = ((gpu, evidence.stat(gpu, field)) for gpu in evidence.used_gpus())
    return [(gpu, stat) for gpu, stat in stats if stat and stat.mean >= least]


def _say_throttled(held: list[tuple[Gpu, Stat]], evidence: Evidence, what: str, end: str) -> Claim:
    who = wording.gpus([gpu for gpu, _ in held], evidence.used_gpus())
    mean = fmean(stat.mean for _, stat in held)
    return Claim(f"{who}: {what} held the clocks down {percent(mean)} of the time{end}", mean / 100)


class MemoryPeak(NamedTuple):
    """The most that was in use of a GPU's memory, in the seconds that it was seen."""

    percent: float
    used_bytes: float
    total_bytes: float
    seconds: float

    def said(self) -> str:
        return f"{percent(self.percent)} full ({gigabytes(self.used_bytes)} of {gigabytes(self.total_bytes)} GB)"


def _clock_share(evidence: Evidence, gpu: Gpu) -> float:
    """The SMs' mean clock, as a share of the highest; 1 where either is unknown."""
    clock, highest = evidence.stat(gpu, "sm_clock_megahertz"), evidence.constant(gpu, "sm_clock_maximum_megahertz")
    return clock.mean / highest if clock and highest else 1.0


def _memory_peak(evidence: Evidence, gpu: Gpu) -> MemoryPeak | None:
    key = f"{gpu.key}_memory_usage_megabytes"
    used, peak = evidence.summary.get(key), evidence.peak(key)
    total = evidence.constant(gpu, "memory_total_megabytes")
    if not used or not total or peak is None:
        return None
    return MemoryPeak(100 * peak / total, peak * MEGABYTE, total * MEGABYTE, used.seconds)


def _grown(evidence: Evidence, field: str, least: float) -> dict[Gpu, float]:
    """By GPU, how many were added between the first reading and the last, if any and not less than `least`."""
    stats = ((gpu, evidence.whole.get(f"{gpu.key}_{field}")) for gpu in evidence.gpus)
    # A count that has fallen was begun anew, and says nothing of what was before.
    growths = {gpu: stat.maximum - stat.minimum for gpu, stat in stats if stat and stat.last >= stat.maximum}
    return {gpu: growth for gpu, growth in growths.items() if growth > 0 and growth >= least}


def _errors(grown: dict[Gpu, float]) -> str:
    # A window in which the count grows has a mean between the two.
    most = max(1.0, *grown.values())
    return f"{most:.0f} memory error{'' if most < 1.5 else 's'}"


def _pcie_left(evidence: Evidence, gpu: Gpu) -> list[tuple[float, str]]:
    """Of width and generation, what is below its maximum: the share of the bandwidth that is left, and in words.

    A link that sleeps lowers its generation; the highest that was seen is the one under load.
    """
    found = []
    width, widest = evidence.stat(gpu, "pcie_width_lanes"), evidence.constant(gpu, "pcie_width_maximum_lanes")
    if width and widest and 0 < width.maximum < widest:
        found.append((width.maximum / widest, f"width x{width.maximum:.0f} of x{widest:.0f}"))
    generation, newest = evidence.stat(gpu, "pcie_generation"), evidence.constant(gpu, "pcie_generation_maximum")
    if generation and newest and 0 < generation.maximum < newest:
        # Each generation has twice the bandwidth of the one before.
        left = 2.0 ** (generation.maximum - newest)
        found.append((left, f"generation {generation.maximum:.0f} of {newest:.0f}"))
    return found
