"""What the logging benchmarks are made of; each peer runs in a process of its own."""
