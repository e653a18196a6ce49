"""tools/inpaint.py: every form of mask, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import inpaint
import numpy as np
import pytest
import torch
from PIL import Image

from diffmae_video.build import build_diffmae
from diffmae_video.config import dump_config, load_config
from diffmae_video.data.video_io import open_writer, write_video
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.inpainting import pipeline
from diffmae_video.inpainting.baselines import hidden_pixels
from diffmae_video.inpainting.film import open_film, read_windows
from diffmae_video.inpainting.masks import parse_mask
from diffmae_video.inpainting.pipeline import FILLINGS, Sampling, fill_windows
from diffmae_video.model import Mask
from diffmae_video.weights.load import load_diffmae


def run_tool(run: Path, video: Path, out: Path, *arguments: str) -> int:
    few = ["--steps", "3", "--max-clips", "2"]
    try:
        return inpaint.main(["--run", str(run), "--video", str(video), "--out", str(out), *few, *arguments])
    except SystemExit as refused:  # argparse's way to end
        return int(refused.code or 0)


def test_it_writes_videos_a_figure_and_measures(pretrained: Path, tiny_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", out, "--mask", "tube:0.75") == 0
    assert sorted(p.name for p in out.iterdir()) == ["comparison.mp4", "figure.png", "inpainted.mp4", "metrics.json"]
    measured = json.loads((out / "metrics.json").read_text())
    assert measured["clips"] == 2
    assert set(measured["hidden"]) == {"mean colour", "nearest cube", "one step", "sample"}
    assert all(np.isfinite([q["psnr"], q["ssim"]]).all() for q in measured["hidden"].values())
    for name, width in (("inpainted.mp4", 32), ("comparison.mp4", 4 * 128)):
        with av.open(str(out / name)) as container:
            assert container.streams.video[0].width == width
            assert len(list(container.decode(video=0))) == 8  # 2 clips of 4 frames
    assert Image.open(out / "figure.png").width > 300


def test_a_cross_model_says_that_its_cubes_are_filled_one_by_one(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "a cross decoder fills each cube on its own"
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out") == 0
    assert note not in capsys.readouterr().out
    config = load_config(pretrained / "config.yaml", ["model.decoder.kind=cross"])
    (pretrained / "config.yaml").write_text(dump_config(config))
    save_checkpoint(pretrained / "pretrain" / "weights.pt", {"model": build_diffmae(config).state_dict()})
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out") == 0
    assert note in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(pretrained: Path, tiny_videos: Path, tmp_path: Path) -> None:
    told = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / name, "--seed", seed) == 0
        told.append(json.loads((tmp_path / name / "metrics.json").read_text())["hidden"])
    assert told[0] == told[1]
    assert told[0]["sample"] != told[2]["sample"]


@pytest.fixture
def tiny(pretrained: Path) -> tuple[DiffMAE, Sampling]:
    model, config = load_diffmae(pretrained)
    return model, Sampling(2, config.data.mean, config.data.std)


def test_visible_pixels_are_kept_and_hidden_ones_never_read(tiny: tuple[DiffMAE, Sampling], tiny_videos: Path) -> None:
    film = open_film(str(tiny_videos / "val-0.mp4"), num_frames=4, stride_frames=2, fps=10, crop_size=32)
    hidden = parse_mask("centre", film, tubelet=2, patch_size=8, seed=0)
    part, clips = next(read_windows(film, at_once=2))
    blind = clips.clone()
    blind[..., 8:24, 8:24] = 0
    seen, unseen = (fill_windows(tiny[0], pixels, hidden[part], tiny[1], first=0) for pixels in (clips, blind))
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[8:24, 8:24] = False
    for name in FILLINGS:
        torch.testing.assert_close(seen[name], unseen[name], rtol=0, atol=1e-6)
        torch.testing.assert_close(seen[name][..., outside], clips[..., outside] / 255, rtol=0, atol=1e-6)
        assert not torch.equal(seen[name], clips / 255)


def test_clips_that_hide_unequally_are_each_filled_alone(tiny: tuple[DiffMAE, Sampling]) -> None:
    """As masks that move hide: 3, 5, 3 and no cubes; and each clip as if the others weren't there."""
    pixels = torch.randint(0, 256, (4, 1, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(4, 1, 32, dtype=torch.bool)
    hidden[0, 0, :3] = hidden[1, 0, 8:13] = hidden[2, 0, 20:23] = True
    rows = fill_windows(tiny[0], pixels, hidden, tiny[1], first=0)
    where = hidden_pixels(hidden, (2, 4, 4), tubelet=2, patch_size=8)[:, :, :, None].expand_as(rows["sample"])
    for name in FILLINGS:
        torch.testing.assert_close(rows[name][~where], (pixels / 255)[~where], rtol=0, atol=1e-6)
        changed = ((rows[name] - pixels / 255).abs() > 1e-3).flatten(1).any(1)
        assert changed.tolist() == [True, True, True, False], name
    alone = fill_windows(tiny[0], pixels[1:2], hidden[1:2], tiny[1], first=0)
    for name in FILLINGS:
        torch.testing.assert_close(alone[name], rows[name][1:2], rtol=0, atol=1e-5)


def test_clips_that_alternate_are_sampled_from_the_same_noise(tiny: tuple[DiffMAE, Sampling]) -> None:
    """A film that stands still is filled with a picture that stands still."""
    still = torch.randint(0, 256, (1, 1, 1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(1, 3, 32, dtype=torch.bool)
    hidden[..., 4:12] = True
    rows = fill_windows(tiny[0], still.expand(1, 3, 4, -1, -1, -1), hidden, tiny[1], first=0)
    assert torch.equal(rows["sample"][:, 0], rows["sample"][:, 1])
    assert torch.equal(rows["sample"][:, 0], rows["sample"][:, 2])
    other = fill_windows(tiny[0], still.expand(1, 3, 4, -1, -1, -1), hidden, tiny[1], first=1)
    assert not torch.equal(rows["sample"], other["sample"])


def test_everything_goes_to_the_models_device(tiny: tuple[DiffMAE, Sampling], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips, masks and generators, on a device that this machine has; samples come back."""
    model = tiny[0].to("meta")
    devices = []

    def fake_generator(*key: object, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(device=device)

    def fake_inpaint(model: DiffMAE, video: torch.Tensor, mask: Mask, **rest: Any) -> torch.Tensor:
        devices.append({video.device.type, mask.masked.device.type, rest["generator"].device.type})
        return torch.empty(video.shape, device="meta")

    monkeypatch.setattr(pipeline, "generator", fake_generator)
    monkeypatch.setattr(pipeline, "inpaint", fake_inpaint)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape))
    pixels = torch.zeros(1, 1, 4, 3, 32, 32, dtype=torch.uint8)
    hidden = torch.arange(32).view(1, 1, 32) < 9
    rows = fill_windows(model, pixels, hidden, tiny[1], first=0)
    assert devices == [{"meta"}, {"meta"}]
    assert {clips.device.type for clips in rows.values()} == {"cpu"}


@pytest.mark.parametrize(("frames", "rate"), [(90, 25), (7, 12.5), (3, 30)])
def test_the_whole_film_comes_out_at_its_own_rate(
    pretrained: Path, tmp_path: Path, frames: int, rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 8, (frames, 40, 52, 3), dtype=np.uint8)
    pixels += 2 * np.arange(frames, dtype=np.uint8)[:, None, None, None]
    write_video(tmp_path / "film.mp4", pixels, fps=rate, crf=4)
    out = tmp_path / "out"
    command = ["--run", str(pretrained), "--video", str(tmp_path / "film.mp4"), "--out", str(out), "--steps", "2"]
    assert inpaint.main([*command, "--mask", "box:6,0,8,8"]) == 0
    assert f"film.mp4: {frames} frames at {rate:g} a second" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["frames"] == frames
    for name in ("inpainted.mp4", "comparison.mp4"):
        with av.open(str(out / name)) as container:
            shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        np.testing.assert_allclose([time for time, _ in shown], np.arange(frames) / rate, atol=1e-4)
        # Below the hole each frame is the film's own.
        levels = [picture[-8 * (len(picture) // 32) :, :32].mean() for _, picture in shown]
        np.testing.assert_allclose(levels, pixels[:, 30:, 6:46].mean((1, 2, 3)), atol=3)
        assert len(shown) == frames


def test_a_film_of_no_constant_rate_keeps_its_times(pretrained: Path, tmp_path: Path) -> None:
    seconds = [0.0, 0.04, 0.08, 0.5, 0.52, 2.0]
    with open_writer(tmp_path / "film.mp4", fps=2.5, crf=4) as writer:
        for level, second in enumerate(seconds):
            writer.write(np.full((32, 32, 3), 20 * level, dtype=np.uint8), second=second)
    assert run_tool(pretrained, tmp_path / "film.mp4", tmp_path / "out", "--steps", "1") == 0
    with av.open(str(tmp_path / "out" / "inpainted.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, seconds, atol=1e-4)


def test_each_frame_is_measured_once(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten frames in windows of 8: the second has 6 frames of the first again."""
    pixels = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "film.mp4", pixels, fps=10, crf=4)
    counts: list[int] = []
    add = pipeline.Measure.add

    def counted(self: pipeline.Measure, original: torch.Tensor, filled: torch.Tensor, hidden: torch.Tensor) -> None:
        counts.append(int(hidden.sum()))
        add(self, original, filled, hidden)

    monkeypatch.setattr(pipeline.Measure, "add", counted)
    assert run_tool(pretrained, tmp_path / "film.mp4", tmp_path / "out", "--mask", "centre", "--max-clips", "9") == 0
    assert sum(counts) == len(FILLINGS) * 10 * 16 * 16


def test_a_limit_is_said(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "the first 8 of 20 frames at 10 a second, in 2 clips of 4 frames, 2 apart" in told
    assert "the last 12 frames are left out (--max-clips)" in told


def test_memory_is_bounded(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the film, so many frames are in work."""
    sizes = []
    fill = pipeline.fill_windows

    def counted(model: DiffMAE, pixels: torch.Tensor, *rest: Any, **named: Any) -> dict[str, torch.Tensor]:
        sizes.append(pixels.shape[:3].numel())
        return fill(model, pixels, *rest, **named)

    monkeypatch.setattr(pipeline, "fill_windows", counted)
    monkeypatch.setattr(pipeline, "FRAMES_AT_ONCE", 16)
    command = ["--run", str(pretrained), "--video", str(tiny_videos / "val-0.mp4"), "--steps", "1"]
    assert inpaint.main([*command, "--out", str(tmp_path / "out")]) == 0
    assert sizes == [16, 8]  # windows of 8 frames, the last overlapping


def test_what_is_wrong_shows_before_the_model_is_loaded(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inpaint, "load_diffmae", lambda *_: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    film = tiny_videos / "val-0.mp4"
    for arguments in (
        ["--out", str(tmp_path / "file" / "out")],
        ["--out", "/proc/out"],
        ["--mask", "box:0,0,99,8"],
        ["--mask", "nowhere.png"],
        ["--steps", "1001"],
        ["--video", "nowhere.mp4"],
        ["--device", "gpu"],
        ["--show", "2"],
    ):
        assert run_tool(pretrained, film, tmp_path / "out", *arguments) == 2


def test_any_clip_can_be_shown(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of two clips that alternate: clip 3 is the second one of the second window."""
    shown: list[Any] = []
    monkeypatch.setattr(
        inpaint, "inpainting_figure", lambda path, rows, *, title, seconds: shown.append((rows, seconds))
    )
    for number in ("2", "3"):
        more = ["--max-clips", "9", "--show", number]
        assert run_tool(pretrained, tiny_videos / "val-1.mp4", tmp_path / "out", *more) == 0
    (even, even_seconds), (odd, odd_seconds) = shown
    np.testing.assert_allclose(even_seconds, [0.8, 1.0, 1.2, 1.4])
    np.testing.assert_allclose(odd_seconds, [0.9, 1.1, 1.3, 1.5])
    assert not torch.equal(even["original"], odd["original"])


def test_a_picture_is_inpainted_too(pretrained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50, 3), 90, dtype=np.uint8)).save(tmp_path / "still.png")
    assert run_tool(pretrained, tmp_path / "still.png", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["clips"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask", "stripes:0.5"], "none of the forms"),
        (["--mask", "box:0,0,99,8,0,4"], "must lie in"),
        (["--mask", "random:nan"], "mask ratio (nan) must be a number above 0 and below 1"),
        (["--mask", "tube:-inf"], "mask ratio (-inf) must be a number above 0 and below 1"),
        (["--show", "2"], "--show 2: the film is filled in 2 clips; give 0 to 1"),
        (["--steps", "0"], "0 must be a whole number, 1 or more"),
        (["--steps", "1001"], "must be in 1...1000"),
        (["--sampler", "euler"], "invalid choice: 'euler' (choose from"),
        (["--eta", "2"], "2 must be a number from 0 to 1"),
        (["--video", "nowhere.mp4"], "no such file"),
        (["--run", "nowhere"], "holds no config.yaml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    arguments: list[str],
    words: str,
    pretrained: Path,
    tiny_videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out", *arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_moving_averages_are_taken_on_demand(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pretrained / "pretrain" / "weights.pt"
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out", "--weights", "ema") == 2
    assert f"{weights}: has no moving averages of its weights" in capsys.readouterr().err
    saved = load_checkpoint(weights)
    save_checkpoint(weights, {**saved, "ema": saved["model"]})
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out", "--weights", "ema") == 0
