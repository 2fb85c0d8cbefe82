"""What the hardware did while a run ran: GPUs and host, whose work it was, and what held the run back."""

from mlflow_dovetail.system_metrics.advice import advise, rules_table, sentence
from mlflow_dovetail.system_metrics.evidence import HostFacts
from mlflow_dovetail.system_metrics.gpu import GpuSource
from mlflow_dovetail.system_metrics.host import HostSource
from mlflow_dovetail.system_metrics.process_tree import ProcessTree, find_root
from mlflow_dovetail.system_metrics.records import Finding, Gpu, Reading, Source, Stat, Summary
from mlflow_dovetail.system_metrics.sampling import Sampling
from mlflow_dovetail.system_metrics.windows import interval_seconds, summarise

__all__ = [
    "Finding",
    "Gpu",
    "GpuSource",
    "HostFacts",
    "HostSource",
    "ProcessTree",
    "Reading",
    "Sampling",
    "Source",
    "Stat",
    "Summary",
    "advise",
    "find_root",
    "interval_seconds",
    "rules_table",
    "sentence",
    "summarise",
]
