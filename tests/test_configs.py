"""Every shipped config loads, opens with its command, and builds its models on the meta device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.data.auto_augment import rand_augment_transform

from diffmae_video.build import build_classifier, build_diffmae
from diffmae_video.config import load_config
from diffmae_video.config.rules import walk
from diffmae_video.data import frame_sampling
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.seeding import generator

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


def test_the_configs_that_the_project_promises_are_there() -> None:
    promised = {"motion_tiny", "k400_vitb", "k400_vitl", "k400_vith", "k600_vitl", "ssv2_vitl"}
    assert promised <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_it_builds(path: Path) -> None:
    config = load_config(path)
    with torch.device("meta"):
        assert build_diffmae(config).encoder.num_cubes > 0
        assert build_classifier(config, num_classes=7).head.out_features == 7


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_it_opens_with_its_command_and_what_to_expect(path: Path) -> None:
    comment = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"tools/run_net.py --cfg configs/{path.name}" in comment
    for word in ("Hardware:", "xpected time", "Result"):
        assert word in comment, word


# Frames a second of each collection's files; Kinetics has films of 24 and 25 among its 30.
RATES = {"k400": (24, 25, 30000 / 1001, 30), "k600": (24, 25, 30000 / 1001, 30), "ssv2": (12,), "motion": (16,)}


@pytest.mark.parametrize("path", [p for p in SHIPPED if "images" not in p.stem], ids=lambda p: p.stem)
def test_its_clips_have_as_many_frames_as_they_say(path: Path) -> None:
    """No frame comes twice in a clip of the collection's own frame rates, and there is nothing to warn of."""
    data = load_config(path).data
    for rate in RATES[path.stem.split("_")[0]]:
        times = np.arange(round(10 * rate)) / rate
        assert frame_sampling.repeated_frames(times, fps=data.fps, stride_frames=data.stride_frames) == ""
        line = frame_sampling.TimeLine(times, fps=data.fps)
        for i in range(20):
            steps = frame_sampling.dense_steps(
                len(line), num_frames=data.num_frames, stride_frames=data.stride_frames, generator=generator(i)
            )
            assert len(set(line[steps])) == data.num_frames


def test_ssv2_clips_are_every_second_frame_of_the_file() -> None:
    """As VideoMAE's stride 2, which counts the frames of 12 a second: 16 frames over 2.5 seconds."""
    data = load_config(ROOT / "configs" / "ssv2_vitl.yaml").data
    line = frame_sampling.TimeLine(np.arange(48) / 12, fps=data.fps)
    steps = frame_sampling.dense_steps(
        len(line), num_frames=data.num_frames, stride_frames=data.stride_frames, generator=generator(0)
    )
    assert np.diff(line[steps]).tolist() == [2] * 15


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_its_rand_augment_is_a_string_of_timms(path: Path) -> None:
    text = load_config(path).finetune.rand_augment
    assert bool(text) == (path.stem != "motion_tiny")
    if text:
        assert rand_augment_transform(text).num_layers == RandAugment.parse(text).num_ops


# Settings of the peers whose results the configs name, as our keys say them; rates and batches are those of 16 nodes.
# [SlowFast configs/masked_ssl/k400_VIT_*_16x4_*.yaml, slowfast/config/defaults.py]
MAE_ST: dict[str, Any] = {
    "precision": "fp32",
    "data.num_frames": 16, "data.stride_frames": 4, "data.fps": 30, "data.crop_size": 224, "data.short_video": "hold",
    "data.mean": [0.45] * 3, "data.std": [0.225] * 3,
    "model.tubelet": 2, "model.patch_size": 16, "model.class_token": True, "model.positions": "learned",
    "model.decoder.kind": "joint", "model.decoder.depth": 4, "model.decoder.width": 512, "model.decoder.num_heads": 8,
    "mask.kind": "random", "mask.ratio": 0.9, "diffusion.objective": "mae", "diffusion.pixels": "normalized",
    "pretrain.batch_size": 512, "pretrain.clips_per_video": 4, "pretrain.lr": 8e-4, "pretrain.min_lr": 1.6e-5,
    "pretrain.betas": [0.9, 0.95], "pretrain.weight_decay": 0.05, "pretrain.clip_grad": 0.02, "pretrain.ema_decay": 0,
    "pretrain.crop_scale": [0.5, 1.0], "pretrain.decay": "cosine",
    "finetune.warmup_epochs": 5, "finetune.batch_size": 256, "finetune.sampling": "dense", "finetune.decay": "cosine",
    "finetune.betas": [0.9, 0.999], "finetune.weight_decay": 0.05, "finetune.clip_grad": 5, "finetune.ema_decay": 0,
    "finetune.head_init_scale": 0.001, "finetune.pool": "mean", "finetune.label_smoothing": 0.1, "finetune.mixup": 0.8,
    "finetune.cutmix": 1, "finetune.rand_augment": "rand-m7-mstd0.5-inc1", "finetune.color_jitter": 0,
    "finetune.erase_prob": 0.25, "finetune.crop_scale": [0.08, 1.0], "test.views": 7, "test.crops": 3,
}  # fmt: skip
# [MCG-NJU/VideoMAE scripts/ssv2/videomae_vit_base_*_epoch_2400, run_*.py, ssv2.py]
VIDEOMAE_SSV2: dict[str, Any] = MAE_ST | {
    "precision": "fp16", "data.stride_frames": 2, "data.fps": 12, "model.size": "base",
    "data.mean": [0.485, 0.456, 0.406], "data.std": [0.229, 0.224, 0.225],
    "model.class_token": False, "model.positions": "sincos", "model.decoder.width": 384, "model.decoder.num_heads": 6,
    "mask.kind": "tube", "pretrain.epochs": 2400, "pretrain.warmup_epochs": 40, "pretrain.batch_size": 2048,
    "pretrain.clips_per_video": 1, "pretrain.lr": 1.5e-4, "pretrain.min_lr": 8e-5, "pretrain.clip_grad": 0,
    "pretrain.crop_scale": "corner and centre crops",
    "finetune.epochs": 30, "finetune.batch_size": 384, "finetune.clips_per_video": 2, "finetune.sampling": "segment",
    "finetune.lr": 5e-4, "finetune.min_lr": 1.5e-6, "finetune.clip_grad": 0, "finetune.layer_decay": 0.75,
    "finetune.drop_path": 0.1, "finetune.head_dropout": 0, "finetune.rand_augment": "rand-m7-n4-mstd0.5-inc1",
    "test.views": 2,
}  # fmt: skip
# [arXiv 2111.06377, tables 8 and 9; facebookresearch/mae FINETUNE.md]
MAE_IMAGES: dict[str, Any] = MAE_ST | {
    "precision": "fp16", "data.num_frames": 1, "data.stride_frames": 1, "data.fps": 0, "model.size": "base",
    "data.mean": [0.485, 0.456, 0.406], "data.std": [0.229, 0.224, 0.225],
    "model.tubelet": 1, "model.positions": "sincos", "model.decoder.depth": 8, "model.decoder.num_heads": 16,
    "mask.ratio": 0.75, "pretrain.epochs": 1600, "pretrain.warmup_epochs": 40, "pretrain.batch_size": 4096,
    "pretrain.clips_per_video": 1, "pretrain.lr": 1.5e-4, "pretrain.min_lr": 0, "pretrain.clip_grad": 0,
    "pretrain.crop_scale": [0.2, 1.0], "pretrain.flip": True,
    "finetune.epochs": 100, "finetune.batch_size": 1024, "finetune.clips_per_video": 1, "finetune.lr": 5e-4,
    "finetune.min_lr": 1e-6, "finetune.clip_grad": 0, "finetune.layer_decay": 0.65, "finetune.drop_path": 0.1,
    "finetune.head_dropout": 0, "finetune.rand_augment": "rand-m9-mstd0.5-inc1", "finetune.flip": True,
    "test.views": 1, "test.crops": 1,
}  # fmt: skip
PEERS: dict[str, dict[str, Any]] = {
    "k400_vitb": MAE_ST | {
        "model.size": "base", "pretrain.epochs": 200, "pretrain.warmup_epochs": 60, "pretrain.batch_size": 1024,
        "pretrain.lr": 4e-4, "finetune.epochs": 75, "finetune.clips_per_video": 2, "finetune.lr": 9.6e-3,
        "finetune.min_lr": 1.6e-4, "finetune.layer_decay": 0.65,
        "finetune.drop_path": 0.1, "finetune.head_dropout": 0.3,
    },
    "k400_vitl": MAE_ST | {
        "model.size": "large", "pretrain.epochs": 200, "pretrain.warmup_epochs": 30, "finetune.epochs": 50,
        "finetune.clips_per_video": 2, "finetune.lr": 4.8e-3, "finetune.min_lr": 1.6e-4, "finetune.layer_decay": 0.75,
        "finetune.drop_path": 0.2, "finetune.head_dropout": 0.3,
    },
    "k400_vith": MAE_ST | {
        "model.size": "huge", "pretrain.epochs": 400, "pretrain.warmup_epochs": 60, "finetune.epochs": 75,
        "finetune.clips_per_video": 1, "finetune.lr": 4.8e-3, "finetune.min_lr": 1.6e-5, "finetune.layer_decay": 0.8,
        "finetune.drop_path": 0.2, "finetune.head_dropout": 0.5,
    },
    "ssv2_vitl": VIDEOMAE_SSV2,
    "images_vitb": MAE_IMAGES,
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_its_opening_lists_every_key_that_differs_from_its_peer(name: str) -> None:
    """A line "#   key  ours | theirs" for each of them, with our value, and for no other."""
    path = ROOT / "configs" / f"{name}.yaml"
    values = {key: value for key, _, value in walk(load_config(path))}
    differs = {key: values[key] for key, theirs in PEERS[name].items() if values[key] != theirs}
    differs = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in differs.items()}
    assert dict(re.findall(r"^#   ([a-z_.]+) +(\S.*?) \| ", path.read_text(), re.M)) == differs


def test_kinetics_600_is_kinetics_400_with_other_data() -> None:
    of_400, of_600 = (
        {key: value for key, _, value in walk(load_config(ROOT / "configs" / f"{name}.yaml"))}
        for name in ("k400_vitl", "k600_vitl")
    )
    differs = {key for key in of_400 if of_400[key] != of_600[key]}
    assert differs == {"output_dir", "data.dataset", "data.root", "data.train_list", "data.val_list"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_its_rho_is_one_that_method_md_reasons_about(path: Path) -> None:
    rho = load_config(path).diffusion.rho
    assert rho == (0.5 if path.stem == "motion_tiny" else 0.6)
    assert f"\n| {rho} | " in (ROOT / "docs" / "method.md").read_text()
