"""Draw docs/figures/method.png: noise levels, predictions and a sample of one clip, by a pre-trained model.

python docs/figures/method.py --run runs/motion_tiny --video datasets/motion/val/000003.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from diffmae_video.diffusion import DiffMAE, Step
from diffmae_video.diffusion.objective import DiffusionObjective
from diffmae_video.diffusion.process import add_noise
from diffmae_video.inpainting import inpaint, pixel_limits
from diffmae_video.inpainting.film import open_film, read_windows
from diffmae_video.model import Mask, draw_mask
from diffmae_video.model.patches import put, take, unpatchify
from diffmae_video.seeding import generator
from diffmae_video.weights.load import load_diffmae

matplotlib.use("Agg")  # a file only; no display is needed

from matplotlib import pyplot

COLUMNS = 6
Walk = tuple[list[tuple[str, Tensor]], Tensor]
NUM_STEPS = 250
SIGNALS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)  # sqrt(alpha_bar) of the noise levels shown


def diffusion(model: DiffMAE) -> DiffusionObjective:
    """The model's objective; ends the script if there is no noise to show."""
    if not isinstance(model.objective, DiffusionObjective) or model.pixels != "raw":
        raise SystemExit("method.py: the figure needs a run with objective=diffusion and pixels=raw")
    return model.objective


def levels(model: DiffMAE) -> list[int]:
    """The noise levels shown, from the noisiest down: those nearest to ``SIGNALS``."""
    signal = diffusion(model).schedule.alpha_bar.sqrt()
    return [model.objective.num_levels - 1] + [int((signal - wanted).abs().argmin()) for wanted in SIGNALS[1:]]


def paste(model: DiffMAE, cubes: Tensor, mask: Mask, hidden: Tensor) -> Tensor:
    """A clip (1, frames, 3, height, width) whose hidden cubes are replaced."""
    encoder = model.encoder
    joined = put(cubes, mask.masked, hidden)
    return unpatchify(joined, encoder.grid, tubelet=encoder.tubelet, patch_size=encoder.patch_size)


@torch.no_grad()
def noised_and_predicted(model: DiffMAE, video: Tensor, mask: Mask) -> tuple[list[Tensor], list[Tensor]]:
    """What the decoder gets at each level, and what it answers: one step of training each."""
    objective = diffusion(model)
    cubes = model.encoder.patchify(video)
    x0, latents = take(cubes, mask.masked), model.encode(cubes, mask)
    noise = torch.randn(x0.shape, generator=generator("figure noise"))
    noised, predicted = [], []
    for t in levels(model):
        alpha_bar = objective.schedule.alpha_bar_at(t)
        x_t = add_noise(x0, noise, signal=alpha_bar**0.5, sigma=(1 - alpha_bar) ** 0.5)
        tokens = objective.noisy_tokens(x_t, torch.tensor([t]))
        output = model.decode(latents, tokens, mask, mask.masked)
        noised.append(paste(model, cubes, mask, x_t))
        predicted.append(paste(model, cubes, mask, objective.x0(output, x_t, t)))
    return noised, predicted


def sampled(model: DiffMAE, video: Tensor, mask: Mask, mean: Sequence[float], std: Sequence[float]) -> Walk:
    """States of a DDIM walk, each at the step nearest to one of the shown levels, and the sample at its end."""
    steps: list[Step] = []
    filled = inpaint(
        model,
        video,
        mask,
        num_steps=NUM_STEPS,
        generator=generator("figure sample"),
        limits=pixel_limits(mean, std),
        trajectory=steps,
    )
    shown = [min(steps, key=lambda step: abs(step.t - t)) for t in levels(model)]
    return [(f"t = {step.t}", step.x_t) for step in shown], filled


def draw(path: Path, rows: dict[str, list[tuple[str, Tensor]]]) -> None:
    """Write rows of titled pictures (3, height, width) in 0...1."""
    figure, axes = pyplot.subplots(len(rows), COLUMNS, figsize=(9.5, 1.75 * len(rows)), layout="compressed")
    for line, (name, cells) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
        for axis, (title, picture) in zip(line, cells, strict=False):
            axis.set_title(title, fontsize=8)
            axis.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    figure.savefig(path, dpi=120)


def make_rows(asked: argparse.Namespace) -> dict[str, list[tuple[str, Tensor]]]:
    """All pictures of the figure, of the clip's middle frame."""
    model, config = load_diffmae(asked.run)
    data = config.data
    film = open_film(
        asked.video,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        max_clips=1,
    )
    shift, scale = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    _, clips = next(read_windows(film, at_once=1))
    video = (clips[0] / 255 - shift) / scale
    made = generator("figure mask", asked.seed)
    mask = draw_mask(config.mask.kind, model.encoder.grid, ratio=config.mask.ratio, generator=made)

    def picture(clip: Tensor) -> Tensor:
        return clip[0, data.num_frames // 2] * scale + shift

    cubes = model.encoder.patchify(video)
    grey = paste(model, cubes, mask, torch.full_like(take(cubes, mask.masked), 0.0))
    noised, predicted = noised_and_predicted(model, video, mask)
    titles = [f"t = {t}" for t in levels(model)]
    states, sample = sampled(model, video, mask, data.mean, data.std)
    return {
        "a clip": [("original", picture(video)), ("visible", picture(grey)), ("sample", picture(sample))],
        "training:\nnoised x_t": list(zip(titles, map(picture, noised), strict=True)),
        "prediction\nof x0": list(zip(titles, map(picture, predicted), strict=True)),
        "sampling:\nstates x_t": [(title, picture(state)) for title, state in states],
    }


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run folder with a finished pretrain stage")
    parser.add_argument("--video", required=True, help="video whose first clip is shown")
    parser.add_argument("--seed", type=int, default=0, help="decides the mask")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("method.png"))
    asked = parser.parse_args()
    draw(asked.out, make_rows(asked))
    print(f"written to {asked.out}")


if __name__ == "__main__":
    main()
