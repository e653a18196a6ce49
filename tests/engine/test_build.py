"""What a recipe's keys become."""

from __future__ import annotations

from pathlib import Path

from diffmae_video.engine import build
from diffmae_video.recipe import load_recipe


def test_exchanged_labels_let_ssv2_be_mirrored(tmp_path: Path) -> None:
    names = [f"Doing thing {i}" for i in range(172)] + ["Pulling left to right", "Pulling right to left"]
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    (tmp_path / "l.csv").write_text("path,label\na.webm,172\n")
    (tmp_path / "r.yaml").write_text(
        f"data: {{dataset: ssv2, train_list: {tmp_path / 'l.csv'}, swap_flip_labels: true}}"
    )
    recipe = load_recipe(tmp_path / "r.yaml", ["finetune.flip=true"])
    clips = build.build_clips(recipe, "finetune", build.build_videos(recipe, "finetune"))
    assert clips.flip
    assert clips.videos.flip_labels is not None
    assert clips.videos.flip_labels[172] == 173
    plain = load_recipe(tmp_path / "r.yaml", ["data.swap_flip_labels=false"])
    assert not build.build_clips(plain, "finetune", build.build_videos(plain, "finetune")).flip
