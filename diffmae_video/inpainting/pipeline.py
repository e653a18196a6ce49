"""Inpaint a film with a model and with two simple fillers, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffmae_video.data.video_io import VideoWriter, open_writer
from diffmae_video.diffusion import DiffMAE
from diffmae_video.inpainting import inpaint, pixel_limits
from diffmae_video.inpainting.baselines import InpaintMetrics, Measure, fill_mean, fill_nearest, hidden_pixels
from diffmae_video.inpainting.figures import paint_hidden
from diffmae_video.inpainting.film import ClipSequence, read_windows
from diffmae_video.model import Mask
from diffmae_video.seeding import generator

SHOWN_SIDE = 128  # pixels: small clips are enlarged to at least this in comparison.mp4
FRAMES_AT_ONCE = 128  # of all clips in work: what bounds the memory
CRF = 12
FILLINGS = ("mean colour", "nearest cube", "one step", "sample")
SIDE_BY_SIDE = ("original", "seen", "nearest cube", "sample")  # of comparison.mp4


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled, and on pixels of which mean and deviation."""

    num_steps: int
    mean: Sequence[float]
    std: Sequence[float]
    sampler: str = "ddim"
    eta: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Filled:
    """What filling a film gives beside the videos: the measures, and one clip to look at."""

    qualities: dict[str, InpaintMetrics]
    rows: dict[str, Tensor]  # of the clip: name to frames (T, 3, size, size) float in 0...1
    seconds: list[float]  # when the clip's frames are shown


def inpaint_film(
    model: DiffMAE, film: ClipSequence, hidden: Tensor, sampling: Sampling, *, folder: Path, shown: int = 0
) -> Filled:
    """Fill a film a few windows at a time, and write it.

    ``folder`` gets inpainted.mp4 (the sample) and comparison.mp4 (original, seen, nearest cube, sample), with the
    film's frames at the film's times.

    Args:
        model: a trained model, in eval mode, on its device.
        film: see ``open_film``.
        hidden: (W, s, cubes) bool, the hidden cubes of each clip.
        sampling: how.
        folder: there already.
        shown: the clip that is kept to look at, counted window by window from 0.
    """
    _, clips, frames = film.places.shape
    at_once = max(1, FRAMES_AT_ONCE // (clips * frames))
    window, clip = divmod(shown, clips)
    measures = {name: Measure() for name in FILLINGS}
    kept: dict[str, Tensor] = {}
    with ExitStack() as files, tqdm(total=len(film), desc="inpaint", unit="frame", delay=1) as bar:
        writers = [
            files.enter_context(open_writer(folder / name, fps=film.fps, crf=CRF))
            for name in ("inpainted.mp4", "comparison.mp4")
        ]
        for part, pixels in read_windows(film, at_once=at_once):
            rows = fill_windows(model, pixels, hidden[part], sampling, first=part.start)
            cubes = _hidden(model, hidden[part])  # (w, s, T, size, size)
            new = torch.from_numpy(film.fresh[part])[..., None, None]
            for name, measure in measures.items():
                original, filled, where = (x.flatten(0, 1) for x in (rows["original"], rows[name], cubes & new))
                measure.add(original, filled, where)
            for writer, names in zip(writers, (("sample",), SIDE_BY_SIDE), strict=True):
                _write(writer, [rows[name] for name in names], film, part)
            if part.start <= window < part.stop:
                kept = {name: row[window - part.start, clip] for name, row in rows.items() if name != "mean colour"}
            bar.update(int(new.sum()))
    return Filled(
        {name: measure.quality() for name, measure in measures.items()},
        kept,
        film.seconds[film.numbers[window, clip]].tolist(),
    )


def fill_windows(
    model: DiffMAE, pixels: Tensor, hidden: Tensor, sampling: Sampling, *, first: int
) -> dict[str, Tensor]:
    """Fill clips (w, s, T, 3, size, size) uint8 by the mean colour, the nearest cube, one step, and a sample.

    "one step" is the model's first prediction from pure noise: its guess at the mean of all that could be hidden,
    which squared error favours; a sample is one of the possibilities. Clips that hide nothing stay as they are.

    The clips of a window alternate in time, so they are sampled from the same noise: what fills a hole doesn't flicker
    from one frame to the next.

    Returns:
        "original", "seen", and the four fillings: float in 0...1, of the shape of ``pixels``, on the CPU.
    """
    video = pixels.float() / 255
    one_step = Sampling(num_steps=1, mean=sampling.mean, std=sampling.std, seed=sampling.seed)
    cut = {"tubelet": model.encoder.tubelet, "patch_size": model.encoder.patch_size}
    rows = {"original": video, "seen": paint_hidden(video, _hidden(model, hidden))}
    rows |= {name: video.clone() for name in FILLINGS}
    for clip in range(video.shape[1]):
        counts = hidden[:, clip].sum(1)
        for count in counts.unique().tolist():
            if not count:
                continue
            which = (counts == count).nonzero()[:, 0]  # a batch's clips hide equally many cubes
            some, mask = video[which, clip], Mask.from_bool(hidden[which, clip])
            rows["mean colour"][which, clip] = fill_mean(some, mask, **cut)
            rows["nearest cube"][which, clip] = fill_nearest(some, mask, **cut)
            key = (first, count)
            rows["one step"][which, clip] = _sample(model, some, mask, one_step, key=key)
            rows["sample"][which, clip] = _sample(model, some, mask, sampling, key=key)
    return rows


def _hidden(model: DiffMAE, hidden: Tensor) -> Tensor:
    encoder = model.encoder
    return hidden_pixels(hidden, encoder.grid, tubelet=encoder.tubelet, patch_size=encoder.patch_size)


def _sample(model: DiffMAE, video: Tensor, mask: Mask, sampling: Sampling, *, key: tuple[int, ...]) -> Tensor:
    """Clips (B, T, 3, size, size) in 0...1 with their hidden cubes sampled on the model's device; back on the CPU."""
    device = next(model.parameters()).device
    shift, scale = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (sampling.mean, sampling.std))
    filled = inpaint(
        model,
        (video.to(device) - shift) / scale,
        mask.to(device),
        num_steps=sampling.num_steps,
        sampler=sampling.sampler,
        eta=sampling.eta,
        generator=generator(sampling.seed, "inpaint noise", *key, device=device),
        limits=pixel_limits(sampling.mean, sampling.std),
    )
    return (filled.float() * scale + shift).clamp(0, 1).cpu()


def _write(writer: VideoWriter, rows: list[Tensor], film: ClipSequence, part: slice) -> None:
    """Write the windows' new frames in the film's order, the rows side by side."""
    fresh, numbers = film.fresh[part].reshape(-1), film.numbers[part].reshape(-1)
    side = rows[0].shape[-1]
    scale = max(1, SHOWN_SIDE // side) if len(rows) > 1 else 1
    for place in sorted(np.flatnonzero(fresh), key=lambda place: numbers[place]):
        beside = torch.cat([row.flatten(0, 2)[place] for row in rows], dim=-1)  # (3, size, rows * size)
        large = beside.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        frame = (large.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        writer.write(_even(frame), second=float(film.seconds[numbers[place]]))


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame (height, width, 3) cut to an even height and width."""
    return np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
