"""Inpaint a film with a model and with two simple fillers, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffmae_video.diffusion import DiffMAE, inpaint, pixel_limits
from diffmae_video.diffusion.holes import box_hole, centre_hole, mask_of_hole, read_hole
from diffmae_video.errors import UserError
from diffmae_video.model import MASK_KINDS, Mask, draw_masks
from diffmae_video.report.figures import inpainting_figure, paint_hidden
from diffmae_video.report.fillers import Quality, fill_mean, fill_nearest, hidden_pixels, measure
from diffmae_video.report.video import Film, write_video
from diffmae_video.seeding import generator

MASK_FORMS = (
    f"{'|'.join(MASK_KINDS)}:RATIO, centre, box:x,y,w,h,t0,t1, or a picture or video that is white where hidden"
)
SHOWN_SIDE = 128  # pixels: small clips are enlarged to at least this in comparison.mp4


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled."""

    num_steps: int
    sampler: str = "ddim"
    eta: float = 0.0
    seed: int = 0
    batch_size: int = 16


def parse_mask(text: str, model: DiffMAE, *, num_clips: int, seed: int) -> Mask:
    """The masks of ``num_clips`` clips from their description, one of ``MASK_FORMS``.

    Random masks differ from clip to clip; the others hide the same of every clip.

    Raises:
        UserError: the description is none of the forms, or hides all or nothing.
    """
    encoder = model.encoder
    kind, _, detail = text.partition(":")
    if kind in MASK_KINDS:
        generators = [generator(seed, "inpaint mask", clip) for clip in range(num_clips)]
        return draw_masks(kind, encoder.grid, ratio=_ratio(text, detail), generators=generators)
    if text == "centre":
        hole = centre_hole(encoder.clip_size)
    elif kind == "box":
        hole = box_hole(encoder.clip_size, **_box(text, detail))
    elif Path(text).exists():
        hole = read_hole(text, encoder.clip_size)
    else:
        raise UserError(f"mask {text!r} is no file and none of the forms; give {MASK_FORMS}")
    return mask_of_hole(hole, tubelet=encoder.tubelet, patch_size=encoder.patch_size, batch=num_clips)


def fill_film(
    model: DiffMAE, film: Film, mask: Mask, sampling: Sampling, *, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Tensor]:
    """Fill the hidden cubes of every clip: by the mean colour, the nearest cube, one step, and a sample.

    "one step" is the model's first prediction from pure noise: its guess at the mean of all that could be hidden,
    which squared error favours; a sample is one of the possibilities.

    Returns:
        name to clips (K, frames, 3, height, width) float in 0...1.
    """
    video = film.clips.float() / 255
    cut = {"tubelet": model.encoder.tubelet, "patch_size": model.encoder.patch_size}
    one_step = Sampling(num_steps=1, seed=sampling.seed, batch_size=sampling.batch_size)
    return {
        "mean colour": fill_mean(video, mask, **cut),
        "nearest cube": fill_nearest(video, mask, **cut),
        "one step": _sample(model, video, mask, one_step, mean=mean, std=std),
        "sample": _sample(model, video, mask, sampling, mean=mean, std=std),
    }


def measure_all(film: Film, filled: dict[str, Tensor], model: DiffMAE, mask: Mask) -> dict[str, Quality]:
    """Quality of each filling over the hidden pixels."""
    video = film.clips.float() / 255
    hidden = hidden_pixels(video, mask, tubelet=model.encoder.tubelet, patch_size=model.encoder.patch_size)
    return {name: measure(video, other, hidden) for name, other in filled.items()}


def write_films(folder: Path, film: Film, filled: dict[str, Tensor], model: DiffMAE, mask: Mask) -> list[Path]:
    """Write ``inpainted.mp4`` (the sample) and ``comparison.mp4`` (original, seen, nearest cube, sample)."""
    rows = _rows(film, filled, model, mask)
    scale = max(1, SHOWN_SIDE // film.clips.shape[-1])
    beside = torch.cat([_enlarge(rows[name], scale) for name in rows if name != "one step"], dim=-1)
    paths = {"inpainted.mp4": filled["sample"], "comparison.mp4": beside}
    for name, clips in paths.items():
        frames = (clips.clamp(0, 1) * 255).round().to(torch.uint8).flatten(0, 1).permute(0, 2, 3, 1)
        write_video(folder / name, _even(frames.numpy()), fps=film.fps, crf=12)
    return [folder / name for name in paths]


def draw_clip(
    path: Path, film: Film, filled: dict[str, Tensor], model: DiffMAE, mask: Mask, *, clip: int, title: str
) -> None:
    """Draw one clip's original, what the model saw, and the fillings."""
    rows = {name: clips[clip] for name, clips in _rows(film, filled, model, mask).items()}
    inpainting_figure(path, rows, title=title, seconds=film.seconds[clip].tolist())


def quality_table(qualities: dict[str, Quality]) -> dict[str, dict[str, float]]:
    """Plain numbers for JSON."""
    return {name: quality._asdict() for name, quality in qualities.items()}


def _sample(
    model: DiffMAE, video: Tensor, mask: Mask, sampling: Sampling, *, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    shift, scale = (video.new_tensor(values).view(-1, 1, 1) for values in (mean, std))
    parts = []
    for start in range(0, len(video), sampling.batch_size):
        part = slice(start, start + sampling.batch_size)
        filled = inpaint(
            model,
            (video[part] - shift) / scale,
            Mask(mask.visible[part], mask.masked[part]),
            num_steps=sampling.num_steps,
            sampler=sampling.sampler,
            eta=sampling.eta,
            generator=generator(sampling.seed, "inpaint noise", start),
            limits=pixel_limits(mean, std),
        )
        parts.append((filled * scale + shift).clamp(0, 1))
    return torch.cat(parts)


def _rows(film: Film, filled: dict[str, Tensor], model: DiffMAE, mask: Mask) -> dict[str, Tensor]:
    video = film.clips.float() / 255
    hidden = hidden_pixels(video, mask, tubelet=model.encoder.tubelet, patch_size=model.encoder.patch_size)
    shown = {name: filled[name] for name in ("nearest cube", "one step", "sample")}
    return {"original": video, "seen": paint_hidden(video, hidden), **shown}


def _enlarge(clips: Tensor, scale: int) -> Tensor:
    return clips.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


def _even(frames: np.ndarray) -> np.ndarray:
    """Frames (T, height, width, 3) cut to an even height and width."""
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]


def _ratio(text: str, detail: str) -> float:
    try:
        return float(detail)
    except ValueError:
        raise UserError(f"mask {text!r} has no ratio; write for example {text.partition(':')[0]}:0.75") from None


def _box(text: str, detail: str) -> dict[str, int]:
    numbers = detail.split(",")
    names = ("x", "y", "w", "h", "t0", "t1")
    if len(numbers) != len(names) or not all(number.strip().lstrip("-").isdigit() for number in numbers):
        raise UserError(f"mask {text!r} must be box:x,y,w,h,t0,t1 in whole pixels and frames, as box:8,8,16,16,0,8")
    return {name: int(number) for name, number in zip(names, numbers, strict=True)}
