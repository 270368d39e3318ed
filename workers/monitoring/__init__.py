"""The state of the queues and processes, and which thresholds they breach."""
