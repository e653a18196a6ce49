"""Fill the hidden part of a video with a pre-trained model.

    python tools/inpaint.py --run runs/motion_tiny --video film.mp4 --mask random:0.75 --out runs/inpainted

The film is cut into consecutive clips of the model's length and size. Written to the output folder:
inpainted.mp4, comparison.mp4 (original, seen, nearest cube, sample), figure.png, and metrics.json with PSNR and
SSIM over the hidden pixels beside those of two simple fillers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diffmae_video.command_line import Parser, real_number, run_command, whole_number
from diffmae_video.engine.weights import load_diffmae
from diffmae_video.report import inpainting
from diffmae_video.report.fillers import Quality
from diffmae_video.report.inpainting import MASK_FORMS, Sampling
from diffmae_video.report.video import read_film


def run(asked: argparse.Namespace) -> dict[str, Quality]:
    """Inpaint as asked on the command line and write the output folder; returns the measures."""
    model, recipe = load_diffmae(asked.run)
    if recipe.model.decoder.kind == "cross":
        print(
            "note: a cross decoder fills each cube on its own, so neighbours don't agree; for joint samples, "
            "train with model.decoder.kind=joint or cross_self"
        )
    data = recipe.data
    film = read_film(
        asked.video,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        max_clips=asked.max_clips,
    )
    mask = inpainting.parse_mask(asked.mask, model, num_clips=len(film.clips), seed=asked.seed)
    steps = 1 if recipe.diffusion.objective == "mae" else asked.steps  # a mae model has the one step only
    sampling = Sampling(num_steps=steps, sampler=asked.sampler, eta=asked.eta, seed=asked.seed)
    filled = inpainting.fill_film(model, film, mask, sampling, mean=data.mean, std=data.std)
    qualities = inpainting.measure_all(film, filled, model, mask)

    asked.out.mkdir(parents=True, exist_ok=True)
    inpainting.write_films(asked.out, film, filled, model, mask)
    title = (
        f"{Path(asked.video).name}, hidden: {asked.mask}. PSNR of hidden pixels over {len(film.clips)} clips:\n"
        + ", ".join(f"{quality.psnr:.1f} dB ({name})" for name, quality in qualities.items())
    )
    shown = min(asked.show, len(film.clips) - 1)
    inpainting.draw_clip(asked.out / "figure.png", film, filled, model, mask, clip=shown, title=title)
    settings = {key: str(value) for key, value in vars(asked).items()}
    measured = {**settings, "clips": len(film.clips), "hidden": inpainting.quality_table(qualities)}
    (asked.out / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return qualities


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = Parser(description="Fill the hidden part of a video with a pre-trained model.")
    made.add_argument("--run", required=True, help="folder of a run whose pretrain stage is finished")
    made.add_argument("--video", required=True, help="a video, a picture, or a folder of numbered pictures")
    made.add_argument("--mask", default="random:0.75", help=MASK_FORMS)
    made.add_argument("--steps", type=whole_number(1), default=50, help="sampling steps")
    made.add_argument("--sampler", default="ddim", choices=("ddim", "ddpm"), help="how noise is taken away")
    made.add_argument("--eta", type=real_number(0, 1), default=0.0, help="noise of ddim, 0...1")
    made.add_argument("--seed", type=whole_number(0), default=0, help="decides random masks and noise")
    made.add_argument("--max-clips", type=whole_number(1), default=64, help="most clips, spread over the film")
    made.add_argument("--show", type=whole_number(0), default=0, help="number of the clip in the figure")
    made.add_argument("--out", type=Path, default=Path("runs/inpainted"), help="output folder")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    asked = parser().parse_args(arguments)

    def write() -> int:
        for name, quality in run(asked).items():
            print(f"{name:14s} PSNR {quality.psnr:6.2f} dB   SSIM {quality.ssim:.3f}")
        print(f"written to {asked.out}")
        return 0

    return run_command(write)


if __name__ == "__main__":
    raise SystemExit(main())
