"""What the benchmark of code capture is made of: repositories, and the ways to keep their state."""
