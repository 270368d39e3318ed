"""One worker process: its queues' dispatchers, presence, heartbeat and watchdog."""
