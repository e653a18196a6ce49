"""RandAugment against timm's own: operation by operation on PIL images, its strings, and in distribution."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment

from diffmae_video.data.rand_augment import FILL, OPERATIONS, RandAugment
from diffmae_video.errors import UserError
from diffmae_video.seeding import generator

N4 = "rand-m7-n4-mstd0.5-inc1"
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) with soft parts, sharp noise and its own range of each colour."""
    drawn = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 3, height)[:, None, None], np.linspace(0, 3, width)[None, :, None]
    waves = np.sin(rows * drawn.normal(size=3) + columns * drawn.normal(size=3) + drawn.normal(size=3))
    noise = drawn.normal(size=(height, width, 3)) * drawn.uniform(0, 0.5)
    pixels = (waves + noise) * drawn.uniform(20, 100, size=3) + drawn.uniform(60, 190, size=3)
    return pixels.clip(0, 255).astype(np.uint8)


def as_clip(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def timm_arguments(name: str, level: float, sign: int) -> tuple[Any, ...]:
    to_arguments = auto_augment.LEVEL_TO_ARG[name]
    with mock.patch.object(auto_augment, "_randomly_negate", lambda value: sign * value):
        return to_arguments(level, {}) if to_arguments else ()


def test_the_operations_are_timms_increasing_set_in_its_order() -> None:
    assert list(OPERATIONS) == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_each_operation_is_timms_on_pil_images(name: str, data: st.DataObject) -> None:
    """To 1 of 255 in every pixel, at any level and sign, for pictures of any size and in any layout of memory."""
    level = data.draw(st.floats(0, 10) | st.integers(0, 10).map(float), label="level")
    sign = data.draw(st.sampled_from([1, -1]), label="sign")
    height, width = data.draw(st.integers(3, 40), label="height"), data.draw(st.integers(3, 40), label="width")
    frames = np.stack([picture(data.draw(st.integers(0, 99)), height, width) for _ in range(2)])
    clip = as_clip(frames)
    ours = OPERATIONS[name](clip.contiguous() if data.draw(st.booleans()) else clip, level, sign)
    assert ours.dtype == torch.uint8
    assert torch.equal(clip, as_clip(frames))
    if name == "PosterizeIncreasing" and level == 10:  # PIL refuses to keep no bits at all
        assert not ours.any()
        return
    for frame, got in zip(frames, ours, strict=True):
        expected = auto_augment.NAME_TO_OP[name](
            Image.fromarray(frame),
            *timm_arguments(name, level, sign),
            fillcolor=(FILL,) * 3,
            resample=Image.Resampling.BILINEAR,
        )
        difference = np.abs(got.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= 1


@settings(max_examples=50, deadline=None)
@given(
    m=st.integers(0, 10),
    n=st.none() | st.integers(1, 9),
    mstd=st.none() | st.floats(0, 10).map(lambda value: round(value, 3)),
    p=st.none() | st.floats(0, 1).map(lambda value: round(value, 3)),
    order=st.randoms(use_true_random=False),
)
def test_a_string_means_what_it_means_to_timm(
    m: int, n: int | None, mstd: float | None, p: float | None, order: random.Random
) -> None:
    given_sections = {"m": m, "inc": 1, "n": n, "mstd": mstd, "p": p}
    sections = [f"{key}{value}" for key, value in given_sections.items() if value is not None]
    order.shuffle(sections)
    text = "-".join(["rand", *sections])
    ours, theirs = RandAugment.parse(text), auto_augment.rand_augment_transform(text)
    assert ours.num_ops == theirs.num_layers
    assert [op.name for op in theirs.ops] == list(OPERATIONS)
    assert {(op.magnitude, op.magnitude_std, op.prob) for op in theirs.ops} == {
        (ours.magnitude, ours.magnitude_std, ours.prob)
    }


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("m7-n4-mstd0.5-inc1", "must begin with rand-"),
        ("rand-m7-n4-mstd0.5", "must have inc1"),
        ("rand-m7-n4-mstd0.5-inc0", "must have inc1"),
        ("rand-n4-mstd0.5-inc1", "must have m"),
        ("rand-m21-n4-inc1", r"m must lie in \[0, 10\]"),
        ("rand-m7.5-inc1", "m must be a whole number"),
        ("rand-m7-n0-inc1", "n must be a whole number from 1"),
        ("rand-m7-n2.5-inc1", "n must be a whole number from 1"),
        ("rand-m7-mstd101-inc1", r"mstd must lie in \[0, 10\]"),
        ("rand-m7-p1.5-inc1", r"p must lie in \[0, 1\]"),
        ("rand-m7-m8-inc1", "m is given twice"),
        ("rand-m7-w0-inc1", "'w0' is none of the sections"),
        ("rand-m7-mmax20-inc1", "'mmax20' is none of the sections"),
        ("rand-m-7-inc1", "'m' is none of the sections"),
        ("rand-m7--inc1", "'' is none of the sections"),
        ("rand-m7-inc1 ", "'inc1 ' is none of the sections"),
        ("augmix-m3-w3", "must begin with rand-"),
    ],
)
def test_any_other_string_is_refused_in_one_line(text: str, rule: str) -> None:
    with pytest.raises(UserError, match=rule) as refused:
        RandAugment.parse(text)
    assert "\n" not in str(refused.value)
    assert f"rand_augment={text}: " in str(refused.value)
    assert "rand-m7-n4-mstd0.5-inc1" in str(refused.value)


def test_the_law_of_the_draws() -> None:
    """Operations uniform, each applied with p, levels normal about m, signs fair, all of them independent."""
    clips = [RandAugment.parse(N4).draw(generator(0, i)) for i in range(10_000)]
    drawn = [op for clip in clips for op in clip]
    counts = np.array([len(clip) for clip in clips])
    for used, share in enumerate((1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)):
        assert np.mean(counts == used) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(clips)))
    picked = np.array([sum(name == other for name, _, _ in drawn) for other in OPERATIONS])
    expected = len(drawn) / len(OPERATIONS)
    assert ((picked - expected) ** 2 / expected).sum() < 36  # chi2 of 14 degrees: p 0.001
    levels, signs = np.array([level for _, level, _ in drawn]), np.array([sign for _, _, sign in drawn])
    assert levels.mean() == pytest.approx(7, abs=0.02)
    assert levels.std() == pytest.approx(0.5, abs=0.02)
    assert abs(signs.mean()) < 0.03
    assert abs(np.corrcoef(levels, signs)[0, 1]) < 0.03
    twice = np.array([[clip[0][1], clip[1][1]] for clip in clips if len(clip) > 1])
    assert abs(np.corrcoef(twice.T)[0, 1]) < 0.05
    wide = RandAugment.parse("rand-m9-n9-mstd10-p1-inc1")
    ends = [level for i in range(100) for _, level, _ in wide.draw(generator(1, i))]
    assert (min(ends), max(ends)) == (0, 10)
    assert all(level == 3 for _, level, _ in RandAugment.parse("rand-m3-inc1").draw(generator(2)))
    assert all(len(RandAugment.parse("rand-m3-n5-p1-inc1").draw(generator(3, i))) == 5 for i in range(50))
    assert not any(RandAugment.parse("rand-m3-n5-p0-inc1").draw(generator(3, i)) for i in range(50))


def test_it_changes_pictures_as_much_as_timms() -> None:
    """Over 4,000 draws of each: operations a clip, clips without any, invented pixels and mean change within 3 %."""
    ours, theirs = _our_figures(N4, 4000), _timm_figures(N4, 4000)
    for name, value in ours.items():
        slack = 0.03 if name != "share without any" else 0.12  # 4,000 draws at 1/16: 6 % deviation of its own
        assert value == pytest.approx(theirs[name], rel=slack), name


def _figures(rows: list[tuple[int, float, float]]) -> dict[str, float]:
    used, invented, change = np.array(rows).T
    return {
        "operations": float(used.mean()),
        "share without any": float((used == 0).mean()),
        "share invented": float(invented.mean()),
        "change": float(change.mean()),
    }


def _our_figures(text: str, count: int) -> dict[str, float]:
    policy, rows = RandAugment.parse(text), []
    frame = as_clip(picture(5, 24, 32)[None])
    for i in range(count):
        clip, marker = frame, torch.full_like(frame, 255)
        drawn = policy.draw(generator(4, i))
        for name, level, sign in drawn:
            clip = OPERATIONS[name](clip, level, sign)
            marker = OPERATIONS[name](marker, level, sign) if name in GEOMETRIC else marker
        assert torch.equal(policy(frame, generator(4, i)), clip)
        change = float((clip.int() - frame.int()).abs().float().mean())
        rows.append((len(drawn), float((marker[:, 0] != 255).float().mean()), change))
    return _figures(rows)


def _timm_figures(text: str, count: int) -> dict[str, float]:
    """The same of timm's class; its operations are wrapped to carry a white picture along, whose fill is counted."""
    frame = picture(5, 24, 32)
    policy = auto_augment.rand_augment_transform(text, {"interpolation": Image.Resampling.BILINEAR})
    used: list[str] = []

    def carry(name: str, function: Callable[..., Image.Image]) -> Callable[..., tuple[Image.Image, Image.Image]]:
        def both(pair: tuple[Image.Image, Image.Image], *args: Any, **kwargs: Any) -> tuple[Image.Image, Image.Image]:
            used.append(name)
            image, marker = pair
            return function(image, *args, **kwargs), function(marker, *args, **kwargs) if name in GEOMETRIC else marker

        return both

    for op in policy.ops:
        op.aug_fn = carry(op.name, op.aug_fn)
    rows = []
    with _seeded(6):
        for _ in range(count):
            used.clear()
            start = (Image.fromarray(frame), Image.new("RGB", (32, 24), (255, 255, 255)))
            image, marker = policy(start)
            change = np.abs(np.asarray(image).astype(int) - frame.astype(int)).mean()
            rows.append((len(used), float((np.asarray(marker)[..., 0] != 255).mean()), float(change)))
    return _figures(rows)


@contextmanager
def _seeded(seed: int) -> Any:
    """timm draws from Python's and NumPy's global generators: seed both, and put them back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def test_it_is_one_draw_for_all_frames_and_of_the_generator_alone() -> None:
    policy = RandAugment.parse(N4)
    still = as_clip(picture(7, 30, 40)[None]).expand(4, -1, -1, -1)
    changed = 0
    for i in range(40):
        state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        out = policy(still, generator(8, i))
        assert (torch.get_rng_state() == state[0]).all()
        assert (random.getstate(), np.random.get_state()[1].tolist()) == state[1:]
        assert torch.equal(out, policy(still, generator(8, i)))
        assert out.shape == still.shape
        assert torch.equal(out, out[:1].expand_as(out))
        changed += not torch.equal(out, still)
    assert 30 < changed < 40
