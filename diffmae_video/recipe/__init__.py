"""A recipe: all settings of a run.

A YAML file sets keys that differ from the defaults, and ``key=value`` overrides set keys that differ from the file::

    recipe = load_recipe("configs/k400_vitl.yaml", ["pretrain.lr=1e-3", "stages=[finetune,test]"])

Data, model and diffusion take plain keyword arguments and know nothing of recipes; ``engine/build.py`` turns a recipe
into such arguments. Reading a recipe loads no torch.
"""

from diffmae_video.recipe.load import dump_recipe, load_recipe, plain_recipe, value_text
from diffmae_video.recipe.rules import RecipeError
from diffmae_video.recipe.schema import Recipe

__all__ = ["Recipe", "RecipeError", "dump_recipe", "load_recipe", "plain_recipe", "value_text"]
