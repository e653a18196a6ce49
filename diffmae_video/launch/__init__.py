"""Runs on a SLURM cluster: one job, its requeues, and sweeps of many."""
