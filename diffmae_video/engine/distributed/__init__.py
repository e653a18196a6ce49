"""Ranks: their environment, the process group, data parallelism, and noticing a dead rank."""
