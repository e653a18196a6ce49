"""The forward process and the three parametrisations of one prediction: x0, eps and v.

``signal`` is sqrt(alpha_bar_t) and ``sigma`` is sqrt(1 - alpha_bar_t); signal**2 + sigma**2 = 1. Both are numbers or
tensors that broadcast against the cubes.
"""

from __future__ import annotations

from torch import Tensor

TARGETS = ("x0", "eps", "v")

Factor = Tensor | float


def add_noise(x0: Tensor, noise: Tensor, *, signal: Factor, sigma: Factor) -> Tensor:
    """x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise (Ho et al. 2020, eq. 4)."""
    return signal * x0 + sigma * noise


def target_from_x0(target: str, x0: Tensor, noise: Tensor, *, signal: Factor, sigma: Factor) -> Tensor:
    """What a network with this target should answer. v = signal * noise - sigma * x0 (Salimans & Ho 2022)."""
    if target == "x0":
        return x0
    if target == "eps":
        return noise
    assert target == "v"
    return signal * noise - sigma * x0


def x0_from_output(target: str, output: Tensor, x_t: Tensor, *, signal: Factor, sigma: Factor) -> Tensor:
    """The clean cubes that a network's answer means at x_t: the inverse of ``target_from_x0``."""
    if target == "x0":
        return output
    if target == "eps":
        return (x_t - sigma * output) / signal
    assert target == "v"
    return signal * x_t - sigma * output


def eps_from_x0(x0: Tensor, x_t: Tensor, *, signal: Factor, sigma: Factor) -> Tensor:
    """The noise that makes x_t of x0."""
    return (x_t - signal * x0) / sigma
