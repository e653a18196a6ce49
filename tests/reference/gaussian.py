"""Sampling a Gaussian in closed form: the mean and variance of every step's result follow from a recursion.

For data N(m, s2) and x_t = sqrt(a) x0 + sqrt(1 - a) noise, the best prediction of x0 is affine in x_t:
E[x0 | x_t] = m + s2 sqrt(a) / (a s2 + 1 - a) * (x_t - sqrt(a) m). A step is then affine too, and so is the whole walk:
x_T ~ N(0, 1) goes to N(mean, variance). The steps are written here in the posterior's (DDPM) or the implicit (DDIM)
form, for numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise


def best_x0(x_t: float, a: float, m: float, s2: float) -> float:
    return m + s2 * math.sqrt(a) / (a * s2 + 1 - a) * (x_t - math.sqrt(a) * m)


def ddim(x_t: float, a: float, b: float, eta: float, m: float, s2: float) -> tuple[float, float]:
    """The mean of the next state given x_t, and its variance."""
    x0 = best_x0(x_t, a, m, s2)
    eps = (x_t - math.sqrt(a) * x0) / math.sqrt(1 - a)
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    return math.sqrt(b) * x0 + math.sqrt(1 - b - variance) * eps, variance


def ddpm(x_t: float, a: float, b: float, m: float, s2: float) -> tuple[float, float]:
    """The mean of the next state given x_t, and its variance: the product of two Gaussians, N(x0) and N(x_t)."""
    if b == 1.0:
        return best_x0(x_t, a, m, s2), 0.0
    x0 = best_x0(x_t, a, m, s2)
    step = a / b  # x_t = sqrt(step) x_next + sqrt(1 - step) noise, and x_next = sqrt(b) x0 + sqrt(1 - b) noise
    precision = step / (1 - step) + 1 / (1 - b)
    mean = (math.sqrt(step) * x_t / (1 - step) + math.sqrt(b) * x0 / (1 - b)) / precision
    return mean, 1 / precision


def walk(levels: list[float], step: object, m: float, s2: float) -> tuple[float, float, float]:
    """The affine map of a whole walk down ``levels`` (the last is 1): gain and offset of x_T, variance of the noise."""
    gain, offset, variance = 1.0, 0.0, 0.0
    for a, b in pairwise(levels):
        at_0, noise = step(0.0, a, b, m, s2)  # type: ignore[operator]
        at_1, _ = step(1.0, a, b, m, s2)  # type: ignore[operator]
        slope = at_1 - at_0
        gain, offset, variance = slope * gain, slope * offset + at_0, slope**2 * variance + noise
    return gain, offset, variance
