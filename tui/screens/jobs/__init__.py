"""Jobs by state, one job, and schedules."""
