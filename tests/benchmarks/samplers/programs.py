"""The programs that are measured.

Each says "ready" when nothing begins any more, counts from a line of its input on, and at the next line tells, in JSON,
what it knows better than who looks from outside.
"""

from __future__ import annotations

DOVETAIL = """
import json, os, subprocess, sys, time
from collections import Counter
from pathlib import Path
from mlflow_dovetail.system_metrics import GpuSource, HostSource, ProcessTree, Sampling

class Timed:
    def __init__(self, source):
        self.source, self.name = source, source.name
    @property
    def maxima(self):
        return self.source.maxima
    def _time(self, what, call):
        at = time.thread_time()
        answer = call()
        spent[what] += time.thread_time() - at
        counted[self.name + what] += 1
        return answer
    def poll(self):
        return self._time("poll", self.source.poll)
    def close_window(self):
        return self._time("window", self.source.close_window)

spent, counted, values, cpu = Counter(), Counter(), {}, []
def begin():
    spent.clear(); counted.clear(); cpu.append(time.process_time())
def emit(name):
    return lambda found: values.update({name: len(found)})
def failed(error):
    raise SystemExit(str(error))
tree = ProcessTree(int(sys.argv[1]))
sources = [HostSource(tree, Path.cwd()), GpuSource(os.environ, tree.pids)]
samplings = [Sampling(Timed(source), emit(source.name), failed) for source in sources]
for sampling in samplings:
    sampling.start()
while len(values) < 2:
    time.sleep(0.1)
print("ready", flush=True); sys.stdin.readline(); begin(); sys.stdin.readline()
print(json.dumps({
    "cpu": time.process_time() - cpu[0], "metrics": sum(values.values()),
    "poll_ms": 1000 * spent["poll"] / max(counted["hostpoll"], 1),
    "window_ms": 1000 * spent["window"] / max(counted["hostwindow"], 1),
}), flush=True)
"""
MLFLOW = """
import json, sys, threading, time
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
monitor, interval = SystemMetricsMonitor("run"), float(sys.argv[1])
spent, metrics = [], 0
def collect():
    global metrics
    at = time.thread_time()
    monitor.collect_metrics()
    metrics = len(monitor.aggregate_metrics())
    for one in monitor.monitors:
        one.clear_metrics()
    spent.append(time.thread_time() - at)
def go_on():
    while True:
        collect()
        time.sleep(interval)
threading.Thread(target=go_on, daemon=True).start()
time.sleep(1)
print("ready", flush=True); sys.stdin.readline(); spent.clear(); cpu = time.process_time(); sys.stdin.readline()
print(json.dumps({
    "cpu": time.process_time() - cpu, "metrics": metrics, "window_ms": 1000 * sum(spent) / max(len(spent), 1),
}), flush=True)
"""
WANDB = """
import sys, time, wandb
interval = float(sys.argv[1])
more = {"x_stats_sampling_interval": interval} if interval else {"x_disable_stats": True}
wandb.init(project="bench", mode="offline", settings=wandb.Settings(**more))
time.sleep(2)
print("ready", flush=True); sys.stdin.readline(); sys.stdin.readline(); print("{}", flush=True)
"""
RUN = """
import sys, time, mlflow, mlflow_dovetail
with mlflow_dovetail.start_run(log_system_metrics=sys.argv[1] == "with"):
    print("ready", flush=True); sys.stdin.readline(); sys.stdin.readline(); print("{}", flush=True)
"""
MLFLOW_RUN = """
import sys, time, mlflow
with mlflow.start_run(log_system_metrics=sys.argv[1] == "with"):
    print("ready", flush=True); sys.stdin.readline(); sys.stdin.readline(); print("{}", flush=True)
"""
TRAINER = """
import multiprocessing, sys, time, mlflow_dovetail
from concurrent.futures import ProcessPoolExecutor
def count(seconds):
    loops, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))
        loops += 1
    return loops
wants, cores, seconds = sys.argv[1] == "with", int(sys.argv[2]), float(sys.argv[3])
fork = multiprocessing.get_context("fork")
with mlflow_dovetail.start_run(log_system_metrics=wants), ProcessPoolExecutor(cores, fork) as pool:
    list(pool.map(count, [0.1] * cores))
    print("ready", flush=True)
    for _ in sys.stdin:
        print("{}", sum(pool.map(count, [seconds] * cores)) / seconds, flush=True)
"""
FAMILY = "import subprocess, sys, time; [subprocess.Popen(['sleep', '900']) for _ in range(4)]; time.sleep(900)"
