"""``make bench-scaling``: what jobs, letters, processes and dashboards cost the server that all share."""
