"""Everything for Prometheus and Grafana: the metrics, and the rules and the dashboard that read them."""
