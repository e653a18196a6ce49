"""What a run reads, all of it checked before the first step: lists, labels, videos, weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from diffmae_video import build
from diffmae_video.command_line import error_line, is_user_error
from diffmae_video.config import Config
from diffmae_video.data import VideoList
from diffmae_video.engine import setup
from diffmae_video.engine.checkpoint.single_file import peek_checkpoint
from diffmae_video.errors import UserError
from diffmae_video.weights.load import check_fit, choose_weights, encoder_part, weights_file


@dataclass(frozen=True)
class Inputs:
    """The lists of a run by split ("train", "finetune", "val"), and what is wrong with its inputs, a line each."""

    videos: dict[str, VideoList] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse to run with a problem.

        Raises:
            UserError: the first problem, and how many more there are.
        """
        if self.problems:
            more = len(self.problems) - 1
            raise UserError(self.problems[0] + (f" (and {more} more, listed by --dry-run)" if more else ""))

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Add what a user can put right to the problems, each once, and go on after the block."""
        try:
            yield
        except Exception as error:
            if not is_user_error(error):
                raise
            if (line := error_line(error)) not in self.problems:
                self.problems.append(line)


def read_inputs(config: Config, *, world_size: int, look_for_videos: bool = True) -> Inputs:
    """Read the lists of all stages of a config and check them, and all weights that it names, as far as is cheap.

    Args:
        config: of the run.
        world_size: ranks that share a batch.
        look_for_videos: see whether a few videos of each list are there. Those of a finished stage may be gone, and
            so may the weights that it began from.
    """
    inputs, folder = Inputs(), Path(config.output_dir)
    open_stages = {stage for stage in config.stages if not (folder / stage / "result.json").exists()}
    for split, readers in _readers(config).items():
        with inputs.collecting():
            videos = inputs.videos[split] = build.build_videos(config, split)
            if look_for_videos and open_stages & readers:
                setup.preflight(videos)
    for stage in config.stages:
        if stage != "test":
            _check_training(config, stage, inputs, world_size=world_size)
    if "pretrain" in open_stages:
        with inputs.collecting():
            _check_teacher(config)
    for stage in sorted(open_stages - {"test"}):
        with inputs.collecting():
            _check_initial_weights(config, stage)
    _check_labels(config, inputs)
    return inputs


def initial_weights(config: Config, stage: str) -> Path | None:
    """The file that a training stage's weights come from, which may not exist; None from scratch."""
    init = _init(config, stage)
    if init == "none":
        return None
    if stage == "finetune" and init == "pretrain":
        return Path(config.output_dir) / "pretrain" / "weights.pt"
    return weights_file(Path(init), "pretrain")


def tested_weights(config: Config) -> Path:
    """The file that the test stage scores.

    Raises:
        UserError: it isn't there.
    """
    stage, chosen = Path(config.output_dir) / "finetune", config.test.weights
    known = {"last": stage / "weights.pt", "best": stage / "checkpoints" / "best.pt"}
    path = known[chosen] if chosen in known else weights_file(Path(chosen), "finetune")
    if not path.exists():
        remedy = "run the finetune stage first" if chosen in known else "give a run, or a file that one left"
        also = " with finetune.eval_epochs above 0" if chosen == "best" else ""
        raise UserError(f"test.weights={chosen}: {path} is not there; {remedy}{also}")
    return path


def _readers(config: Config) -> dict[str, set[str]]:
    """The splits that the config's stages read, each with these stages."""
    validated = {"finetune"} if config.finetune.eval_epochs else set()
    readers = {"train": {"pretrain"}, "finetune": {"finetune"}, "val": {"test", *validated}}
    return {split: stages & set(config.stages) for split, stages in readers.items() if stages & set(config.stages)}


def _check_training(config: Config, stage: str, inputs: Inputs, *, world_size: int) -> None:
    """What the constructors of a stage's plan and clips refuse."""
    videos = inputs.videos.get({"pretrain": "train", "finetune": "finetune"}[stage])
    with inputs.collecting():
        setup.build_plan(config, stage, num_videos=len(videos) if videos else 1, world_size=world_size)
    if videos:
        with inputs.collecting():
            build.build_clips(config, stage, videos)


def _check_teacher(config: Config) -> None:
    path = config.diffusion.feature.checkpoint
    if path and not Path(path).is_file():
        raise UserError(f"diffusion.feature.checkpoint={path}: no such file; give the teacher's weights")


def _init(config: Config, stage: str) -> str:
    return {"pretrain": config.pretrain.init, "finetune": config.finetune.init}[stage]


def _check_initial_weights(config: Config, stage: str) -> None:
    init, path = _init(config, stage), initial_weights(config, stage)
    own = stage == "finetune" and init == "pretrain"
    if path is None or (own and "pretrain" in config.stages):
        return  # nothing, or what this run is about to make
    if own and not path.exists():
        raise UserError(
            f"finetune.init=pretrain: {path} is not there; run the pretrain stage first, or give finetune.init=PATH "
            "(or none, from scratch)"
        )
    if not path.exists():
        raise UserError(
            f"{stage}.init={init}: {path} is not there; give a run whose pre-training is finished, or a checkpoint, or "
            "none"
        )
    with _blamed_on(f"{stage}.init={init}"):
        weights = config.finetune.init_weights if stage == "finetune" else "auto"
        found = encoder_part(choose_weights(peek_checkpoint(path), weights, path=path))
        with torch.device("meta"):
            encoder = build.build_encoder(config)
        check_fit(encoder, found, path, resized=("positions",))


def _check_labels(config: Config, inputs: Inputs) -> None:
    """Labels and names of classes, of what is trained on and of what is scored, and that the latter know the former."""
    classes: Sequence[str] | None = None
    videos = inputs.videos.get("finetune")
    if videos is not None:
        with inputs.collecting():
            _need_labels(config, "finetune", videos)
            classes = videos.classes
    if "test" in config.stages:
        with inputs.collecting():
            tested = _tested_classes(config)
            classes = classes if tested is None else tested
    val = inputs.videos.get("val")
    if val is not None:
        with inputs.collecting():
            _need_labels(config, "val", val)
            if classes:
                build.class_labels(val, classes)


def _need_labels(config: Config, split: str, videos: VideoList) -> None:
    """Refuse a list without labels, or whose labels have no names."""
    path = config.data.val_list if split == "val" else config.finetune.train_list or config.data.train_list
    key = f"{build.list_key(config, split)}: {path}"
    unlabelled = (videos.labels < 0).nonzero()[0]
    if len(unlabelled):
        raise UserError(
            f"{key}: {len(unlabelled)} of {len(videos)} videos have no label ({videos.name(int(unlabelled[0]))}, ...); "
            "unlabelled videos can be pre-trained on, but not fine-tuned on or scored"
        )
    if not videos.classes:
        raise UserError(
            f"{key}: no classes.txt beside it, so labels have no names; write one name a line, or prepare the list "
            f"by {build.PREPARED_BY[config.data.dataset]}"
        )


def _tested_classes(config: Config) -> Sequence[str] | None:
    """The classes of the weights that will be tested; None where this run is yet to make these."""
    chosen, finetune = config.test.weights, config.finetune
    if chosen in ("last", "best") and "finetune" in config.stages:
        if chosen == "best" and not 0 < finetune.eval_epochs <= finetune.epochs:
            raise UserError(
                f"test.weights=best: fine-tuning of {finetune.epochs:g} epochs with finetune.eval_epochs="
                f"{finetune.eval_epochs:g} has no validation to choose by; set eval_epochs, or test.weights=last"
            )
        return None
    path = tested_weights(config)
    with _blamed_on(f"test.weights={chosen}"):
        saved = peek_checkpoint(path)
        classes: Sequence[str] = saved.get("classes") or ()
        if not classes:
            raise UserError(f"{path}: its weights are no classifier's; give those of a fine-tuning")
        check_classifier(config, saved, path)
    return classes


def check_classifier(config: Config, saved: Mapping[str, Any], path: Path) -> None:
    """Compare a fine-tuning checkpoint's weights with the config's classifier.

    Raises:
        UserError: they are of another model.
    """
    with torch.device("meta"):
        model = build.build_classifier(config, num_classes=len(saved["classes"]))
    check_fit(model, saved["model"], path)


@contextlib.contextmanager
def _blamed_on(key: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
