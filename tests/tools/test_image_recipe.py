"""Pictures go the same way as clips: the image config pre-trains on a folder of class folders, and inpaints one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torchvision.io import write_png

from diffmae_video.config import load_config
from diffmae_video.engine.runner import run
from diffmae_video.weights.load import load_diffmae
from tools.inpaint import main as inpaint

ROOT = Path(__file__).parents[2]


def write_pictures(folder: Path) -> None:
    """Two classes of noisy stripes, four pictures each, 40 x 48 pixels."""
    pixels = np.random.default_rng(0)
    for name, axis in (("across", 0), ("down", 1)):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            stripes = (np.indices((40, 48))[axis] // 6 % 2 * 180)[None] + pixels.integers(0, 60, (3, 40, 48))
            write_png(torch.from_numpy(stripes.astype(np.uint8)), str(folder / name / f"{i}.png"))


def test_pictures_pretrain_and_are_inpainted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train")
    overrides = {
        "stages": "[pretrain]",
        "output_dir": tmp_path / "run",
        "device": "cpu",
        "data.train_list": tmp_path / "train",
        "data.val_list": tmp_path / "train",
        "data.crop_size": 32,
        "data.num_workers": 0,
        "model.size": "micro",
        "model.patch_size": 8,
        "model.decoder": "{kind: cross_self, depth: 1, width: 32, num_heads: 2}",
        "pretrain.epochs": 2,
        "pretrain.warmup_epochs": 0,
        "pretrain.batch_size": 4,
        "pretrain.checkpoint_epochs": 1,
    }
    config = load_config(ROOT / "configs/images_vitb.yaml", [f"{key}={value}" for key, value in overrides.items()])
    assert run(config) == 0
    model, _ = load_diffmae(tmp_path / "run")
    assert model.encoder.grid == (1, 4, 4)
    picture, out = str(tmp_path / "train/down/0.png"), str(tmp_path / "out")
    asked = ["--run", str(tmp_path / "run"), "--video", picture, "--mask", "centre", "--steps", "3", "--out", out]
    assert inpaint(asked) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["clips"] == 1
