"""Faults in the training loops: draws, labels, accumulation, rates, averages."""

from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "the gradient isn't clipped",
        "diffmae_video/engine/state.py",
        'max_norm or float("inf")',
        'float("inf")',
        "tests/engine/test_state.py::test_clipping_returns_the_norm_before_and_leaves_the_norm_asked_for",
    ),
]
