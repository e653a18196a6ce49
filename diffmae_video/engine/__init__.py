"""From a config to weights: build, train, evaluate, resume."""
