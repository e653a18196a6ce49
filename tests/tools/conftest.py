"""The scripts of tools/ are no package: import them as their own command line does, from their folder."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))


@pytest.fixture
def pretrained(tiny_recipe: Path) -> Path:
    """The folder of a run whose pre-training is over: untrained weights, which is all that the tools need."""
    from diffmae_video.engine.build import build_diffmae
    from diffmae_video.engine.checkpoint import save_checkpoint
    from diffmae_video.recipe import dump_recipe, load_recipe

    recipe = load_recipe(tiny_recipe, [])
    folder = Path(recipe.output_dir)
    torch.manual_seed(0)
    save_checkpoint(folder / "pretrain" / "weights.pt", {"model": build_diffmae(recipe).state_dict()})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    return folder
