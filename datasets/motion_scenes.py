"""Pictures and scenes of the embedded data set: digits over photographs, or photographs under a moving camera.

The class of a scene is the direction in which its subject moves: its digits, which all move alike, or the photograph.
Everything that a *single* frame shows is independent of that direction: the subject starts at a uniform position on
a torus, so its position is uniform at every time, whatever the direction. Only a comparison of frames shows the class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits

from diffmae_video.sample_media import wheel_path

Array = NDArray[np.float32]

# Angle k·45°, counted clockwise from "right" because y points down.
CLASSES = ("right", "down_right", "down", "down_left", "left", "up_left", "up", "up_right")

# Files inside the wheels (nothing is downloaded), split by content: no photograph of one list shows the subject of one
# of the other list. The right half of the motorcycle stereo pair is in neither.
PHOTOGRAPHS = {
    "train": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/camera.png",
        "skimage/data/coffee.png",
        "skimage/data/coins.png",
        "skimage/data/grass.png",
        "skimage/data/ihc.png",
        "skimage/data/moon.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/page.png",
        "skimage/data/retina.jpg",
        "sklearn/datasets/images/china.jpg",
    ),
    "val": (
        "skimage/data/chelsea.png",
        "skimage/data/gravel.png",
        "skimage/data/rocket.jpg",
        "skimage/data/text.png",
        "sklearn/datasets/images/flower.jpg",
    ),
}
SPLITS = tuple(PHOTOGRAPHS)

PHOTOGRAPH_ONLY = 0.3  # part of the scenes without digits: there the photograph itself is the subject
NUM_DIGITS = 2  # of the other scenes; they move alike
SUBJECT_SPEED = (0.03, 0.07)  # picture sides per frame: 1.2 to 2.8 pixels of 40
DRIFT_SPEED = 0.003  # of the background behind digits, in any direction, at most
DIGIT_SIDE = (0.34, 0.50)  # of the picture's side
ZOOM = (1.0, 5.0)  # shorter side of the photograph in picture sides: far away ... close


@dataclass(frozen=True)
class Pictures:
    """Photographs and digits of one split."""

    photographs: tuple[Array, ...]  # each (height, width, 3), 0..1
    digits: Array  # (n, 8, 8), 0..1


def load_pictures(split: str) -> Pictures:
    """The photographs and digits of ``split``; every fifth digit is a validation digit."""
    digits = load_digits().images.astype(np.float32) / 16
    held_out = np.arange(len(digits)) % 5 == 4
    photographs = [Image.open(wheel_path(name)).convert("RGB") for name in PHOTOGRAPHS[split]]
    return Pictures(
        photographs=tuple(_unit(picture) for picture in photographs),
        digits=digits[held_out if split == "val" else ~held_out],
    )


def render_scene(
    pictures: Pictures, *, label: int, size: int, num_frames: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one scene.

    Args:
        pictures: of the split.
        label: index into ``CLASSES``, the direction of the subject.
        size: side of the square frames in pixels.
        num_frames: length of the scene.
        rng: generator of all random draws.

    Returns:
        uint8 frames (num_frames, size, size, 3).
    """
    subject_step = _velocity(label * np.pi / 4, rng.uniform(*SUBJECT_SPEED))
    drift_step = _velocity(rng.uniform(0, 2 * np.pi), rng.uniform(0, DRIFT_SPEED))
    num_digits = 0 if rng.random() < PHOTOGRAPH_ONLY else NUM_DIGITS
    camera_step = drift_step if num_digits else subject_step
    frames = _photograph(pictures, camera_step, size=size, num_frames=num_frames, rng=rng)
    for _ in range(num_digits):
        frames = _paint_digit(frames, pictures, subject_step, rng=rng)
    return np.round(frames.clip(0, 1) * 255).astype(np.uint8)


def _velocity(angle: float, speed: float) -> Array:
    return np.array([np.sin(angle), np.cos(angle)], dtype=np.float32) * np.float32(speed)  # (y, x)


def _photograph(pictures: Pictures, step: Array, *, size: int, num_frames: int, rng: np.random.Generator) -> Array:
    """A window gliding over a photograph whose content moves by ``step`` picture sides a frame.

    The photograph is shrunk to the window's resolution first (with anti-aliasing) and moved afterwards.
    It continues beyond its borders as its mirror image, which makes the plane a torus without seams.
    """
    photograph = pictures.photographs[rng.integers(len(pictures.photographs))]
    photograph = _shrink(photograph, round(size * float(np.exp(rng.uniform(*np.log(ZOOM))))))
    photograph = _recolor(photograph, rng)
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.004) * np.arange(num_frames)
    growth = np.exp(rng.normal(0, 0.004) * np.arange(num_frames))
    start = rng.uniform(0, 2, size=2) * photograph.shape[:2]

    window = np.arange(size) - (size - 1) / 2
    path = np.arange(num_frames)[:, None] * step * size  # (T, 2)
    y = window[None, :, None] - path[:, 0, None, None]  # (T, H, 1)
    x = window[None, None, :] - path[:, 1, None, None]  # (T, 1, W)
    cosine, sine = (growth * np.cos(turn))[:, None, None], (growth * np.sin(turn))[:, None, None]
    where = np.stack([start[0] + cosine * y + sine * x, start[1] - sine * y + cosine * x])
    channels = [map_coordinates(photograph[..., c], where, order=1, mode="reflect") for c in range(3)]
    return np.stack(channels, axis=-1)  # (T, H, W, 3)


def _shrink(photograph: Array, short_side: int) -> Array:
    height, width = photograph.shape[:2]
    scale = short_side / min(height, width)
    picture = Image.fromarray(np.round(photograph * 255).astype(np.uint8))
    resized = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    return _unit(resized)


def _unit(picture: Image.Image) -> Array:
    """Pixels in 0..1."""
    return np.divide(np.asarray(picture), 255, dtype=np.float32)


def _recolor(photograph: Array, rng: np.random.Generator) -> Array:
    """Shuffle the channels, change their gains, the gamma and the contrast: a dozen photographs are few."""
    channels = rng.permutation(3)
    gains = rng.uniform(0.75, 1.25, size=3).astype(np.float32)
    gamma, contrast = rng.uniform(0.7, 1.4), rng.uniform(0.7, 1.2)
    changed = (photograph[..., channels] * gains).clip(0, 1) ** np.float32(gamma)
    return ((changed - 0.5) * np.float32(contrast) + 0.5).clip(0, 1)


def _paint_digit(frames: Array, pictures: Pictures, step: Array, *, rng: np.random.Generator) -> Array:
    """Paint a digit that moves by ``step`` picture sides a frame and re-enters where it left."""
    num_frames, size = frames.shape[:2]
    digit = pictures.digits[rng.integers(len(pictures.digits))]
    scale = 8 / (rng.uniform(*DIGIT_SIDE) * size)  # digit pixels per picture pixel
    start = rng.uniform(0, size, size=2)
    turn = rng.uniform(-0.4, 0.4) + rng.normal(0, 0.02) * np.arange(num_frames)
    color = _contrasting_color(frames[0], rng)

    centre = start + np.arange(num_frames)[:, None] * step * size  # (T, 2)
    y, x = ((np.arange(size) - centre[:, i, None] + size / 2) % size - size / 2 for i in (0, 1))  # (T, size)
    y, x = y[:, :, None], x[:, None, :]
    cosine, sine = np.cos(turn)[:, None, None] * scale, np.sin(turn)[:, None, None] * scale
    where = np.stack([cosine * y + sine * x, cosine * x - sine * y]) + 3.5
    alpha = map_coordinates(digit, where, order=1, mode="constant", cval=0.0)  # (T, H, W)
    alpha = (1.5 * alpha).clip(0, 1)[..., None]
    return (1 - alpha) * frames + alpha * color


def _contrasting_color(frame: Array, rng: np.random.Generator) -> Array:
    """A tinted light colour over dark pictures, a tinted dark one over light pictures."""
    tint = rng.uniform(0, 0.4, size=3).astype(np.float32)
    return 1 - tint if frame.mean() < 0.5 else tint
