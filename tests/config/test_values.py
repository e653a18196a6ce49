"""Values are read by the type of their key, in files, overrides and sweeps alike."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmae_video.config import Config, ConfigError, dump_config, load_config, value_text
from diffmae_video.config.load import RENAMED, config_keys
from diffmae_video.config.rules import walk

# Texts that some version of YAML reads as another type.
LOOKALIKES = [
    *("0123", "007", "0o17", "0x1F", "0b1", "1e5", "1E5", "1_000", "12:00:00", "1:30", "190:20:30", "2026-11-25", "+1"),
    *(
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "true",
        "True",
        "FALSE",
        ".inf",
        "-.Inf",
        ".nan",
        "=",
        "<<",
        "1.",
        ".5",
        "NaN",
    ),
    *("a: b", "a #b", "#a", "[a", "{a", "- a", "*a", "&a", "!a", "%a", "@a", "`a", "'a'", '"a"', "|", ">", "a\\b"),
    *("${HOME}", "$HOME", "%j", " a ", "a,b", "a=b", "é", "日本", "-", "--x", "", "nul", "\u00a0"),
]
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs"))).filter(lambda text: text.lower() != "null")
DEFAULTS = {name: value for name, _, value in walk(Config())}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs") / "r.yaml"


def load(file: Path, text: str = "", *overrides: str) -> Config:
    file.write_text(text, encoding="utf-8")
    return load_config(file, overrides)


def refusal(file: Path, text: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("text", LOOKALIKES)
def test_text_stays_text(file: Path, text: str) -> None:
    config = load(file, "", f"slurm.account={text}", f"slurm.extra.comment={text}", f"slurm.stages.test.qos={text}")
    assert config.slurm.account == config.slurm.extra["comment"] == config.slurm.stages["test"]["qos"] == text
    assert load(file, dump_config(config)) == config


@pytest.mark.parametrize("text", [text for text in LOOKALIKES if re.fullmatch(r"[\w.:+-]+", text) and text != "-"])
def test_text_stays_text_in_a_file_without_quotes(file: Path, text: str) -> None:
    config = load(file, f"output_dir: {text}\nslurm:\n  account: {text}\n  extra: {{nice: {text}}}\n")
    assert (config.output_dir, config.slurm.account, config.slurm.extra) == (text, text, {"nice": text})


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_any_text_survives_an_override_a_dump_and_a_load(file: Path, text: str) -> None:
    config = load(file, "", f"wandb={text}", f"slurm.extra.x={text}")
    assert (config.wandb, config.slurm.extra) == (text, {"x": text})
    assert load(file, dump_config(config)) == config
    assert load(file, yaml.safe_dump({"wandb": text, "slurm": {"extra": {"x": text}}})) == config


def values_of(spec: dataclasses.Field[Any], default: Any) -> st.SearchStrategy[Any]:
    """Values that a key's own rule allows, by the type of its default."""
    if spec.metadata["choices"]:
        choice = st.sampled_from(spec.metadata["choices"])
        return choice.map(int) if isinstance(default, int) else choice
    if default is None or isinstance(default, bool):
        return st.sampled_from([True, False] if default is not None else [None, True, False])
    if isinstance(default, str):
        return TEXT.filter(lambda text: not text.startswith("~"))
    if isinstance(default, list):
        return st.lists(st.floats(0.01, 0.99), min_size=len(default), max_size=len(default)).map(sorted)
    low, high = (float(end) for end in (spec.metadata["bounds"] or "[-1e9, 1e9]")[1:-1].split(","))
    low, high = max(low, -1e9), min(high, 1e9)
    if isinstance(default, int):
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min=True, exclude_max=True)


FREE = [
    (name, spec, value)
    for name, spec, value in walk(Config())
    if not isinstance(value, dict)
    and name not in ("stages", "finetune.rand_augment")
    and not name.startswith("diffusion.feature")
]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_config_dumps_and_loads_to_itself(file: Path, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(FREE), unique_by=lambda key: key[0], max_size=6))
    wanted = {name: data.draw(values_of(spec, value), label=name) for name, spec, value in chosen}
    try:
        config = load(file, "", *(f"{name}={value_text(value)}" for name, value in wanted.items()))
    except ConfigError:  # keys that exclude each other
        return
    found = {name: value for name, _, value in walk(config)}
    assert found == DEFAULTS | wanted
    assert load(file, dump_config(config)) == config


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("12:00:00", 12.0),
        ("1-12:00:00", 36.0),
        ("0:30:00", 0.5),
        ("0:00:36", 0.01),
        ("2-0", 48.0),
        ("1-12", 36.0),
        ("1-00:30", 24.5),
        ("90", 90.0),
        ("0.5", 0.5),
        ("1e2", 100.0),
        ("012", 12.0),
    ],
)
def test_hours_may_be_written_as_slurm_writes_times(file: Path, text: str, hours: float) -> None:
    assert load(file, "", f"slurm.hours={text}").slurm.hours == pytest.approx(hours, abs=1e-12)
    assert load(file, f"slurm: {{hours: {text}}}").slurm.hours == pytest.approx(hours, abs=1e-12)


@pytest.mark.parametrize("text", ["12:00", "1:60:00", "1:00:60", "12h", "-1:00:00", "1-", "-5", "UNLIMITED", "nan", ""])
def test_times_that_are_none(file: Path, text: str) -> None:
    assert "hours" in refusal(file, "", f"slurm.hours={text}")


@pytest.mark.parametrize("text", ["nan", ".nan", "NaN", "inf", "-inf", ".inf", "1e999", "1_000", "0x10", "1:30", "yes"])
@pytest.mark.parametrize("key", ["pretrain.lr", "pretrain.epochs", "data.mean", "finetune.betas"])
def test_numbers_are_finite_decimal_ones(file: Path, key: str, text: str) -> None:
    value = f"[0.5,{text},0.5]" if isinstance(DEFAULTS[key], list) else text
    assert "must be a number, as 0.1 or 1e-3" in refusal(file, "", f"{key}={value}")
    section, word = key.split(".")
    assert "must be a number, as 0.1 or 1e-3" in refusal(file, f"{section}: {{{word}: {value}}}")


@pytest.mark.parametrize("text", ["1.5", "1e3", "1_000", "0x10", "yes", "", "1" * 30, "٣"])
def test_whole_numbers(file: Path, text: str) -> None:
    assert "must be a whole number" in refusal(file, "", f"pretrain.batch_size={text}")


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "1", "0", "", "tRUE"])
def test_truth_is_true_or_false(file: Path, text: str) -> None:
    assert refusal(file, "", f"compile={text}") == f"override compile={text}: must be true or false"


def test_a_value_that_may_be_null(file: Path) -> None:
    for text, value in (("null", None), ("~", None), ("true", True), ("false", False)):
        assert load(file, "", "pretrain.flip=true", f"pretrain.flip={text}").pretrain.flip is value
        assert load(file, f"pretrain: {{flip: {text}}}").pretrain.flip is value


@pytest.mark.parametrize(
    ("text", "stages"),
    [("finetune", ["finetune"]), ("finetune,test", ["finetune", "test"]), ("[finetune, test]", ["finetune", "test"])],
)
def test_a_list_needs_no_brackets(file: Path, text: str, stages: list[str]) -> None:
    assert load(file, "", f"stages={text}").stages == stages
    assert load(file, f"stages: {text}").stages == stages


def test_text_is_emptied_by_nothing_behind_the_equals_sign(file: Path) -> None:
    text = "finetune: {train_list: some.csv}\n"
    assert load(file, text, "finetune.train_list=").finetune.train_list == ""
    assert load(file, "finetune: {train_list: }\nwandb:\npretrain:\n").finetune.train_list == ""
    for line in (refusal(file, text, "finetune.train_list=null"), refusal(file, "finetune: {train_list: null}")):
        assert "null is no text; leave the value empty" in line
    assert load(file, "wandb: 'null'").wandb == "null"


def test_home_in_paths_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load(
        file, "data: {root: ~}", "output_dir=~/runs/a b", "wandb=~/x", "test.weights=./~x", "data.manifest=a~"
    )
    assert (config.output_dir, config.data.root) == ("/home/somebody/runs/a b", "/home/somebody")
    assert (config.wandb, config.test.weights, config.data.manifest) == ("~/x", "./~x", "a~")
    assert load(file, dump_config(config)) == config
    assert "no user nobody-here; write ./~nobody-here" in refusal(file, "", "output_dir=~nobody-here")


def test_every_key_that_holds_a_path_expands_home(file: Path) -> None:
    words = {"output_dir", "root", "train_list", "val_list", "manifest", "init", "weights"}
    keys = [key for key in config_keys() if key.rpartition(".")[2] in words]
    for key in keys:
        found = {name: value for name, _, value in walk(load(file, "", f"{key}=~/x"))}
        assert found[key] == os.path.expanduser("~/x"), key
    assert len(keys) >= len(words)


@pytest.mark.parametrize("character", ["\n", "\0", "\t", "\x7f", "\udcff", "\x85"])
def test_control_characters_are_refused(file: Path, character: str) -> None:
    assert "control character" in refusal(file, "", f"output_dir=a{character}b")


def test_the_last_override_wins_over_earlier_ones_and_the_file(file: Path) -> None:
    extra = "slurm: {extra: {a: 1, b: 2}}"
    assert load(file, "seed: 1", "seed=2", "seed=3").seed == 3
    assert load(file, extra, "slurm.extra.b=3", "slurm.extra.c=4").slurm.extra == {"a": "1", "b": "3", "c": "4"}
    assert load(file, extra, "slurm.extra={}").slurm.extra == {}
    mask = load(file, "", "mask={ratio: 0.5}", "mask.kind=random").mask
    assert (mask.kind, mask.ratio) == ("random", 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mask:\n  ratio: 0.5\n  kind: tube\n  ratio: 0.6\n", "r.yaml:4: ratio is given twice, in lines 2 and 4"),
        ("slurm:\n  extra:\n    a: 1\n    a: 2\n", "r.yaml:4: slurm.extra: a is given twice, in lines 3 and 4"),
        ("mask:\n\n  ratio: high\n", "r.yaml:3: mask.ratio=high: must be a number, as 0.1 or 1e-3"),
        ("seed: 1\nmask.ratio: 0.5\n", "r.yaml:2: unknown key mask.ratio in a file; write it nested, as mask: {ratio:"),
        ("seed: [1]\n", "r.yaml:1: seed: must be one value"),
        ("seed: !!python/name:os.system 1\n", "r.yaml:1: seed=1: values have no tags"),
        ("seed: !secret 1\n", "values have no tags"),
        ("pretrain: !x {lr: 1}\n", "values have no tags"),
        ("a: &a [*a]\n", "unknown key a"),
        ("data: {mean: &a [*a]}\n", "data.mean: must be one value"),
        ("mask: 0.5\n", "mask=0.5: is a section; set its keys, as mask.kind=VALUE"),
        ("? [1]\n: 2\n", "a key must be text"),
        ("seed: 1\n\tmask: 2\n", "not YAML"),
        ("seed: 1\n---\nseed: 2\n", "not YAML: but found another document, in line 2"),
        ("slurm: {extra: high}\n", "must be a mapping"),
        ("finetune:\n  rand_augment_ops: 2\n", "r.yaml:2: finetune.rand_augment_ops was renamed to finetune.rand_aug"),
        ("pretrain:\n  betas: [0.9, 1.5]\n", "r.yaml:2: pretrain.betas=1.5: must lie in [0, 1)"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(file: Path, text: str, words: str) -> None:
    line = refusal(file, text)
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mask={ratio: high}", "override mask={ratio: high}: mask.ratio=high: must be a number"),
        ("mask={ratio", "override mask={ratio: not YAML"),
        ("mask={ratio: 0.5, ratio: 0.6}", "ratio is given twice"),
        ("mask=", "override mask=: is a section"),
        ("stages=[pretrain", "not YAML"),
        ("stages=[[pretrain]]", "must be one value"),
        ("slurm.extra=a", "must be a mapping"),
        ("slurm.extra.a.b=c", "unknown key slurm.extra.a.b"),
        ("slurm.extra.=c", "unknown key slurm.extra."),
        ("slurm.extra.a=null", "null is no text"),
        ("slurm.stages.test=c", "unknown key slurm.stages.test"),
        ("slurm.stages.tset.nodes=1", "slurm.stages.tset: no such stage; there are pretrain, finetune, test"),
        ("slurm.stages.test.nods=1", "slurm.stages.test.nods=1: a stage can have its own nodes, gpus_per_node"),
        ("slurm.stages.test.stages=1", "slurm.stages.test.stages=1: a stage can have its own nodes"),
        ("slurm.stages.test.extra=1", "slurm.stages.test.extra=1: a stage can have its own nodes"),
        ("slurm.stages.test.nodes=many", "slurm.stages.test.nodes=many: must be a whole number"),
        ("slurm.stages.test.nodes=0", "slurm.stages.test.nodes=0: must lie in [1, inf)"),
        ("slurm.stages.test.hours=12:00", "slurm.stages.test.hours=12:00: must be a number of hours"),
        ("slurm.stages={test: {nodes: 1}, finetune: {hours: 0}}", "slurm.stages.finetune.hours=0.0: must lie in"),
        ("slurm.extra.x y=1", "slurm.extra.x y: must be the name of an sbatch option"),
        ("slurm.extra.--hold=true", "slurm.extra.--hold: must be the name of an sbatch option"),
        ("slurm.extra.nodes=3", "slurm.extra.nodes: tools/submit.py sets it; set slurm.nodes"),
        ("slurm.extra.cpus_per_task=3", "slurm.extra.cpus_per_task: tools/submit.py sets it; set slurm.cpus_per_task"),
        ("slurm.extra.output=x.log", "slurm.extra.output: tools/submit.py sets it"),
        ("output_dir=", "output_dir=: must name the run's folder"),
        ("output_dir=  ", "output_dir=  : must name the run's folder"),
        ("seed.x=1", "unknown key seed.x"),
        ("=1", "must read key=value"),
    ],
)
def test_what_is_wrong_in_an_override(file: Path, override: str, words: str) -> None:
    assert words in refusal(file, "", override)


def test_what_is_wrong_for_a_stage_is_named_with_where_it_stands(file: Path) -> None:
    text = "seed: 1\nslurm:\n  stages: {test: {nodes: 0}}\n"
    assert refusal(file, text) == f"{file}:3: slurm.stages.test.nodes=0: must lie in [1, inf)"
    good, bad = "slurm: {stages: {test: {nodes: 1}}}", "slurm.stages.test.nodes=0"
    assert refusal(file, good, bad).startswith(f"override {bad}: {bad}: must lie in")
    assert refusal(file, good, "slurm.stages.test.hours=1", bad, "seed=1").startswith(f"override {bad}: {bad}")
    whole = "slurm.stages={test: {nodes: 0}}"
    assert refusal(file, good, "slurm.stages.test.nodes=2", whole).startswith(f"override {whole}: {bad}")


def test_renamed_keys_lead_to_present_ones() -> None:
    for old, new in RENAMED.items():
        assert old not in config_keys()
        assert new in config_keys()
