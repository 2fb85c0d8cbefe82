"""Programs that sample a machine, and the processes that run them, for tests/benchmarks/system_metrics.py."""
