"""Measurements: what a model's step costs, and what a loader delivers. tools/bench.py is their command line."""
