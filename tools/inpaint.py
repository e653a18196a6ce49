"""Fill the hidden part of a video with a pre-trained model.

    python tools/inpaint.py --run runs/motion_tiny --video film.mp4 --mask random:0.75 --out runs/inpainted

The whole film is filled, at its own frame rate and length. What comes out is its centre square at the size of the
model's clips, without sound. Written to the output folder: inpainted.mp4, comparison.mp4 (original, seen, nearest cube,
sample), figure.png, and metrics.json with PSNR and SSIM over the hidden pixels beside those of two simple fillers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from diffmae_video.command_line import Parser, real_number, run_command, whole_number
from diffmae_video.diffusion.sampler import time_grid
from diffmae_video.engine.distributed.device import choose_device
from diffmae_video.errors import UserError
from diffmae_video.files import make_folder
from diffmae_video.inpainting.baselines import InpaintMetrics
from diffmae_video.inpainting.figures import inpainting_figure
from diffmae_video.inpainting.film import open_film
from diffmae_video.inpainting.masks import MASK_FORMS, parse_mask
from diffmae_video.inpainting.pipeline import Sampling, inpaint_film
from diffmae_video.weights.load import WEIGHTS, WEIGHTS_HELP, load_diffmae, run_config


def run(args: argparse.Namespace) -> dict[str, InpaintMetrics]:
    """Inpaint as asked on the command line and write the output folder; returns the measures."""
    device = choose_device(args.device)
    config = run_config(args.run, "pretrain")
    data = config.data
    # All that can be wrong with film, mask and folder shows before the model is loaded.
    film = open_film(
        args.video,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        max_clips=args.max_clips,
    )
    clips = film.places[..., 0].size
    if args.show >= clips:
        raise UserError(f"--show {args.show}: the film is filled in {clips} clips; give 0 to {clips - 1}")
    hidden = parse_mask(
        args.mask, film, tubelet=config.model.tubelet, patch_size=config.model.patch_size, seed=args.seed
    )
    steps = 1 if config.diffusion.objective == "mae" else args.steps  # a mae model has the one step only
    time_grid(config.diffusion.num_steps, steps)
    make_folder(args.out)
    print(film.describe())
    if config.model.decoder.kind == "cross":
        print(
            "note: a cross decoder fills each cube on its own, so neighbours don't agree; for joint samples, "
            "train with model.decoder.kind=joint or cross_self"
        )

    model, _ = load_diffmae(args.run, weights=args.weights)
    sampling = Sampling(steps, data.mean, data.std, sampler=args.sampler, eta=args.eta, seed=args.seed)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        filled = inpaint_film(model.to(device), film, hidden, sampling, folder=args.out, shown=args.show)

    title = (
        f"{Path(args.video).name}, hidden: {args.mask}. PSNR of hidden pixels over {len(film)} frames:\n"
        + ", ".join(f"{quality.psnr:.1f} dB ({name})" for name, quality in filled.qualities.items())
    )
    inpainting_figure(args.out / "figure.png", filled.rows, title=title, seconds=filled.seconds)
    measured = {
        **{key: str(value) for key, value in vars(args).items()},
        "frames": len(film),
        "fps": film.fps,
        "clips": clips,
        "hidden": {name: quality._asdict() for name, quality in filled.qualities.items()},
    }
    (args.out / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return filled.qualities


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        description="Fill the hidden part of a video with a pre-trained model. The whole film is filled, at its own "
        "frame rate and length; the output is its centre square at the size of the model's clips, without sound.",
    )
    parser.add_argument("--run", required=True, help="folder of a run whose pretrain stage is finished")
    parser.add_argument("--weights", default="auto", choices=WEIGHTS, help=WEIGHTS_HELP)
    parser.add_argument("--video", required=True, help="a video, a picture, or a folder of numbered pictures")
    parser.add_argument("--mask", default="random:0.75", help=MASK_FORMS)
    parser.add_argument("--steps", type=whole_number(1), default=50, help="sampling steps")
    parser.add_argument("--sampler", default="ddim", choices=("ddim", "ddpm"), help="how noise is taken away")
    parser.add_argument("--eta", type=real_number(0, 1), default=0.0, help="noise of ddim, 0...1")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="decides random masks and noise")
    parser.add_argument("--max-clips", type=whole_number(1), help="only the frames of so many clips, from the start")
    parser.add_argument("--show", type=whole_number(0), default=0, help="number of the clip in the figure, from 0")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=Path("runs/inpainted"), help="output folder")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    args = parser().parse_args(arguments)

    def write() -> int:
        for name, quality in run(args).items():
            print(f"{name:14s} PSNR {quality.psnr:6.2f} dB   SSIM {quality.ssim:.3f}")
        print(f"written to {args.out}")
        return 0

    return run_command(write)


if __name__ == "__main__":
    raise SystemExit(main())
