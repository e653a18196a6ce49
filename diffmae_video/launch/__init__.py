"""Training runs on a SLURM cluster: single jobs, requeues and sweeps."""
