"""Every shipped recipe loads, opens with its command, and builds its models on the meta device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data.auto_augment import rand_augment_transform

from diffmae_video.data import clips
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.engine.build import build_classifier, build_diffmae
from diffmae_video.recipe import load_recipe
from diffmae_video.seeding import generator

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


# Frames a second of each collection's files; Kinetics has films of 24 and 25 among its 30.
RATES = {"k400": (24, 25, 30000 / 1001, 30), "k600": (24, 25, 30000 / 1001, 30), "ssv2": (12,), "motion": (16,)}


@pytest.mark.parametrize("path", [p for p in SHIPPED if "images" not in p.stem], ids=lambda p: p.stem)
def test_its_clips_have_as_many_frames_as_they_say(path: Path) -> None:
    """No frame comes twice in a clip of the collection's own frame rates, and there is nothing to warn of."""
    data = load_recipe(path).data
    for rate in RATES[path.stem.split("_")[0]]:
        times = np.arange(round(10 * rate)) / rate
        assert clips.repeated_frames(times, fps=data.fps, stride_frames=data.stride_frames) == ""
        line = clips.time_line(times, fps=data.fps)
        for i in range(20):
            steps = clips.dense_steps(
                len(line), num_frames=data.num_frames, stride_frames=data.stride_frames, generator=generator(i)
            )
            assert len(set(line[steps])) == data.num_frames


def test_ssv2_clips_are_every_second_frame_of_the_file() -> None:
    """As VideoMAE's stride 2, which counts the frames of 12 a second: 16 frames over 2.5 seconds."""
    data = load_recipe(ROOT / "configs" / "ssv2_vitl.yaml").data
    line = clips.time_line(np.arange(48) / 12, fps=data.fps)
    steps = clips.dense_steps(
        len(line), num_frames=data.num_frames, stride_frames=data.stride_frames, generator=generator(0)
    )
    assert np.diff(line[steps]).tolist() == [2] * 15


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_its_rand_augment_is_a_string_of_timms(path: Path) -> None:
    text = load_recipe(path).finetune.rand_augment
    assert bool(text) == (path.stem != "motion_tiny")
    if text:
        assert rand_augment_transform(text).num_layers == RandAugment.parse(text).num_ops
