"""Small videos made by the ffmpeg command line, its frames, and scripts run in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# `mandelbrot` moves in every frame, so that a wrong frame number can't go unnoticed.
SOURCE = "mandelbrot=size={size}:rate={rate}:start_scale=1"


def ffmpeg(*arguments: str) -> None:
    """Run the command line quietly; a failure is the test's error."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg command line")
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-v", "error", *arguments], check=True, capture_output=True)


def make_video(path: Path, *encoding: str, size: str = "64x48", rate: str = "30", frames: int = 40) -> Path:
    """Encode ``frames`` frames of the moving test picture."""
    ffmpeg(
        "-f", "lavfi", "-i", SOURCE.format(size=size, rate=rate), "-frames:v", str(frames), "-threads", "1",
        *(encoding or ("-c:v", "libx264", "-pix_fmt", "yuv420p")), str(path),
    )  # fmt: skip
    return path


def reference_frames(path: Path, *choice: str) -> np.ndarray:
    """All frames as the command line decodes them, (N, H, W, 3) uint8; ``choice`` may pick a stream."""
    probe = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), *choice, "-fps_mode", "passthrough",
         "-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "-"],
        check=True, capture_output=True,
    )  # fmt: skip
    return _split_ppm(probe.stdout)


def _split_ppm(data: bytes) -> np.ndarray:
    """Portable pixmaps one after the other: "P6", width and height, 255, pixels."""
    frames, at = [], 0
    while at < len(data):
        header, size, depth, _ = data[at : at + 40].split(b"\n", 3)
        assert (header, depth) == (b"P6", b"255")
        width, height = (int(value) for value in size.split())
        begin = at + len(header) + len(size) + len(depth) + 3
        at = begin + width * height * 3
        frames.append(np.frombuffer(data[begin:at], np.uint8).reshape(height, width, 3))
    return np.stack(frames)


@dataclass(frozen=True)
class Ran:
    """What a script run in this process would have left behind as a process."""

    returncode: int
    stdout: str
    stderr: str


def run_script(script: str, *arguments: str | Path) -> Ran:
    """Run ``main`` of a script of the repository: as its command line does, without the seconds of importing torch."""
    path = ROOT / script
    sys.path.insert(0, str(path.parent))  # scripts of a folder import each other
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = module.main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())
