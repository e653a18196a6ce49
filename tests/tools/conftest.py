"""The scripts of tools/ are no package: import them as their own command line does, from their folder."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))


@pytest.fixture
def pretrained(tiny_config: Path) -> Path:
    """The folder of a run whose pre-training is over: untrained weights, which is all that the tools need."""
    from diffmae_video.build import build_diffmae
    from diffmae_video.config import dump_config, load_config
    from diffmae_video.engine.checkpoint.single_file import save_checkpoint

    config = load_config(tiny_config, [])
    folder = Path(config.output_dir)
    torch.manual_seed(0)
    save_checkpoint(folder / "pretrain" / "weights.pt", {"model": build_diffmae(config).state_dict()})
    (folder / "config.yaml").write_text(dump_config(config))
    return folder
