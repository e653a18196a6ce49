"""From a recipe to weights: build, train, evaluate, resume."""
