"""Crops and augmentation against torchvision's own and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from diffmae_video.data import transforms
from diffmae_video.seeding import generator


def clip_of(height: int = 36, width: int = 48, frames: int = 4) -> torch.Tensor:
    return torch.randint(256, (frames, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("size", [(20, 20), (64, 50), (36, 48)])
def test_resize_is_torchvisions(layout: str, size: tuple[int, int]) -> None:
    clip = clip_of()
    if layout == "channels_last":
        clip = clip.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(transforms.resize(clip, *size), v2.functional.resize(clip, list(size), antialias=True))


def test_short_side() -> None:
    assert transforms.resize_short_side(clip_of(30, 60), 20).shape[-2:] == (20, 40)
    assert transforms.resize_short_side(clip_of(61, 33), 11).shape[-2:] == (20, 11)


def test_random_boxes_are_distributed_as_torchvisions() -> None:
    """Same law, other draws: means of area share, ratio and place agree within 5 standard errors."""
    scale = (0.2, 0.9)
    ours = np.array([transforms.random_box(120, 160, scale=scale, generator=generator(0, i)) for i in range(4000)])
    torch.manual_seed(0)
    picture = torch.zeros(3, 120, 160)
    theirs = _torchvision_boxes(picture, scale)
    figures = (
        lambda b: b[:, 2] * b[:, 3] / (120 * 160),
        lambda b: np.log(b[:, 3] / b[:, 2]),
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    )
    for figure in figures:
        a, b = figure(ours), figure(theirs)
        assert abs(a.mean() - b.mean()) < 5 * np.hypot(a.std(), b.std()) / np.sqrt(4000)
        assert a.std() == pytest.approx(b.std(), rel=0.08)


def _torchvision_boxes(picture: torch.Tensor, scale: tuple[float, float]) -> np.ndarray:
    crop = v2.RandomResizedCrop(8, scale=scale)
    drawn = [crop.make_params([picture]) for _ in range(4000)]
    return np.array([[p["top"], p["left"], p["height"], p["width"]] for p in drawn])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (7, 9), (240, 320)])
def test_random_boxes_lie_within_the_picture(height: int, width: int) -> None:
    for i in range(200):
        top, left, h, w = transforms.random_box(height, width, scale=(0.08, 1.0), generator=generator(1, i))
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        assert min(h, w) >= 1


def test_view_boxes_spread_over_the_long_side() -> None:
    assert transforms.view_boxes(10, 30, num_crops=3) == [(0, 0, 10, 10), (0, 10, 10, 10), (0, 20, 10, 10)]
    assert transforms.view_boxes(31, 10, num_crops=1) == [(10, 0, 10, 10)]


OFF = {"rand_augment_ops": 0, "rand_augment_magnitude": 9, "color_jitter": 0.0, "erase_prob": 0.0}


@pytest.mark.parametrize("on", [{"rand_augment_ops": 4}, {"color_jitter": 0.5}, {"erase_prob": 1.0}])
def test_augmentation_is_one_draw_for_all_frames(on: dict[str, float]) -> None:
    still = clip_of(frames=1).expand(5, -1, -1, -1)
    changed = 0
    for i in range(20):
        state = torch.get_rng_state()
        out = transforms.augment(still, **(OFF | on), generator=generator(2, i))  # type: ignore[arg-type]
        again = transforms.augment(still, **(OFF | on), generator=generator(2, i))  # type: ignore[arg-type]
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(out, again)
        assert out.shape == still.shape
        assert out.dtype == torch.uint8
        assert torch.equal(out, out[:1].expand_as(out))
        changed += not torch.equal(out, still)
    assert changed > 10


def test_all_off_changes_nothing() -> None:
    clip = clip_of()
    assert torch.equal(transforms.augment(clip, **OFF, generator=generator(0)), clip)  # type: ignore[arg-type]


def test_erasing_is_one_box_of_noise() -> None:
    black = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    shares = []
    for i in range(100):
        out = transforms.augment(black, **(OFF | {"erase_prob": 1.0}), generator=generator(3, i))  # type: ignore[arg-type]
        touched = (out[0] > 0).any(0)  # (H, W)
        rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
        box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert touched.sum() / box > 0.9
        shares.append(float(box) / 64**2)
    assert 0.015 < min(shares) < max(shares) < 0.36
