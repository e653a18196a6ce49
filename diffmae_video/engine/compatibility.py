"""What makes two runs the same: the part of a config, the videos and the weights that decide a stage's result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffmae_video.config import Config, load_config
from diffmae_video.config.rules import walk
from diffmae_video.errors import UserError

# Sections that decide each stage's result, beside the seed and the precision.
_SECTIONS = {
    "pretrain": ("data", "model", "mask", "diffusion", "pretrain"),
    "finetune": ("data", "model", "finetune"),
    "test": ("data", "model", "test"),
}
# Keys of other sections that decide a test: how views are sampled, what the head reads.
_ALSO = {"test": ("finetune.sampling", "finetune.pool")}
# How a run is carried out: may differ between a run and its resumption. Files may have moved: what the lists say and
# the weights hold is compared instead, see digests.py.
_FREE = {
    "data.root",
    "data.train_list",
    "data.val_list",
    "data.manifest",
    "data.backend",
    "data.num_workers",
    "data.timeout_seconds",
    "data.max_broken",
    "model.checkpointing",
    "test.batch_size",
    "test.weights",
    "pretrain.init",
    "finetune.init",
    "finetune.train_list",
    "finetune.eval_epochs",
    *(
        f"{stage}.{key}"
        for stage in ("pretrain", "finetune")
        for key in ("accumulation", "checkpoint_epochs", "checkpoint_minutes", "keep_checkpoints", "max_bad_steps")
    ),
}

WAYS_OUT = "give another output_dir, or set it back"


class OtherRunError(UserError):
    """A folder or a checkpoint belongs to another run; one line naming the difference."""


def identity(config: Config, stage: str) -> dict[str, Any]:
    """The keys that decide what ``stage`` computes, as plain data; without paths, since files move."""
    sections = (*_SECTIONS[stage], "seed", "precision")
    return {
        name: value
        for name, _, value in walk(config)
        if name in _ALSO.get(stage, ())
        or (
            name.split(".")[0] in sections
            and name not in _FREE
            and not (stage != "pretrain" and name.startswith("model.decoder."))
        )
    }


def check_same_config(config: Config, folder: Path) -> None:
    """Refuse a folder in which another config has begun a training stage that ``config`` would go on with.

    Raises:
        OtherRunError: naming the first key that differs.
    """
    for stage in ("pretrain", "finetune"):
        path = stage_config(folder, stage)
        if stage in config.stages and (folder / stage).exists() and path.exists():
            _check_same_keys(identity(load_config(path), stage), identity(config, stage), where=path)


def stage_config(folder: Path, stage: str) -> Path:
    """Where a run keeps the config that ``stage`` used; runs of version 0.1.0 have one for all stages."""
    own = folder / stage / "config.yaml"
    return own if own.exists() else folder / "config.yaml"


# Digests in a stage's header, and what it means where they differ.
_DIGESTS = {
    "videos": "its list of videos says other names, labels, segments or classes",
    "val_videos": "its data.val_list, by which the best weights are chosen, says other names or labels",
    "init": "it began from other weights ({stage}.init)",
}


def check_same_run(saved: Mapping[str, Any], wanted: Mapping[str, Any], *, where: Path) -> None:
    """Refuse what was saved by another stage, config or class list, over other videos or from other weights.

    Args:
        saved: a checkpoint or a stage's record, with the entries of ``wanted``. Digests may be missing in either: in
            what version 0.1.0 saved, and where the file they are of is gone.
        wanted: ``stage``, ``identity``, ``classes``, ``num_videos`` and digests of the run at hand.
        where: what the message names.

    Raises:
        OtherRunError: naming the first difference and the ways out.
    """
    if saved["stage"] != wanted["stage"]:
        raise OtherRunError(f"{where}: is of stage {saved['stage']}, not {wanted['stage']}; give another output_dir")
    _check_same_keys(saved["identity"], wanted["identity"], where=where)
    if saved["classes"] != wanted["classes"]:
        raise OtherRunError(f"{where}: {_class_difference(saved['classes'], wanted['classes'])}; {WAYS_OUT}")
    if saved["num_videos"] != wanted["num_videos"]:
        counts = f"{saved['num_videos']} training videos, this one has {wanted['num_videos']}"
        raise OtherRunError(f"{where}: is of a run over {counts}; {WAYS_OUT}")
    for name, difference in _DIGESTS.items():
        if name in saved and name in wanted and saved[name] != wanted[name]:
            named = difference.format(stage=wanted["stage"])
            raise OtherRunError(f"{where}: is of another run: {named}; {WAYS_OUT}")


def _check_same_keys(saved: Mapping[str, Any], wanted: Mapping[str, Any], *, where: Path) -> None:
    for name in sorted((saved.keys() | wanted.keys()) - _FREE):
        before, now = (values.get(name, "nothing") for values in (saved, wanted))
        if before != now:
            raise OtherRunError(f"{where}: is of a run with {name}={before}, this one has {now}; {WAYS_OUT}")


def _class_difference(saved: list[str], wanted: list[str]) -> str:
    if len(saved) != len(wanted):
        return f"is of a run with {len(saved)} classes, this one has {len(wanted)}"
    first = next(i for i, (a, b) in enumerate(zip(saved, wanted, strict=True)) if a != b)
    return f"class {first} was {saved[first]!r}, now it is {wanted[first]!r}"
