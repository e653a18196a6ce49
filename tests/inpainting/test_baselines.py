"""The simple fillers against obvious loops, and the measures against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from diffmae_video.inpainting.baselines import InpaintMetrics, Measure, fill_mean, fill_nearest, hidden_pixels
from diffmae_video.model import Mask, draw_masks

GRID, TUBELET, PATCH = (4, 3, 3), 2, 4
CUT = {"tubelet": TUBELET, "patch_size": PATCH}


@pytest.fixture
def video() -> Tensor:
    return torch.rand(3, 8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def masks(kind: str) -> Mask:
    return draw_masks(kind, GRID, ratio=0.7, generators=[torch.Generator().manual_seed(i) for i in range(3)])


def measure(original: Tensor, filled: Tensor, hidden: Tensor) -> InpaintMetrics:
    measured = Measure()
    measured.add(original, filled, hidden)
    return measured.quality()


def cube(t: int, y: int, x: int) -> tuple[slice, slice, slice, slice]:
    """Where a cube lies in a clip (frames, 3, height, width)."""
    rows, columns = slice(y * PATCH, (y + 1) * PATCH), slice(x * PATCH, (x + 1) * PATCH)
    return slice(t * TUBELET, (t + 1) * TUBELET), slice(None), rows, columns


def places(index: Tensor) -> list[tuple[int, int, int]]:
    return [(i // 9, i // 3 % 3, i % 3) for i in index.tolist()]


@pytest.mark.parametrize("kind", ["random", "tube", "frame"])
def test_hidden_pixels_are_those_of_the_hidden_cubes(kind: str, video: Tensor) -> None:
    mask = masks(kind)
    hidden = hidden_pixels(mask.hidden(), GRID, **CUT)
    for clip, index in zip(hidden, mask.masked, strict=True):
        expected = torch.zeros(8, 3, 12, 12, dtype=torch.bool)
        for place in places(index):
            expected[cube(*place)] = True
        assert torch.equal(clip, expected[:, 0])


@pytest.mark.parametrize("kind", ["random", "tube", "frame"])
def test_mean_fills_with_the_mean_of_what_is_visible(kind: str, video: Tensor) -> None:
    mask = masks(kind)
    filled = fill_mean(video, mask, **CUT)
    hidden = hidden_pixels(mask.hidden(), GRID, **CUT)
    for clip, other, where in zip(video, filled, hidden, strict=True):
        color = torch.stack([clip[:, c][~where].mean() for c in range(3)])
        expected = torch.where(where[:, None], color.view(3, 1, 1), clip)
        torch.testing.assert_close(other, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["random", "tube", "frame"])
def test_nearest_takes_the_same_place_first_then_the_nearest_place(kind: str, video: Tensor) -> None:
    mask = masks(kind)
    filled = fill_nearest(video, mask, **CUT)
    for clip, other, visible, masked in zip(video, filled, mask.visible, mask.masked, strict=True):
        expected = clip.clone()
        for t, y, x in places(masked):
            ranked = sorted(places(visible), key=lambda v: ((v[1] - y) ** 2 + (v[2] - x) ** 2, abs(v[0] - t)))
            expected[cube(t, y, x)] = clip[cube(*ranked[0])]
        assert torch.equal(other, expected)


def test_nearest_copies_a_still_film_exactly_where_its_places_were_seen() -> None:
    still = torch.rand(1, 1, 3, 12, 12, generator=torch.Generator().manual_seed(1)).expand(1, 8, -1, -1, -1)
    mask = draw_masks("frame", GRID, ratio=0.5, generators=[torch.Generator().manual_seed(0)])
    assert torch.equal(fill_nearest(still, mask, **CUT), still)


def test_psnr_of_a_constant_error_is_its_closed_form(video: Tensor) -> None:
    hidden = hidden_pixels(masks("random").hidden(), GRID, **CUT)
    shifted = torch.where(hidden[:, :, None], video + 0.1, video)
    assert measure(video, shifted, hidden).psnr == pytest.approx(20.0, abs=1e-3)
    # Visible pixels don't count.
    elsewhere = torch.where(hidden[:, :, None], video + 0.1, video - 0.5)
    assert measure(video, elsewhere, hidden).psnr == pytest.approx(20.0, abs=1e-3)


def test_psnr_is_averaged_over_clips_not_over_errors(video: Tensor) -> None:
    hidden = hidden_pixels(masks("random").hidden(), GRID, **CUT)
    errors = torch.tensor([0.1, 0.01, 0.2]).view(3, 1, 1, 1, 1)
    expected = sum(-20 * math.log10(e) for e in (0.1, 0.01, 0.2)) / 3
    assert measure(video, video + errors, hidden).psnr == pytest.approx(expected, abs=1e-3)


def test_ssim_of_everything_hidden_is_scikit_images(video: Tensor) -> None:
    other = (video + 0.2 * torch.rand(video.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    hidden = torch.ones(3, 8, 12, 12, dtype=torch.bool)
    maps = [
        structural_similarity(a.numpy(), b.numpy(), data_range=1.0, channel_axis=0, full=True)[1].mean()
        for a, b in zip(video.double().flatten(0, 1), other.double().flatten(0, 1), strict=True)
    ]
    assert measure(video, other, hidden).ssim == pytest.approx(sum(maps) / len(maps), abs=1e-6)
    assert measure(video, video, hidden).ssim == pytest.approx(1.0, abs=1e-6)


def test_clips_measured_in_parts_are_clips_measured_at_once(video: Tensor) -> None:
    other = (video + 0.2 * torch.rand(video.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    hidden = hidden_pixels(masks("random").hidden(), GRID, **CUT)
    hidden[0, :, :7] = False  # clips don't hide equally much
    parts = Measure()
    parts.add(video[:1], other[:1], torch.zeros_like(hidden[:1]))  # nothing hidden: nothing to measure
    for i in range(3):
        parts.add(video[i : i + 1], other[i : i + 1], hidden[i : i + 1])
    assert parts.quality() == pytest.approx(measure(video, other, hidden), abs=1e-6)
