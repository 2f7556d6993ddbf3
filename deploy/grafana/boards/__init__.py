"""The Grafana dashboards as code; ``python -m deploy.grafana.boards`` writes their JSON."""
