"""A result is a result of its inputs: what a finished stage is held to, what it says, and where it is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from driven import arguments, drive, drive_and_stop, metrics_of, result_of

from diffmae_video import load_classifier, load_diffmae, load_encoder
from diffmae_video.config import load_config
from diffmae_video.engine import cli, stages
from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.engine.results import write_result
from diffmae_video.engine.train.evaluate import Scores
from diffmae_video.engine.train.trainer import Trainer
from diffmae_video.launch.cli import sweep_main
from tests.conftest import TINY_RECIPE

RunRanks = Callable[..., list[int | None]]
SHORT = ["pretrain.epochs=1", "pretrain.warmup_epochs=0", "finetune.epochs=2", "finetune.eval_epochs=1"]


@pytest.fixture(scope="module")
def finished(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; copied by each test."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "r.yaml").write_text(TINY_RECIPE.format(videos=tiny_videos, output_dir=folder / "run"))
    assert cli.main(arguments(folder / "r.yaml", *SHORT)) == 0
    return folder


@pytest.fixture
def command(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The command line of the finished run, in a copy of its folder."""
    shutil.copytree(finished / "run", tmp_path / "run")
    capsys.readouterr()
    return arguments(finished / "r.yaml", *SHORT, f"output_dir={tmp_path / 'run'}")


def scored_in(run: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in (run / "test").glob("*/result.json")}


def another_list(folder: Path, videos: Path, split: str, lines: Callable[[list[str]], list[str]]) -> Path:
    folder.mkdir()
    header, *rows = (videos / f"{split}.csv").read_text().splitlines()
    (folder / "other.csv").write_text("\n".join([header, *lines(rows)]) + "\n")
    shutil.copy(videos / "classes.txt", folder)
    return folder / "other.csv"


def relabelled(rows: list[str]) -> list[str]:
    name, label = rows[0].split(",")
    return [f"{name},{(int(label) + 1) % 3}", *rows[1:]]


def test_another_list_is_another_result_and_both_are_kept(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    first = result_of(run, "test")
    other = another_list(tmp_path / "other", tiny_videos, "val", relabelled)
    assert cli.main([*command, "stages=[test]", f"data.val_list={other}"]) == 0
    assert "finished before" not in capsys.readouterr().out
    second = result_of(run, "test")
    assert second["videos"] != first["videos"]
    assert (second["num_videos"], second["given"]["data.val_list"]) == (first["num_videos"], str(other))
    assert sorted(scored_in(run).values(), key=str) == sorted([first, second], key=str)
    assert load_config(run / "config.yaml").data.val_list == str(other)
    assert load_config(run / "finetune" / "config.yaml").data.val_list != str(other)
    # Back again: said, with its score, and shown in the stage's own folder; nothing is scored.
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "test: finished before" in out
    for name in ("model", "ema"):
        assert f"test: {name}: top-1 {first[name]['top1']:.2%}, top-5 {first[name]['top5']:.2%}, used 5 of 5" in out
    assert result_of(run, "test") == first
    assert len(scored_in(run)) == 2


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (["test.views=3"], False),
        (["data.fps=5"], False),
        (["test.weights=best"], False),
        (["test.batch_size=1"], True),
        (["data.num_workers=1"], True),
    ],
)
def test_views_and_weights_are_of_the_result_and_how_it_is_carried_out_is_not(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], same: bool
) -> None:
    run = tmp_path / "run"
    best = run / "finetune" / "checkpoints" / "best.pt"
    saved = load_checkpoint(best)
    saved["model"]["head.bias"] += 1  # other weights than the last, whichever validation was the best
    save_checkpoint(best, saved)
    config = (run / "config.yaml").read_text()
    assert cli.main([*command, "stages=[test]", *overrides]) == 0
    assert ("finished before" in capsys.readouterr().out) == same
    assert len(scored_in(run)) == (1 if same else 2)
    assert ((run / "config.yaml").read_text() == config) == same


def test_other_weights_under_the_same_name_are_scored_anew_and_the_same_in_a_new_file_are_not(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    path = run / "finetune" / "weights.pt"
    saved = load_checkpoint(path)
    save_checkpoint(tmp_path / "copy.pt", {**saved, "step": 1})
    assert cli.main([*command, "stages=[test]", f"test.weights={tmp_path / 'copy.pt'}"]) == 0
    assert "finished before" in capsys.readouterr().out
    saved["ema"]["head.bias"] = saved["ema"]["head.bias"] + 1
    save_checkpoint(path, saved)
    assert cli.main([*command, "stages=[test]"]) == 0
    assert "finished before" not in capsys.readouterr().out
    assert len(scored_in(run)) == 2


def test_moved_videos_and_lists_are_the_same_result(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_videos, moved)
    places = [f"data.root={moved}", f"data.train_list={moved}/train.csv", f"data.val_list={moved}/val.csv"]
    assert cli.main([*command, *places]) == 0
    assert capsys.readouterr().out.count("finished before") == 3
    assert len(scored_in(tmp_path / "run")) == 1


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("state", ["finished", "begun"])
def test_another_training_split_of_as_many_videos_is_refused(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, state: str
) -> None:
    if state == "begun":
        (tmp_path / "run" / stage / "result.json").unlink()
    other = another_list(tmp_path / "other", tiny_videos, "train", relabelled)
    overrides = [f"stages=[{stage}]", f"data.train_list={other}"]
    assert cli.main([*command, *overrides]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its list of videos says other names, labels, segments or classes; give another output_dir" in line


def test_a_fine_tuning_is_held_to_its_initial_weights_and_validation_list(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run, tmp_path / "source")
    from_there = [*command, "stages=[finetune]", f"finetune.init={tmp_path / 'source'}"]
    assert cli.main(from_there) == 0  # the same weights, in another run's folder
    assert "finetune: finished before" in capsys.readouterr().out
    path = tmp_path / "source" / "pretrain" / "weights.pt"
    saved = load_checkpoint(path)
    saved["model"]["encoder.embed.bias"] = saved["model"]["encoder.embed.bias"] + 1
    save_checkpoint(path, saved)
    assert cli.main(from_there) == 2
    assert "it began from other weights (finetune.init)" in capsys.readouterr().err
    other = another_list(tmp_path / "other", tiny_videos, "val", relabelled)
    assert cli.main([*command, "stages=[finetune]", f"data.val_list={other}"]) == 2
    assert "by which the best weights are chosen" in capsys.readouterr().err
    assert cli.main([*command, "stages=[finetune]", f"data.val_list={other}", "finetune.eval_epochs=0"]) == 0


def test_fine_tuning_begins_from_a_runs_folder(command: list[str], tmp_path: Path) -> None:
    source = tmp_path / "run"
    begin = [f"output_dir={tmp_path / 'new'}", f"finetune.init={source}", "stages=[finetune]", "finetune.lr=1e-12"]
    assert cli.main([*command, *begin]) == 0
    ours = load_encoder(tmp_path / "new", stage="finetune").state_dict()
    for name, value in load_encoder(source).state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-4)


def test_a_result_that_does_not_say_what_it_is_of_is_put_aside(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "test"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "result.json").write_text('{"stage": "test", "identity": {}, "model": {"top1": 1.0}}')
    assert cli.main(command) == 0
    assert "result-unnamed.json: is the result found here, which doesn't say" in capsys.readouterr().out
    assert json.loads((folder / "result-unnamed.json").read_text())["model"] == {"top1": 1.0}
    assert len(scored_in(tmp_path / "run")) == 1
    assert result_of(tmp_path / "run", "test")["weights_sha256"]


def test_a_test_that_read_nothing_is_not_finished(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_videos, tmp_path / "empty")
    for video in (tmp_path / "empty").glob("*.mp4"):
        video.write_bytes(b"")
    elsewhere = ["stages=[test]", f"data.root={tmp_path / 'empty'}", "test.views=1"]
    assert cli.main([*command, *elsewhere]) == 2
    err = capsys.readouterr().err.splitlines()
    assert sum("can't read" in line for line in err) == 5
    assert "error: test: none of 5 videos could be read" in err[-1]
    assert len(scored_in(tmp_path / "run")) == 1
    (named,) = (tmp_path / "run" / "test").glob("*/broken.csv")
    assert len(named.read_text().splitlines()) == 6
    assert cli.main([*command, "stages=[test]", "test.views=1"]) == 0
    assert result_of(tmp_path / "run", "test")["model"]["used"] == 5
    assert not named.exists(), "of the scoring that failed, in the same place"


def test_videos_that_can_be_read_by_now_are_scored(
    command: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At their place or below another root; while none can be, the test is finished."""
    for root in ("some", "more"):
        shutil.copytree(tiny_videos, tmp_path / root)
    for damaged in ("some/val-1.mp4", "some/val-3.mp4", "more/val-3.mp4"):
        (tmp_path / damaged).write_bytes(b"")
    test = [*command, "stages=[test]", "test.views=1"]
    for root, used, again in (
        ("some", 3, None),
        ("some", 3, 0),
        ("more", 4, 1),
        ("some", 4, 0),  # those of "more" are still read nowhere else
        (tiny_videos, 5, 1),
        ("some", 5, 0),
    ):
        assert cli.main([*test, f"data.root={tmp_path / root}"]) == 0
        out = capsys.readouterr().out
        assert ("test: finished before" in out) == (again == 0)
        assert (f"test: {again} videos that could not be read before can be read now" in out) == bool(again)
        assert result_of(tmp_path / "run", "test")["model"]["used"] == used


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": NULL}'])
@pytest.mark.parametrize("file", ["status.json", "pretrain/result.json", "test/result.json"])
def test_a_damaged_record_is_one_line(
    command: list[str], file: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / file
    path.write_text(text)
    for refused in (cli.main(command), sweep_main([str(tmp_path / "run")])):
        assert refused == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is damaged, not ")[0] for line in lines] == [f"error: {path}:"] * 2
    path.unlink()
    assert cli.main(command) == 0
    assert path.exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_result_holds_what_is_no_number(tmp_path: Path, number: float) -> None:
    write_result(tmp_path, {"top1": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, {"model": {"top1": number}})
    assert json.loads((tmp_path / "result.json").read_text()) == {"top1": 0.5}


def test_a_last_step_that_was_skipped_leaves_no_nan(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = Trainer.backward

    def bad_last(self: Trainer, loss: torch.Tensor, **sums: torch.Tensor) -> None:
        backward(self, loss * (float("nan") if self.step == self.plan.num_steps - 1 else 1), **sums)

    monkeypatch.setattr(Trainer, "backward", bad_last)
    assert cli.main(arguments(tiny_config, *SHORT, "stages=[pretrain]")) == 0
    assert "NaN" not in (tmp_path / "run" / "pretrain" / "result.json").read_text()
    assert result_of(tmp_path / "run", "pretrain")["final_loss"] is None


def test_each_stage_keeps_the_config_that_it_used(command: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.rmtree(run / "finetune")
    assert cli.main([*command, "stages=[finetune]", "model.decoder.depth=2", "mask.ratio=0.5"]) == 0
    assert load_config(run / "pretrain" / "config.yaml").model.decoder.depth == 1
    assert load_config(run / "finetune" / "config.yaml").model.decoder.depth == 2
    model, config = load_diffmae(run)
    assert (config.mask.ratio, len(model.decoder.blocks)) == (0.75, 1)
    assert load_classifier(run)[1] == ["still", "left", "right"]
    shutil.copy(run / "pretrain" / "config.yaml", run / "config.yaml")
    (run / "pretrain" / "config.yaml").unlink()  # a run of version 0.1.0
    assert load_diffmae(run)[1] == config


def test_a_resume_says_from_which_step_of_which_checkpoint(
    tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    command = arguments(tiny_config, "stages=[pretrain]")
    assert run_ranks(drive_and_stop, 1, tmp_path / "a", command, "pretrain", 4, tmp_path) == [75]
    assert run_ranks(drive, 1, tmp_path / "b", command) == [0]
    path = tmp_path / "run" / "pretrain" / "checkpoints" / "step-00000005.pt"
    assert f"pretrain: goes on from step 5 of 12, {path}\n" in (tmp_path / "b" / "rank-0.log").read_text()
    assert "goes on from" not in (tmp_path / "a" / "rank-0.log").read_text()


def test_validation_is_in_the_metrics_and_in_the_result(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = finished / "run"
    lines = metrics_of(run, "finetune")
    assert [line["step"] for line in lines] == list(range(6)), "a line a step"
    names = [f"{kind}_{score}" for kind in ("val", "val_ema") for score in ("top1", "top5")]
    assert [line["step"] for line in lines if set(names) & line.keys()] == [2, 5]
    validated = [{name: line[name] for name in names} for line in lines if "val_top1" in line]
    result = result_of(run, "finetune")["validation"]
    assert result["last"] == {"steps": 6, **validated[1]}
    best = max(validated, key=lambda scores: scores["val_ema_top1"])
    assert result["best"] == {"steps": 3 * (validated.index(best) + 1), **best}
    assert load_checkpoint(run / "finetune" / "checkpoints" / "best.pt")["step"] == result["best"]["steps"]
    board = EventAccumulator(str(run / "finetune" / "tensorboard"))
    board.Reload()
    for name in names:
        assert [(event.step, event.value) for event in board.Scalars(name)] == [
            (step, pytest.approx(line[name])) for step, line in zip((2, 5), validated, strict=True)
        ]


@pytest.mark.parametrize(("decay", "best"), [(0.9, 3), (0.0, 9)])
def test_the_best_is_chosen_by_the_weights_that_are_tested(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay: float, best: int
) -> None:
    """The averages are best first, the weights themselves later; a score that is no number is never the best."""
    scripted = {"validate model": iter([0.1, float("nan"), 0.8, 0.2]), "validate ema": iter([0.5, 0.4, 0.5, 0.3])}
    weights: dict[str, list[torch.Tensor]] = {}

    def score(this: Any, model: torch.nn.Module, videos: Any, *, name: str, **rest: Any) -> Scores:
        weights.setdefault(name, []).append(next(model.parameters()).detach().clone())
        top1 = next(scripted[name])
        return Scores(top1=top1, top5=top1, used=0 if top1 != top1 else 5, total=5, unread=[])

    monkeypatch.setattr(stages, "_score", score)
    overrides = ["stages=[finetune]", "finetune.init=none", "finetune.epochs=4", "finetune.eval_epochs=1"]
    overrides += [f"finetune.ema_decay={decay}", "finetune.batch_size=4"]
    assert cli.main(arguments(tiny_config, *overrides)) == 0
    saved = load_checkpoint(tmp_path / "run" / "finetune" / "checkpoints" / "best.pt")
    assert saved["step"] == best
    validation = result_of(tmp_path / "run", "finetune")["validation"]
    assert (validation["best"]["steps"], validation["last"]["steps"]) == (best, 12)
    if decay:  # what was scored as the average is what best.pt has as the average
        name = next(iter(saved["model"]))
        assert torch.equal(weights["validate ema"][0], saved["ema"][name])
        assert torch.equal(weights["validate model"][0], saved["model"][name])
        assert not torch.equal(weights["validate ema"][0], weights["validate model"][0])
