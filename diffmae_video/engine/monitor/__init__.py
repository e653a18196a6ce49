"""What a run reports: metrics, progress, status, throughput, and what goes wrong."""
