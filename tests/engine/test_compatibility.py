"""Which changes of a config make another run, and what the refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmae_video.config import Config, dump_config, load_config
from diffmae_video.data import VideoList, read_videos
from diffmae_video.engine.compatibility import OtherRunError, check_same_config, check_same_run, identity
from diffmae_video.engine.digests import list_digest, weights_digest


def config(tmp_path: Path, *overrides: str) -> Config:
    path = tmp_path / "r.yaml"
    path.write_text("")
    return load_config(path, overrides)


def header(**changes: Any) -> dict[str, Any]:
    return {"stage": "finetune", "identity": {"seed": 0}, "classes": ["a", "b"], "num_videos": 9, **changes}


DIGESTS = {"videos": "1", "val_videos": "1", "init": "1"}


@pytest.mark.parametrize("override", ["data.num_workers=7", "slurm.nodes=4", "pretrain.accumulation=2", "test.views=9"])
def test_how_a_run_is_carried_out_may_change(tmp_path: Path, override: str) -> None:
    for stage in ("pretrain", "finetune"):
        assert identity(config(tmp_path, override), stage) == identity(config(tmp_path), stage)


@pytest.mark.parametrize("override", ["seed=1", "mask.ratio=0.5", "pretrain.lr=1", "model.decoder.depth=2"])
def test_what_decides_the_result_may_not(tmp_path: Path, override: str) -> None:
    assert identity(config(tmp_path, override), "pretrain") != identity(config(tmp_path), "pretrain")


def test_fine_tuning_does_not_depend_on_the_decoder_or_the_mask(tmp_path: Path) -> None:
    other = config(tmp_path, "model.decoder.depth=2", "mask.ratio=0.5")
    assert identity(other, "finetune") == identity(config(tmp_path), "finetune")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "pretrain"}, "is of stage finetune, not pretrain"),
        ({"identity": {"seed": 1}}, "seed=0, this one has 1"),
        ({"identity": {"seed": 0, "new": 2}}, "new=nothing, this one has 2"),
        ({"classes": ["a"]}, "2 classes, this one has 1"),
        ({"classes": ["b", "a"]}, "class 0 was 'a', now it is 'b'"),
        ({"num_videos": 8}, "9 training videos, this one has 8"),
        ({"videos": "2"}, "its list of videos says other names"),
        ({"val_videos": "2"}, "data.val_list"),
        ({"init": "2"}, "other weights (finetune.init)"),
    ],
)
def test_a_refusal_names_the_difference(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OtherRunError) as caught:
        check_same_run(header(**DIGESTS), header(**{**DIGESTS, **changes}), where=Path("x.pt"))
    assert words in str(caught.value)
    assert "x.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_same_run(header(**DIGESTS), header(**DIGESTS), where=Path("x.pt"))


def test_what_was_saved_before_there_were_digests_is_held_to_the_rest() -> None:
    old = header(identity={"seed": 0, "finetune.init": "pretrain"})
    check_same_run(old, header(**DIGESTS), where=Path("x.pt"))
    check_same_run(header(**DIGESTS), header(), where=Path("x.pt"))  # and what is gone now isn't compared
    with pytest.raises(OtherRunError):
        check_same_run(old, header(**DIGESTS, num_videos=8), where=Path("x.pt"))


def test_a_begun_stage_holds_its_folder_to_its_config(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_config(config(tmp_path)))
    other = config(tmp_path, "pretrain.lr=1")
    check_same_config(other, run)  # nothing begun
    (run / "pretrain").mkdir()
    with pytest.raises(OtherRunError, match=r"pretrain\.lr=0\.00015, this one has 1\.0; give another output_dir"):
        check_same_config(other, run)
    check_same_config(config(tmp_path, "pretrain.lr=1", "stages=[finetune]"), run)


def test_a_test_is_of_its_views_sampling_and_pooling(tmp_path: Path) -> None:
    for override in ("test.views=9", "finetune.sampling=segment", "finetune.pool=class", "data.fps=7"):
        other = config(tmp_path, override, "model.class_token=true")
        assert identity(other, "test") != identity(config(tmp_path, "model.class_token=true"), "test"), override
    for override in ("test.weights=best", "test.batch_size=3", "finetune.lr=1", "data.val_list=x"):
        assert identity(config(tmp_path, override), "test") == identity(config(tmp_path), "test"), override


NAMES = st.lists(st.text("ab/. \u00e9", min_size=1, max_size=4), min_size=1, max_size=5)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of ``VideoList.of``."""
    names = draw(NAMES)
    same = {"min_size": len(names), "max_size": len(names)}
    seconds = st.tuples(st.sampled_from([0.0, 1.5]), st.sampled_from([2.0, 2.5]))
    return {
        "names": names,
        "labels": draw(st.lists(st.integers(-1, 2), **same)),
        "classes": draw(st.permutations(["x", "y", "z"])),
        "segments": draw(st.none() | st.lists(seconds, **same).map(np.array)),
        "num_frames": draw(st.none() | st.lists(st.integers(-1, 2), **same).map(np.array)),
    }


def plain(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in said.items()}


@settings(max_examples=200, deadline=None)
@given(entries(), entries(), st.text(max_size=3))
def test_two_lists_have_one_digest_exactly_when_they_say_the_same(
    said: dict[str, Any], other: dict[str, Any], root: str
) -> None:
    digest = list_digest(VideoList.of(**said))
    assert list_digest(VideoList.of(**said, root=root, notes=["left out"], flip_allowed=False)) == digest
    for key in said:  # one thing changed at a time, and all at once
        changed = {**said, key: other[key]}
        if len(changed["names"]) == len(changed["labels"]):
            assert (list_digest(VideoList.of(**changed)) == digest) == (plain(changed) == plain(said)), key
    assert (list_digest(VideoList.of(**other)) == digest) == (plain(other) == plain(said))


@given(st.integers(1, 4), st.integers(1, 4))
def test_the_same_letters_in_other_names_are_another_list(cut: int, other: int) -> None:
    first, second = (VideoList.of(["a/b/c"[:at], "a/b/c"[at:]], [0, 1]) for at in (cut, other))
    assert (list_digest(first) == list_digest(second)) == (cut == other)


def test_a_list_says_the_same_in_every_form_and_place(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a.csv", "path,label\nv/1.mp4,1\nv/2.mp4,0\n"), ("b.txt", "v/1.mp4 1\nv/2.mp4 0\n")):
        (tmp_path / name[0]).mkdir()
        (tmp_path / name[0] / name).write_text(text)
        (tmp_path / name[0] / "classes.txt").write_text("x\ny\n")
        digests.add(list_digest(read_videos(tmp_path / name[0] / name, root=name)))
    assert len(digests) == 1


def test_weights_have_another_digest_when_anything_of_them_differs() -> None:
    saved = {"model": {"w": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.0)}, "ema": {"w": torch.ones(2, 3)}}
    digest = weights_digest(saved)
    assert weights_digest({**saved, "config": {"seed": 1}, "step": 3}) == digest
    assert weights_digest({"model": dict(reversed(saved["model"].items())), "ema": saved["ema"]}) == digest
    others = [
        {"model": saved["model"], "ema": {}},
        {"model": {**saved["model"], "w": saved["model"]["w"].view(3, 2)}, "ema": saved["ema"]},
        {"model": {**saved["model"], "w": saved["model"]["w"].int()}, "ema": saved["ema"]},
        {"model": {**saved["model"], "b": torch.tensor(-1.0)}, "ema": saved["ema"]},
        {"model": {"v": saved["model"]["w"], "b": saved["model"]["b"]}, "ema": saved["ema"]},
        {"model": saved["model"], "ema": {"w": torch.ones(2, 3) * 2}},
    ]
    assert len({digest, *map(weights_digest, others)}) == 7
