"""Configs: reading them, and the messages about invalid ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diffmae_video.config import Config, ConfigError, dump_config, load_config
from diffmae_video.config.rules import walk


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text("")
    return path


def test_defaults_of_an_empty_file_are_the_schemas(empty: Path) -> None:
    assert load_config(empty) == Config()


def test_overrides_win_over_the_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("pretrain: {lr: 1.0e-3, epochs: 7}\nstages: [finetune]\n")
    config = load_config(path, ["pretrain.lr=2e-3", "pretrain.lr=3e-3", "stages=[finetune,test]"])
    assert (config.pretrain.lr, config.pretrain.epochs) == (3e-3, 7)
    assert config.stages == ["finetune", "test"]


def test_a_dumped_config_reads_back_equal(empty: Path, tmp_path: Path) -> None:
    config = load_config(empty, ["slurm.extra.constraint=a100", "finetune.flip=false", "data.mean=[.1,.2,.3]"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy) == config


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().pretrain.lr = 1.0  # type: ignore[misc]


def test_every_key_has_one_line_of_documentation() -> None:
    for name, spec, _ in walk(Config()):
        assert spec.metadata["doc"], name
        assert "\n" not in spec.metadata["doc"], name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("mask.ratio=0", ["override mask.ratio=0", "(0, 1)"]),
        ("mask.ratio=1", ["(0, 1)"]),
        ("mask.ratio=1.5", ["1.5", "(0, 1)"]),
        ("mask.ratio=0.001", ["masks 0 of the 196", "change the ratio"]),
        ("mask.rati=0.5", ["unknown key mask.rati", "did you mean mask.ratio"]),
        ("pretrian.lr=1", ["unknown key pretrian", "did you mean pretrain"]),
        ("lr=1", ["unknown key lr", "pretrain.lr or finetune.lr"]),
        ("pretrain.lr=fast", ["override pretrain.lr=fast: must be a number"]),
        ("pretrain=3", ["override pretrain=3"]),
        ("pretrain.lr", ["must read key=value"]),
        ("data.num_frames=15", ["data.num_frames=15", "model.tubelet (2)", "14 or 16"]),
        ("data.crop_size=100", ["data.crop_size=100", "model.patch_size (16)", "96 or 112"]),
        ("mask.kind=tubes", ["must be one of tube, random"]),
        ("stages=[test,finetune]", ["in the order pretrain, finetune, test"]),
        ("stages=[]", ["name each stage once"]),
        ("test.crops=2", ["must be one of 1, 3"]),
        ("model.decoder.depth=14", ["base encoder has 12", "model.decoder.taps=last"]),
        (
            "model.decoder.kind=joint model.decoder.depth=14 diffusion.feature.teacher=a "
            "diffusion.feature.checkpoint=b",
            ["base encoder has 12"],
        ),
        ("model.decoder.width=100 model.decoder.num_heads=3", ["multiple of model.decoder.num_heads (3)"]),
        ("model.decoder.predict_fraction=0", ["(0, 1]"]),
        ("diffusion.objective=mae diffusion.target=eps", ["use target=x0"]),
        ("finetune.init=none finetune.init_weights=ema", ["finetune.init=none reads no weights", "give finetune.init"]),
        ("diffusion.target_frames=first", ["diffusion.target_frames=first", "objective=mae", "use target_frames=all"]),
        (
            "diffusion.target=eps diffusion.rho=0.5",
            ["diffusion.target=eps", "diffusion.rho=0.5", "must end above 1e-10; use target x0 or v, or a larger rho"],
        ),
        ("diffusion.feature.teacher=vit_tiny_patch16_224", ["needs weights", "diffusion.feature.checkpoint=PATH"]),
        ("diffusion.feature.checkpoint=w.pth", ["diffusion.feature.teacher=TIMM_NAME"]),
        ("finetune.rand_augment_ops=4", ["finetune.rand_augment_ops was renamed to finetune.rand_augment (", "timm"]),
        (
            "finetune.rand_augment_magnitude=7",
            ["was renamed to finetune.rand_augment ("],
        ),
        ("finetune.rand_augment=4", ["override finetune.rand_augment=4: ", "must begin with rand-"]),
        ("finetune.rand_augment=rand-m7-n4", ["finetune.rand_augment=rand-m7-n4: must have inc1"]),
        ("finetune.pool=class", ["model.class_token=true"]),
        ("data.dataset=ssv2 finetune.flip=true", ["left from right", "finetune.flip=null"]),
        ("data.dataset=images", ["an image is one frame", "data.num_frames=1"]),
        ("pretrain.warmup_epochs=9", ["must be below pretrain.epochs"]),
        (
            "finetune.batch_size=10 finetune.accumulation=4",
            ["x finetune.accumulation (4)", "use 12"],
        ),
        ("pretrain.crop_scale=[0.9,0.1]", ["0 < smallest <= largest <= 1"]),
        ("data.std=[0,1,1]", ["must be above 0"]),
        ("data.mean=[1,2]", ["must have 3 numbers"]),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(empty: Path, overrides: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(empty, overrides.split())
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("pretrain: [1, 2", "not YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("seed: 1\nseed: 2\n", "broken.yaml:2: seed is given twice, in lines 1 and 2"),
        ("pretrain: {lrr: 1}\n", "did you mean pretrain.lr"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert word in str(caught.value)
    assert "broken.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such config"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path)


def test_a_wrong_value_in_the_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mask: {ratio: 2.0}\n")
    with pytest.raises(ConfigError, match=r"r\.yaml:1: mask\.ratio=2\.0: must lie in \(0, 1\)"):
        load_config(path, ["seed=3"])


def test_a_rule_broken_by_an_override_names_the_override(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mask: {ratio: 0.5}\n")
    with pytest.raises(ConfigError, match=r"^override mask\.ratio=2: mask\.ratio=2\.0: must lie in"):
        load_config(path, ["mask.ratio=0.6", "mask.ratio=2", "seed=3"])
