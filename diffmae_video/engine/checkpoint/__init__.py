"""Checkpoints: one verified file, shards of several ranks, and the manager that keeps them."""
