"""What the hardware did while a run ran: GPUs and host, whose work it was, and what held the run back."""
