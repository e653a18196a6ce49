"""Which changes of a recipe make another run, and what the refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffmae_video.engine.identity import OtherRunError, check_same_recipe, check_same_run, identity
from diffmae_video.recipe import Recipe, dump_recipe, load_recipe


def recipe(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text("")
    return load_recipe(path, overrides)


def header(**changes: Any) -> dict[str, Any]:
    return {"stage": "finetune", "identity": {"seed": 0}, "classes": ["a", "b"], "num_videos": 9, **changes}


@pytest.mark.parametrize("override", ["data.num_workers=7", "slurm.nodes=4", "pretrain.accumulation=2", "test.views=9"])
def test_how_a_run_is_carried_out_may_change(tmp_path: Path, override: str) -> None:
    for stage in ("pretrain", "finetune"):
        assert identity(recipe(tmp_path, override), stage) == identity(recipe(tmp_path), stage)


@pytest.mark.parametrize("override", ["seed=1", "mask.ratio=0.5", "pretrain.lr=1", "model.decoder.depth=2"])
def test_what_decides_the_result_may_not(tmp_path: Path, override: str) -> None:
    assert identity(recipe(tmp_path, override), "pretrain") != identity(recipe(tmp_path), "pretrain")


def test_fine_tuning_does_not_depend_on_the_decoder_or_the_mask(tmp_path: Path) -> None:
    other = recipe(tmp_path, "model.decoder.depth=2", "mask.ratio=0.5")
    assert identity(other, "finetune") == identity(recipe(tmp_path), "finetune")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "pretrain"}, "is of stage finetune, not pretrain"),
        ({"identity": {"seed": 1}}, "seed=0, this one has 1"),
        ({"identity": {"seed": 0, "new": 2}}, "new=nothing, this one has 2"),
        ({"classes": ["a"]}, "2 classes, this one has 1"),
        ({"classes": ["b", "a"]}, "class 0 was 'a', now it is 'b'"),
        ({"num_videos": 8}, "9 training videos, this one has 8"),
    ],
)
def test_a_refusal_names_the_difference(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OtherRunError) as caught:
        check_same_run(header(), header(**changes), where=Path("x.pt"))
    assert words in str(caught.value)
    assert "x.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_same_run(header(), header(), where=Path("x.pt"))


def test_a_begun_stage_holds_its_folder_to_its_recipe(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(dump_recipe(recipe(tmp_path)))
    other = recipe(tmp_path, "pretrain.lr=1")
    check_same_recipe(other, run)  # nothing begun
    (run / "pretrain").mkdir()
    with pytest.raises(OtherRunError, match=r"pretrain\.lr=0\.00015, this one has 1\.0; give another output_dir"):
        check_same_recipe(other, run)
    check_same_recipe(recipe(tmp_path, "pretrain.lr=1", "stages=[finetune]"), run)
