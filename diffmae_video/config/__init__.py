"""A config: all settings of a run.

A YAML file sets keys that differ from the defaults, and ``key=value`` overrides set keys that differ from the file::

    config = load_config("configs/k400_vitl.yaml", ["pretrain.lr=1e-3", "stages=[finetune,test]"])

Data, model and diffusion take plain keyword arguments and know nothing of configs; ``build`` turns a config
into such arguments. Reading a config loads no torch.
"""

from diffmae_video.config.load import dump_config, load_config, plain_config, value_text
from diffmae_video.config.rules import ConfigError
from diffmae_video.config.schema import Config

__all__ = ["Config", "ConfigError", "dump_config", "load_config", "plain_config", "value_text"]
