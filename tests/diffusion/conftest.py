"""Every test starts from the same global seed; what matters for a result has a generator of its own."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
