"""What Prometheus and Grafana get of us: the metrics, and the rules and the dashboard that read them."""
