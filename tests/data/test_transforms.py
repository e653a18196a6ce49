"""Crops, jitter and erasing against torchvision's and timm's own and against their definitions."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchvision
from packaging.version import Version
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

from diffmae_video.data import transforms
from diffmae_video.data.normalize import normalize
from diffmae_video.seeding import generator


def clip_of(height: int = 36, width: int = 48, frames: int = 4) -> torch.Tensor:
    return torch.randint(256, (frames, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("size", [(20, 20), (64, 50), (36, 48)])
def test_resize_is_torchvisions(layout: str, size: tuple[int, int]) -> None:
    clip = clip_of()
    if layout == "channels_last":
        clip = clip.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    expected = v2.functional.resize(clip, list(size), antialias=True)
    # Older torchvision goes by way of floats on AVX-512 processors, which round a tie the other way now and then.
    tolerance = 0 if Version(torchvision.__version__) >= Version("0.29") else 1
    torch.testing.assert_close(transforms.resize(clip, *size), expected, rtol=0, atol=tolerance)


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


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MAE_ST = {"mean": (0.45,) * 3, "std": (0.225,) * 3}


def test_jitter_is_one_draw_for_all_frames() -> None:
    still = clip_of(frames=1).expand(5, -1, -1, -1)
    changed = 0
    for i in range(20):
        state = torch.get_rng_state()
        out = transforms.jitter(still, strength=0.5, generator=generator(2, i))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(out, transforms.jitter(still, strength=0.5, generator=generator(2, i)))
        assert torch.equal(out, out[:1].expand_as(out))
        changed += not torch.equal(out, still)
    assert changed > 10


def test_all_off_changes_nothing_and_draws_nothing() -> None:
    clip, drawn = clip_of(), generator(0)
    state = drawn.get_state()
    out = transforms.erase(transforms.jitter(clip, strength=0, generator=drawn), prob=0, generator=drawn, **MAE_ST)
    assert torch.equal(out, clip)
    assert torch.equal(drawn.get_state(), state)


def erased_box(out: torch.Tensor, clip: torch.Tensor) -> tuple[slice, slice] | None:
    """Rows and columns of the rectangle that was changed in any frame."""
    touched = (out != clip).any(0).any(0)  # (H, W)
    if not touched.any():
        return None
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@pytest.mark.parametrize("units", [MAE_ST, IMAGENET])
def test_an_erased_box_is_new_normal_noise_in_every_frame(units: dict[str, tuple[float, ...]]) -> None:
    """N(0, 1) after normalising, ended at black and white: mean and deviation are those of that clipped law."""
    clip = torch.full((6, 3, 48, 48), 77, dtype=torch.uint8)
    noise = []
    for i in range(60):
        before = clip.clone()
        out = transforms.erase(clip, prob=1.0, generator=generator(3, i), **units)
        assert torch.equal(clip, before)
        box = erased_box(out, clip)
        assert box is not None
        inside = out[:, :, box[0], box[1]]
        for frame in range(6):  # the same box in all, other noise in each
            assert (inside[frame] != 77).float().mean() > 0.97
            assert (inside[frame] != inside[frame - 1]).float().mean() > 0.9
        noise.append(normalize(inside, **units).movedim(1, -1).reshape(-1, 3))
    values = torch.cat(noise).double().numpy()
    for channel in range(3):
        mean, std = units["mean"][channel], units["std"][channel]
        law = np.random.default_rng(0).normal(size=400_000).clip(-mean / std, (1 - mean) / std)
        assert values[:, channel].mean() == pytest.approx(law.mean(), abs=0.01)
        assert values[:, channel].std() == pytest.approx(law.std(), abs=0.01)
        assert abs(values[:, channel].mean()) < 0.03
        assert values[:, channel].std() > 0.95
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.02


def test_boxes_are_erased_as_often_and_as_large_as_timms() -> None:
    """Shares of clips, areas, ratios and places beside timm's ``RandomErasing``, with its clipping of none."""
    clip = torch.zeros(1, 3, 60, 80, dtype=torch.uint8)
    ours = [
        erased_box(transforms.erase(clip, prob=0.25, generator=generator(4, i), **MAE_ST), clip) for i in range(6000)
    ]
    theirs = []
    random.seed(0)
    erasing = RandomErasing(0.25, mode="pixel", device="cpu")
    for _ in range(6000):
        picture = torch.zeros(3, 60, 80)
        theirs.append(erased_box(erasing(picture)[None], torch.zeros(1, 3, 60, 80)))
    counts = [sum(box is not None for box in boxes) for boxes in (ours, theirs)]
    assert abs(counts[0] - 1500) < 4 * np.sqrt(6000 * 0.25 * 0.75)
    corners = [
        np.array([(b[0].start, b[1].start, b[0].stop - b[0].start, b[1].stop - b[1].start) for b in boxes if b])
        for boxes in (ours, theirs)
    ]
    figures = (
        lambda b: b[:, 2] * b[:, 3] / (60 * 80),
        lambda b: np.log(b[:, 2] / b[:, 3]),
        lambda b: b[:, 0] + b[:, 2] / 2,
        lambda b: b[:, 1] + b[:, 3] / 2,
    )
    for figure in figures:
        a, b = figure(corners[0]), figure(corners[1])
        assert abs(a.mean() - b.mean()) < 4 * np.hypot(a.std() / np.sqrt(len(a)), b.std() / np.sqrt(len(b)))
        assert a.std() == pytest.approx(b.std(), rel=0.1)
