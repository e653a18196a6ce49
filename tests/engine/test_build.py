"""What a config's keys become."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmae_video import build
from diffmae_video.config import Config, load_config
from diffmae_video.data.manifest import Health, ManifestWriter, fingerprint
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.engine.cli import main
from diffmae_video.engine.dry_run import describe


def test_exchanged_labels_let_ssv2_be_mirrored(tmp_path: Path) -> None:
    names = [f"Doing thing {i}" for i in range(172)] + ["Pulling left to right", "Pulling right to left"]
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    (tmp_path / "l.csv").write_text("path,label\na.webm,172\n")
    (tmp_path / "r.yaml").write_text(
        f"data: {{dataset: ssv2, train_list: {tmp_path / 'l.csv'}, swap_flip_labels: true}}"
    )
    config = load_config(tmp_path / "r.yaml", ["finetune.flip=true"])
    clips = build.build_clips(config, "finetune", build.build_videos(config, "finetune"))
    assert clips.flip
    assert clips.videos.flip_labels is not None
    assert clips.videos.flip_labels[172] == 173
    plain = load_config(tmp_path / "r.yaml", ["data.swap_flip_labels=false"])
    assert not build.build_clips(plain, "finetune", build.build_videos(plain, "finetune")).flip


SIDES = ["Pulling left to right", "Pulling right to left"]


def config_over(folder: Path, dataset: str, classes: list[str], *overrides: str) -> Config:
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    (folder / "l.csv").write_text("path,label\na.webm,1\n")
    (folder / "r.yaml").write_text(
        f"{{data: {{dataset: {dataset}, train_list: {folder / 'l.csv'}, crop_size: 64}}, model: {{size: micro}}}}"
    )
    return load_config(folder / "r.yaml", list(overrides))


@pytest.mark.parametrize(
    ("dataset", "classes", "overrides", "rule"),
    [
        ("list", ["run", "sit"], [], "half of the clips"),
        ("list", ["run", "sit"], ["finetune.flip=false"], "none (finetune.flip=false)"),
        ("list", SIDES, [], "none (a mirrored video would show another class)"),
        ("ssv2", ["Doing", "Holding"], [], "none (a mirrored video would show another class)"),
        (
            "ssv2",
            SIDES,
            ["data.swap_flip_labels=true"],
            "half of the clips, their classes with left and right exchanged",
        ),
        (
            "list",
            SIDES,
            ["data.swap_flip_labels=true"],
            "half of the clips, their classes with left and right exchanged",
        ),
    ],
)
def test_the_mirroring_that_is_said_is_the_one_that_is_done(
    tmp_path: Path, dataset: str, classes: list[str], overrides: list[str], rule: str
) -> None:
    config = config_over(tmp_path, dataset, classes, *overrides)
    videos = build.build_videos(config, "finetune")
    assert build.mirroring(config, "finetune", videos) == rule
    assert build.build_clips(config, "finetune", videos).flip == rule.startswith("half")
    assert f"  mirrored: {rule}\n" in describe(config)


def test_mirroring_where_the_list_is_not_there_is_the_collections(tmp_path: Path) -> None:
    config = config_over(tmp_path, "ssv2", SIDES)
    (tmp_path / "l.csv").unlink()
    assert "  mirrored: none (a mirrored video would show another class)\n" in describe(config)


def test_a_part_of_a_collection_is_said_by_the_dry_run(tmp_path: Path) -> None:
    config = config_over(tmp_path, "ssv2", SIDES)
    assert f"  {tmp_path / 'classes.txt'}: 2 of ssv2's 174 classes\n" in describe(config)


def test_a_run_says_at_its_start_what_it_leaves_out_and_whether_it_mirrors(
    tiny_config: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ManifestWriter(tmp_path / "m.csv") as manifest:
        size, mtime_ns = fingerprint(str(tiny_videos / "train-3.mp4")) or (0, 0)
        manifest.add(Health("train-3.mp4", "bad", "a frame is damaged", "full", size, mtime_ns))
    overrides = [f"data.manifest={tmp_path / 'm.csv'}", "pretrain.epochs=0.1", "finetune.epochs=0.1"]
    overrides += ["pretrain.warmup_epochs=0", "finetune.warmup_epochs=0"]
    assert main(["--cfg", str(tiny_config), *overrides]) == 0
    said = capsys.readouterr().out.splitlines()
    left_out = (
        f"{tmp_path / 'm.csv'}: 1 of 12 videos left out (1 x a frame is damaged); 11 were never scanned and are used"
    )
    for stage in ("pretrain", "finetune"):
        assert f"{stage}: {left_out}" in said
        assert f"{stage}: mirrored: none (a mirrored video would show another class)" in said
    assert f"test: {tmp_path / 'm.csv'}: 0 of 5 videos left out; 5 were never scanned and are used" in said


def test_augmentation_of_fine_tuning_reaches_its_clips_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\na.mp4,0\n")
    (tmp_path / "classes.txt").write_text("a\n")
    (tmp_path / "r.yaml").write_text(f"""
data: {{dataset: list, train_list: {tmp_path / "l.csv"}, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6],
  short_video: loop}}
finetune: {{rand_augment: rand-m7-n4-mstd0.5-inc1, color_jitter: 0.4, erase_prob: 0.25, sampling: segment}}
""")
    config = load_config(tmp_path / "r.yaml")
    videos = build.build_videos(config, "train")
    finetune, pretrain = (build.build_clips(config, stage, videos) for stage in ("finetune", "pretrain"))
    assert finetune.rand_augment == RandAugment(magnitude=7, num_ops=4, magnitude_std=0.5)
    assert (finetune.color_jitter, finetune.erase_prob, finetune.sampling) == (0.4, 0.25, "segment")
    assert (finetune.mean, finetune.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert pretrain.rand_augment is None
    assert (pretrain.color_jitter, pretrain.erase_prob, pretrain.sampling) == (0, 0, "dense")
    views = build.build_views(config, videos, views=2, crops=3)
    assert {finetune.short_video, pretrain.short_video, views.short_video} == {"loop"}
