"""Sweeps: their points, names and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmae_video.config import ConfigError
from diffmae_video.launch.sweep import file_points, product_points, single_point


@pytest.fixture
def cfg(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(f"output_dir: {tmp_path}/runs\n")
    return str(path)


def test_a_single_point_has_the_configs_folder_made_absolute(cfg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(cfg).parent)
    assert single_point(cfg, []).config.output_dir == str(Path(cfg).parent / "runs")
    assert single_point(cfg, ["output_dir=here"]).config.output_dir == str(Path(cfg).parent / "here")


def test_a_product_is_in_the_order_of_its_axes(cfg: str, tmp_path: Path) -> None:
    points = product_points(cfg, ["seed=5"], ["pretrain.lr=1e-4,3e-4", "mask.ratio=0.75,0.9"])
    assert [point.name for point in points] == [
        "pretrain.lr=0.0001,mask.ratio=0.75",
        "pretrain.lr=0.0001,mask.ratio=0.9",
        "pretrain.lr=0.0003,mask.ratio=0.75",
        "pretrain.lr=0.0003,mask.ratio=0.9",
    ]
    assert [(p.config.pretrain.lr, p.config.mask.ratio) for p in points] == [
        (lr, ratio) for lr in (1e-4, 3e-4) for ratio in (0.75, 0.9)
    ]
    assert {point.config.seed for point in points} == {5}
    assert points[0].config.output_dir == f"{tmp_path}/runs/{points[0].name}"


def test_one_value_spelled_twice_is_one_point(cfg: str) -> None:
    points = product_points(cfg, [], ["pretrain.lr=1e-4,0.0001,3e-4"])
    assert [point.params for point in points] == [{"pretrain.lr": "0.0001"}, {"pretrain.lr": "0.0003"}]


def test_lists_keep_their_commas(cfg: str) -> None:
    points = product_points(cfg, [], ["stages=[pretrain],[pretrain,finetune]"])
    assert [point.config.stages for point in points] == [["pretrain"], ["pretrain", "finetune"]]
    assert [point.name for point in points] == ["stages=pretrain", "stages=pretrain_finetune"]


def test_points_that_would_share_a_folder_are_refused(cfg: str) -> None:
    with pytest.raises(ConfigError, match=r"two points would share the folder data.root=a_b"):
        product_points(cfg, [], ["data.root=a/b,a:b"])


def test_named_points(cfg: str, tmp_path: Path) -> None:
    path = tmp_path / "points.yaml"
    path.write_text("plain: {}\nlong: {pretrain.epochs: 1600, stages: [pretrain], data.root: 'a: b'}\n")
    plain, long = file_points(cfg, ["seed=3"], str(path))
    assert plain.params == {}
    assert long.config.pretrain.epochs == 1600
    assert long.config.data.root == "a: b"
    assert (long.config.stages, long.config.seed) == (["pretrain"], 3)
    assert long.config.output_dir == f"{tmp_path}/runs/long"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/b: {}", "point a/b: must be the name of a folder"),
        ("x: {mask.rato: 0.5}", "point x: .*unknown key mask.rato; did you mean mask.ratio"),
        ("x: 3", "yaml:1: must be a mapping, as {name: value}"),
        ("- x", "must be a mapping"),
        ("", "holds no points"),
        ("x: [", "not YAML"),
        ("x: {output_dir: y}", "output_dir can't be swept"),
        ("x: {seed: 1}\nx: {seed: 2}", r"points.yaml:2: x is given twice, in lines 1 and 2"),
        ("x:\n  seed: 1\n  seed: 2", r"points.yaml:3: seed is given twice, in lines 2 and 3"),
        ("a: {seed: 1}\nb: {seed: 01}", "points a and b are the same config"),
        (f"{'x' * 201}: {{seed: 1}}", "at most 200 bytes"),
    ],
)
def test_bad_point_files(cfg: str, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as raised:
        file_points(cfg, [], str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("mask.rato=0.5", "unknown key mask.rato; did you mean mask.ratio"),
        ("seed=0,one", "override seed=one"),
        ("mask.ratio=0.5,1.5", "mask.ratio"),
        ("slurm.nodes=1,2", "slurm.nodes can't be swept"),
        ("mask=a", "mask"),
        ("seed", "must read key=value,value"),
        ("seed=", "must read key=value,value"),
        ("seed=0,,1", "must read key=value,value"),
    ],
)
def test_bad_axes(cfg: str, axis: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        product_points(cfg, [], [axis])
    assert "\n" not in str(raised.value)


def test_a_key_swept_twice_is_refused(cfg: str) -> None:
    with pytest.raises(ConfigError, match="seed is given twice"):
        product_points(cfg, [], ["seed=0,1", "mask.ratio=0.5", "seed=2"])


def test_values_stay_text(cfg: str, tmp_path: Path) -> None:
    """What looks like YAML's octal, sexagesimal or truth stays as typed, in a product and in a file."""
    texts = ["007", "1e5", "12:00", "no", "0x1f", "2026-11-25", "1_000", "a: b"]
    assert [p.config.wandb for p in product_points(cfg, [], ["wandb=" + ",".join(texts)])] == texts
    path = tmp_path / "points.yaml"
    path.write_text("".join(f"p{i}: {{wandb: {text}}}\n" for i, text in enumerate(texts[:-1])))
    assert [p.config.wandb for p in file_points(cfg, [], str(path))] == texts[:-1]


def test_lists_and_mappings_of_a_file_of_points(cfg: str, tmp_path: Path) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(
        "x:\n  stages:\n  - pretrain\n  - 'finetune'\n  mask: {kind: frame, ratio: 0.5}\n  finetune.flip: null\n"
    )
    (point,) = file_points(cfg, [], str(path))
    assert point.config.stages == ["pretrain", "finetune"]
    assert (point.config.mask.kind, point.config.mask.ratio) == ("frame", 0.5)


def test_names_too_long_for_a_folder_are_cut_and_stay_apart(cfg: str) -> None:
    long = "x" * 300
    first, second = product_points(cfg, [], [f"data.root={long}a,{long}b"])
    assert first.name != second.name
    assert max(len(point.name.encode()) for point in (first, second)) <= 200
    assert first.name.startswith("data.root=xxx")
    assert (first.params["data.root"], second.params["data.root"]) == (f"{long}a", f"{long}b")
    assert first.name == product_points(cfg, [], [f"data.root={long}a"])[0].name


def test_home_is_expanded_once(cfg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert single_point(cfg, ["output_dir=~/runs"]).config.output_dir == "/home/somebody/runs"


def test_a_stage_of_its_own_has_its_own_resources(cfg: str) -> None:
    point = single_point(cfg, ["slurm.nodes=8", "slurm.stages.test.nodes=1", "slurm.stages.test.hours=0.5"])
    test, pretrain = point.for_stage("test"), point.for_stage("pretrain")
    assert (test.stages, test.slurm.nodes, test.slurm.hours) == (["test"], 1, 0.5)
    assert (pretrain.stages, pretrain.slurm.nodes, pretrain.slurm.hours) == (["pretrain"], 8, 24.0)
