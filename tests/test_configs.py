"""Every shipped recipe loads, opens with its command, and builds its models on the meta device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video.engine.build import build_classifier, build_diffmae
from diffmae_video.recipe import load_recipe

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


def test_the_recipes_that_the_project_promises_are_there() -> None:
    promised = {"motion_tiny", "k400_vitb", "k400_vitl", "k400_vith", "k600_vitl", "ssv2_vitl"}
    assert promised <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_it_builds(path: Path) -> None:
    recipe = load_recipe(path)
    with torch.device("meta"):
        assert build_diffmae(recipe).encoder.num_cubes > 0
        assert build_classifier(recipe, num_classes=7).head.out_features == 7


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_it_opens_with_its_command_and_what_to_expect(path: Path) -> None:
    comment = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"tools/run_net.py --cfg configs/{path.name}" in comment
    for word in ("Hardware:", "xpected time", "Result"):
        assert word in comment, word
