"""A recipe: everything that decides a run.

A YAML file names what differs from the defaults, ``key=value`` overrides what differs from the file::

    recipe = load_recipe("configs/k400_vitl.yaml", ["pretrain.lr=1e-3", "stages=[finetune,test]"])

Data, model and diffusion take plain keyword arguments and don't know recipes; ``engine/build.py`` turns the one into
the other. Reading a recipe needs no torch.
"""

from diffmae_video.recipe.load import dump_recipe, load_recipe, plain_recipe, value_text
from diffmae_video.recipe.rules import RecipeError
from diffmae_video.recipe.schema import Recipe

__all__ = ["Recipe", "RecipeError", "dump_recipe", "load_recipe", "plain_recipe", "value_text"]
