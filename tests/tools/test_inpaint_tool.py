"""tools/inpaint.py: every form of mask, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import av
import inpaint
import numpy as np
import pytest
import torch
from PIL import Image

from diffmae_video.engine.build import build_diffmae
from diffmae_video.engine.checkpoint import save_checkpoint
from diffmae_video.engine.weights import load_diffmae
from diffmae_video.recipe import dump_recipe, load_recipe
from diffmae_video.report.inpainting import Sampling, fill_film, parse_mask
from diffmae_video.report.video import read_film


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
    recipe = load_recipe(pretrained / "recipe.yaml", ["model.decoder.kind=cross"])
    (pretrained / "recipe.yaml").write_text(dump_recipe(recipe))
    save_checkpoint(pretrained / "pretrain" / "weights.pt", {"model": build_diffmae(recipe).state_dict()})
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out") == 0
    assert note in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(pretrained: Path, tiny_videos: Path, tmp_path: Path) -> None:
    told = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / name, "--seed", seed) == 0
        told.append(json.loads((tmp_path / name / "metrics.json").read_text())["hidden"])
    assert told[0] == told[1]
    assert told[0]["sample"] != told[2]["sample"]


def test_visible_pixels_are_kept_and_hidden_ones_never_read(pretrained: Path, tiny_videos: Path) -> None:
    model, recipe = load_diffmae(pretrained)
    film = read_film(tiny_videos / "val-0.mp4", num_frames=4, stride_frames=2, fps=10, crop_size=32, max_clips=2)
    mask = parse_mask("centre", model, num_clips=2, seed=0)
    blind = film.clips.clone()
    blind[..., 8:24, 8:24] = 0
    options = {"mean": recipe.data.mean, "std": recipe.data.std}
    seen = fill_film(model, film, mask, Sampling(num_steps=2), **options)
    unseen = fill_film(model, film._replace(clips=blind), mask, Sampling(num_steps=2), **options)
    for name, clips in seen.items():
        torch.testing.assert_close(clips, unseen[name], rtol=0, atol=1e-6)
        outside = torch.ones(32, 32, dtype=torch.bool)
        outside[8:24, 8:24] = False
        torch.testing.assert_close(clips[..., outside], film.clips.float()[..., outside] / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("random:0.75", 24),
        ("tube:0.5", 16),
        ("frame:0.5", 16),
        ("centre", 8),  # the middle 16 x 16 of 32 x 32 pixels: 4 of 16 places, twice
        ("box:0,0,8,8,0,2", 1),
        ("box:7,7,2,2,0,4", 8),  # a pixel of a cube hides all of it
    ],
)
def test_forms_of_mask(text: str, hidden: int, pretrained: Path) -> None:
    model, _ = load_diffmae(pretrained)
    mask = parse_mask(text, model, num_clips=3, seed=0)
    assert mask.masked.shape == (3, hidden)
    assert mask.visible.shape == (3, 32 - hidden)


def test_mask_from_a_picture(pretrained: Path, tiny_videos: Path, tmp_path: Path) -> None:
    white = np.zeros((32, 32), dtype=np.uint8)
    white[:, 16:] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    assert run_tool(pretrained, tiny_videos / "val-0.mp4", tmp_path / "out", "--mask", str(tmp_path / "mask.png")) == 0


def test_a_picture_is_inpainted_too(pretrained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50, 3), 90, dtype=np.uint8)).save(tmp_path / "still.png")
    assert run_tool(pretrained, tmp_path / "still.png", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["clips"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask", "stripes:0.5"], "none of the forms"),
        (["--mask", "random"], "has no ratio; write for example random:0.75"),
        (["--mask", "random:1"], "hides 32 of the 32"),
        (["--mask", "box:1,2,3"], "must be box:x,y,w,h,t0,t1"),
        (["--mask", "box:0,0,99,8,0,4"], "must lie in"),
        (["--steps", "0"], "0 must be a whole number, 1 or more"),
        (["--steps", "1001"], "must be in 1...1000"),
        (["--sampler", "euler"], "invalid choice: 'euler' (choose from"),
        (["--eta", "2"], "2 must be a number from 0 to 1"),
        (["--video", "nowhere.mp4"], "no such file"),
        (["--run", "nowhere"], "holds no recipe.yaml"),
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
