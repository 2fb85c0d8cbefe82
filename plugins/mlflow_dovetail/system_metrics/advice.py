"""What held a run back, or may soon, in one plain sentence with its evidence; nothing where nothing is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.system_metrics import hardware_rules, speed_rules
from mlflow_dovetail.system_metrics.evidence import Claim, Evidence, HostFacts, gather
from mlflow_dovetail.system_metrics.records import Finding, Gpu, Summary

__all__ = ["RULES", "HostFacts", "Rule", "advise", "rules_table", "sentence"]

Rule = Callable[[Evidence], Claim | None]

# Of two that weigh the same, the first comes first. A rule's name is its function's.
RULES: tuple[Rule, ...] = (
    hardware_rules.ecc_uncorrected,
    hardware_rules.gpu_unused,
    speed_rules.data_loading,
    speed_rules.slow_rank,
    speed_rules.logging,
    speed_rules.validation,
    speed_rules.cpu_bound,
    hardware_rules.thermal_throttling,
    hardware_rules.power_brake,
    hardware_rules.hw_slowdown,
    hardware_rules.power_cap,
    hardware_rules.swap,
    hardware_rules.memory_pressure,
    hardware_rules.gpu_memory_full,
    hardware_rules.host_memory_full,
    hardware_rules.disk_full,
    hardware_rules.ecc_corrected,
    hardware_rules.pcie_link,
    hardware_rules.gpu_memory_unused,
)


def advise(host: HostFacts, summary: Summary, speeds: Sequence[TrainingSpeed], gpus: Sequence[Gpu]) -> list[Finding]:
    """What a run's figures say, the weightiest first; nothing where nothing is wrong. Never raises.

    Figures of less than 30 s or of less than 20 steps are not judged, and what is absent is never the ground of a
    claim.

    Args:
        summary: Of one host.
        speeds: Of all ranks, those of other hosts too.
        gpus: Those of the host that the run may use.
    """
    evidence = gather(host, summary, speeds, gpus)
    claims = ((_name(rule), rule(evidence)) for rule in RULES)
    findings = [Finding(name, claim.sentence, min(1.0, max(0.0, claim.weight))) for name, claim in claims if claim]
    return sorted(findings, key=lambda finding: finding.weight, reverse=True)


def sentence(findings: Sequence[Finding]) -> str:
    """The one sentence for people: the first finding's; "" when there is none."""
    return findings[0].sentence if findings else ""


def rules_table() -> list[tuple[str, str]]:
    """Each rule's name, and the rule with its thresholds in words: for the documentation."""
    return [(_name(rule), inspect.cleandoc(rule.__doc__ or "").splitlines()[0]) for rule in RULES]


def _name(rule: Rule) -> str:
    return rule.__name__
