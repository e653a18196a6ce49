"""Every key of a config reaches what it is for, and is part of the identity of the stages that it decides.

The table ``ROWS`` has each key with a value of its own, and what must then be found in the objects that a run builds:
a run of each stage is begun by ``runner.run`` and looked at where its loop would start.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from diffmae_video import build
from diffmae_video.build import datasets, models
from diffmae_video.config import Config, load_config
from diffmae_video.config.rules import walk
from diffmae_video.data import read_videos
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.diffusion import Schedule, Teacher
from diffmae_video.engine import runner, stages
from diffmae_video.engine.checkpoint.single_file import save_checkpoint
from diffmae_video.engine.compatibility import identity
from diffmae_video.engine.monitor import metrics
from diffmae_video.launch.submission import make_job, plan_phases, script_of
from diffmae_video.launch.sweep import Point, single_point

FLOPS = 1000  # of a clip, whatever the model


@dataclass(frozen=True)
class Row:
    """A key's value in a variant of the base config, and what it must change.

    Attributes:
        value: as it is written behind ``key=``.
        probe: of what is built, to what the key decides in it.
        expected: what the probe must find; in the base config, or in ``against``, it must find something else.
        variant: configs of one variant have all its rows' values at once.
    """

    value: str
    probe: Callable[[Built], Any]
    expected: Any
    variant: str = "main"
    against: str = "base"


class LoopReached(BaseException):
    """A stage is built; what follows is left out."""


class Built:
    """What a run of a config builds, each stage when it is first looked at.

    Attributes:
        pretrain, finetune: arguments of the loop: ``training``, ``clips`` and the keyword arguments by name.
        validation, test: arguments of ``evaluate``: ``views`` and the keyword arguments by name.
        begun: what was noted on the way: ``lists``, ``device``, ``parallel``, ``wandb``, ``teacher``, ``read``.
    """

    def __init__(self, config: Config, cfg: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.cfg, self.overrides = config, cfg, overrides
        self._patch = monkeypatch
        self.begun = SimpleNamespace(lists={}, read=[], teacher=None, wandb=None, compiled=[])

    @functools.cached_property
    def order(self) -> list[str]:
        """The stages that are run, in order."""
        ran: list[str] = []
        steps = {name: functools.partial(lambda this, name: ran.append(name), name=name) for name in runner.STAGES}
        with self._patch.context() as patch:
            self._note(patch)
            patch.setattr(runner, "STAGES", steps)
            patch.setattr(runner, "read_inputs", lambda *_, **__: SimpleNamespace(check=lambda: None), raising=False)
            runner.run(dataclasses.replace(self.config, output_dir=f"{self.config.output_dir}-order"))
        return ran

    @functools.cached_property
    def pretrain(self) -> SimpleNamespace:
        return self._loop("pretrain", [])

    @functools.cached_property
    def finetune(self) -> SimpleNamespace:
        return self._loop("finetune", ["validation"])

    @functools.cached_property
    def validation(self) -> SimpleNamespace:
        return self.finetune.validation

    @functools.cached_property
    def test(self) -> SimpleNamespace:
        return self._loop("test", [])

    @functools.cached_property
    def script(self) -> dict[str, str]:
        """Options of the sbatch script."""
        text = script_of(self._phase, folder=Path("/f"), code=Path("/c"), max_parallel=1)
        return dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))

    @property
    def point(self) -> Point:
        return single_point(str(self.cfg), self.overrides)

    @property
    def _phase(self) -> Any:
        return plan_phases([self.point], split_stages=False)[0]

    @property
    def max_requeues(self) -> int:
        return make_job(self._phase, 0).max_requeues

    def _loop(self, stage: str, also: list[str]) -> SimpleNamespace:
        """Begin ``stage`` and leave it where its loop starts."""
        found = SimpleNamespace()

        def loop(training: Any, *objects: Any, **named: Any) -> None:
            found.__dict__.update(named, training=training, clips=objects[-1], model=training.state.model)
            found.precision = torch.get_float32_matmul_precision()
            if "validation" in also:
                with pytest.raises(LoopReached):
                    named["validate"]()
            raise LoopReached

        def evaluate(model: nn.Module, views: Any, **named: Any) -> None:
            place = found if stage == "test" else SimpleNamespace()
            place.__dict__.update(named, model=model, views=views, precision=torch.get_float32_matmul_precision())
            found.validation = place
            raise LoopReached

        only = dataclasses.replace(self.config, stages=[stage])
        with self._patch.context() as patch:
            self._note(patch)
            patch.setattr(stages, "pretrain", loop)
            patch.setattr(stages, "finetune", loop)
            patch.setattr(stages, "evaluate", evaluate)
            with pytest.raises(LoopReached):
                runner.run(only)
        return found

    def _note(self, patch: pytest.MonkeyPatch) -> None:
        """Note what is called with the config's keys, and leave out what takes long or isn't here."""
        begun, init_distributed = self.begun, runner.init_distributed
        load, encoder = stages.load_checkpoint, stages.load_encoder_weights

        def read(path: Path | str, **options: Any) -> Any:
            begun.lists[Path(path).name] = options
            return read_videos(path, **{**options, "dataset": "list", "manifest": None})

        def start(device: str) -> Any:
            begun.device = device
            return init_distributed("cpu")

        def parallelize(model: nn.Module, world: Any, *, strategy: str) -> nn.Module:
            begun.parallel = strategy
            return model

        def start_wandb(project: str, folder: Path) -> Any:
            begun.wandb = project
            return SimpleNamespace(finish=lambda: None)

        def teacher(name: str, *, checkpoint: str) -> Teacher:
            begun.teacher = (name, checkpoint)
            return Teacher(lambda frames: frames, width=7, mean=[0.5] * 3, std=[0.5] * 3)

        patch.setattr(datasets, "read_videos", read)
        patch.setattr(runner, "init_distributed", start)
        patch.setattr(stages, "parallelize", parallelize)
        patch.setattr(metrics, "_start_wandb", start_wandb)
        patch.setattr(models, "timm_teacher", teacher)
        patch.setattr(nn.Module, "compile", lambda model: begun.compiled.append(model))
        patch.setattr(stages, "load_checkpoint", lambda path: (begun.read.append(str(path)), load(path))[1])
        patch.setattr(
            stages,
            "load_encoder_weights",
            lambda e, path, **kind: (begun.read.append(str(path)), begun.read.append(kind), encoder(e, path, **kind)),
        )
        patch.setattr(stages, "load_diffmae_weights", lambda model, path: begun.read.append(str(path)))
        patch.setattr(stages, "measure_peak_flops", lambda *_: 1.0)
        for count in ("pretrain_flops", "finetune_flops"):
            patch.setattr(stages, count, lambda _: FLOPS)


def groups(built: Built, stage: str) -> list[dict[str, Any]]:
    return getattr(built, stage).training.state.optimizer.param_groups


def clips_and_views(name: str) -> Callable[[Built], Any]:
    """An attribute of both stages' clips and of both kinds of views."""
    return lambda b: [getattr(d, name) for d in (b.pretrain.clips, b.finetune.clips, b.validation.views, b.test.views)]


def opener(name: str) -> Callable[[Built], Any]:
    openers = clips_and_views("_open")
    return lambda b: [getattr(opened, name) for opened in openers(b)]


def encoders(probe: Callable[[Any], Any]) -> Callable[[Built], Any]:
    """Something of the encoders of all three stages."""
    return lambda b: [probe(part.model.encoder) for part in (b.pretrain, b.finetune, b.test)]


def decoders(built: Built) -> list[nn.Module]:
    """The decoder of pixels, and that of features where there is a teacher."""
    model = built.pretrain.model
    return [model.decoder, *([model.features.decoder] if model.features else [])]


def normalised(name: str) -> Callable[[Built], Any]:
    """Of the pixels that each loop and each evaluation gives its model, and of the units of an erased box."""
    return lambda b: [
        list(value)
        for part in (b.pretrain, b.finetune, b.validation, b.test)
        for value in (getattr(part, name), *([getattr(part.clips, name)] if hasattr(part, "clips") else []))
    ]


def training_rows(stage: str, *, epochs: int, batch: int, parts: int, clips: int, decay: str) -> dict[str, Row]:
    """The keys that both stages have; ``epochs`` above 4, of 12 videos."""
    in_epoch = 12 // batch
    plan = lambda name: lambda b: getattr(getattr(b, stage).training.plan, name)  # noqa: E731
    of = lambda probe: lambda b: probe(getattr(b, stage))  # noqa: E731
    rows = {
        "epochs": Row(f"{epochs}", plan("num_steps"), epochs * in_epoch),
        "warmup_epochs": Row(f"{epochs - 3}", plan("warmup_steps"), (epochs - 3) * in_epoch),
        "batch_size": Row(f"{batch}", plan("batch_size"), batch),
        "accumulation": Row(f"{parts}", plan("accumulation"), parts),
        "clips_per_video": Row(
            f"{clips}",
            of(lambda s: (s.clips.clips_per_video, s.training.speed.flops_per_video)),
            (clips, clips * FLOPS),
        ),
        "lr": Row(f"{epochs}e-2", plan("peak_lr"), pytest.approx(epochs * 1e-2 * batch / 256)),
        "min_lr": Row(f"{epochs}e-4", plan("floor_lr"), epochs * 1e-4),
        "decay": Row(decay, plan("decay"), decay),
        "betas": Row(f"[0.{epochs},0.9{epochs}]", lambda b: groups(b, stage)[0]["betas"],
                     (epochs / 10, float(f"0.9{epochs}"))),
        "weight_decay": Row(f"0.{epochs}", lambda b: {g["weight_decay"] for g in groups(b, stage)}, {0.0, epochs / 10}),
        "clip_grad": Row(f"1.{epochs}", plan("clip_grad"), 1 + epochs / 10),
        "ema_decay": Row(f"0.{epochs}", of(lambda s: s.training.state.ema_decay), epochs / 10),
        "crop_scale": Row(f"[0.{epochs},0.9]", of(lambda s: s.clips.scale), (epochs / 10, 0.9)),
        "flip": Row("false", of(lambda s: s.clips.flip), False, variant="second", against="main"),
        "checkpoint_epochs": Row(f"{epochs - 2}", plan("checkpoint_steps"), (epochs - 2) * in_epoch),
        "checkpoint_minutes": Row(f"{epochs + 1}", plan("checkpoint_minutes"), epochs + 1),
        "keep_checkpoints": Row(f"{epochs}", of(lambda s: s.training.manager._whole.keep_last), epochs),
        "max_bad_steps": Row(f"{epochs}", of(lambda s: s.training.bad_steps.limit), epochs),
    }  # fmt: skip
    return {f"{stage}.{name}": row for name, row in rows.items()}


def on_a_cluster(rows: dict[str, Row]) -> dict[str, Row]:
    """In a variant of their own, since ranks must share out the batches."""
    return {key: dataclasses.replace(row, variant=row.variant.replace("main", "cluster")) for key, row in rows.items()}


# Eight frames of 48 x 48 pixels are 2 x 3 x 3 cubes here.
ROWS: dict[str, Row] = {
    "stages": Row("[finetune,test]", lambda b: b.order, ["finetune", "test"]),
    "output_dir": Row("{folder}/other", lambda b: str(b.pretrain.training.folder), "{folder}/other/pretrain"),
    "seed": Row(
        "5",
        lambda b: [s for p in (b.pretrain, b.finetune) for s in (p.training.plan.seed, p.clips.seed)],
        [5] * 4,
    ),
    "device": Row("cpu", lambda b: (b.pretrain, b.begun.device)[1], "cpu"),
    "precision": Row(
        "bf16",
        lambda b: [b.pretrain.training.dtype, b.finetune.training.dtype, b.validation.dtype, b.test.dtype],
        [torch.bfloat16] * 4,
    ),
    "tf32": Row("false", lambda b: [p.precision for p in (b.pretrain, b.finetune, b.test)], ["highest"] * 3),
    "compile": Row("true", lambda b: [p.model in b.begun.compiled for p in (b.pretrain, b.finetune)], [True, True]),
    "parallel": Row("fsdp", lambda b: (b.pretrain, b.begun.parallel)[1], "fsdp"),
    "sharded_checkpoints": Row(
        "true", lambda b: [p.training.manager.sharded for p in (b.pretrain, b.finetune)], [True, True]
    ),
    "wandb": Row("films", lambda b: (b.pretrain, b.begun.wandb)[1], "films"),
    "data.dataset": Row(
        "ucf101", lambda b: (b.pretrain, {o["dataset"] for o in b.begun.lists.values()})[1], {"ucf101"}
    ),
    "data.root": Row("{folder}/moved", lambda b: b.pretrain.clips.videos.root, "{folder}/moved"),
    "data.train_list": Row("{folder}/lists/other.csv", lambda b: (b.pretrain, "other.csv" in b.begun.lists)[1], True),
    "data.val_list": Row("{folder}/lists/held.csv", lambda b: (b.test, "held.csv" in b.begun.lists)[1], True),
    "data.swap_flip_labels": Row("true", lambda b: b.pretrain.clips.videos.flip_labels is not None, True),
    "data.manifest": Row(
        "{folder}/m.csv", lambda b: (b.pretrain, {o["manifest"] for o in b.begun.lists.values()})[1], {"{folder}/m.csv"}
    ),
    "data.num_frames": Row("8", clips_and_views("num_frames"), [8] * 4),
    "data.stride_frames": Row("3", clips_and_views("stride_frames"), [3] * 4),
    "data.fps": Row("12", clips_and_views("fps"), [12.0] * 4),
    "data.crop_size": Row("48", clips_and_views("crop_size"), [48] * 4),
    "data.short_video": Row("loop", clips_and_views("short_video"), ["loop"] * 4),
    "data.backend": Row("pyav", opener("_backend"), ["pyav"] * 4),
    "data.num_workers": Row(
        "3",
        lambda b: [
            b.pretrain.training.plan.num_workers,
            b.finetune.training.plan.num_workers,
            b.validation.num_workers,
            b.test.num_workers,
        ],
        [3] * 4,
    ),
    "data.timeout_seconds": Row("7", opener("_timeout"), [7.0] * 4),
    "data.max_broken": Row("0.2", lambda b: [p.training.broken.limit for p in (b.pretrain, b.finetune)], [0.2] * 2),
    "data.mean": Row("[0.1,0.2,0.3]", normalised("mean"), [[0.1, 0.2, 0.3]] * 6),
    "data.std": Row("[0.4,0.5,0.6]", normalised("std"), [[0.4, 0.5, 0.6]] * 6),
    "model.size": Row("tiny", encoders(lambda e: (e.width, e.depth)), [(192, 12)] * 3),
    "model.tubelet": Row("4", encoders(lambda e: e.tubelet), [4] * 3),
    "model.patch_size": Row("16", encoders(lambda e: e.patch_size), [16] * 3),
    "model.class_token": Row("true", encoders(lambda e: e.class_token is not None), [True] * 3),
    "model.positions": Row(
        "learned", encoders(lambda e: isinstance(e.positions.table, nn.Parameter)), [True] * 3, variant="second"
    ),
    "model.position_base": Row("100", encoders(lambda e: e.position_base), [100.0] * 3),
    "model.checkpointing": Row("true", encoders(lambda e: e.checkpointing), [True] * 3),
    "model.decoder.kind": Row("cross", lambda b: b.pretrain.model.decoder.blocks[0].attn is None, True),
    "model.decoder.depth": Row("3", lambda b: len(b.pretrain.model.decoder.blocks), 3),
    "model.decoder.width": Row("48", lambda b: b.pretrain.model.decoder.width, 48),
    "model.decoder.num_heads": Row("4", lambda b: b.pretrain.model.decoder.blocks[0].cross.num_heads, 4),
    "model.decoder.taps": Row("last", lambda b: [d.taps for d in decoders(b)], [(11,) * 3] * 2),
    "model.decoder.predict_fraction": Row("0.5", lambda b: b.pretrain.model.predict_fraction, 0.5),
    "mask.kind": Row("block", lambda b: b.pretrain.mask_kind, "block"),
    "mask.ratio": Row("0.6", lambda b: b.pretrain.mask_ratio, 0.6),
    "diffusion.objective": Row(
        "mae", lambda b: type(b.pretrain.model.objective).__name__, "MaskedObjective", variant="second"
    ),
    "diffusion.target": Row("v", lambda b: b.pretrain.model.objective.target_kind, "v"),
    **{
        f"diffusion.{name}": Row(
            value,
            lambda b: b.pretrain.model.objective.schedule.alpha_bar.tolist(),
            Schedule("cosine", num_steps=50, rho=0.7).alpha_bar.tolist(),
        )
        for name, value in (("schedule", "cosine"), ("num_steps", "50"), ("rho", "0.7"))
    },
    "diffusion.pixels": Row("normalized", lambda b: b.pretrain.model.pixels, "normalized"),
    "diffusion.target_frames": Row("first", lambda b: b.pretrain.model.target_frames, "first", variant="second"),
    "diffusion.feature.teacher": Row("a_network", lambda b: (b.pretrain, (b.begun.teacher or [""])[0])[1], "a_network"),
    "diffusion.feature.checkpoint": Row(
        "{folder}/m.csv", lambda b: (b.pretrain, (b.begun.teacher or ["", ""])[1])[1], "{folder}/m.csv"
    ),
    "diffusion.feature.weight": Row("0.3", lambda b: getattr(b.pretrain.model.features, "weight", None), 0.3),
    **training_rows("pretrain", epochs=5, batch=6, parts=3, clips=2, decay="linear"),
    **training_rows("finetune", epochs=7, batch=4, parts=2, clips=3, decay="constant"),
    "pretrain.init": Row(
        "{folder}/earlier.pt", lambda b: (b.pretrain, any(str(p).endswith("earlier.pt") for p in b.begun.read))[1], True
    ),
    "finetune.init": Row(
        "{folder}/init.pt", lambda b: (b.finetune, any(str(p).endswith("init.pt") for p in b.begun.read))[1], True
    ),
    "finetune.init_weights": Row("model", lambda b: (b.finetune, {"weights": "model"} in b.begun.read)[1], True),
    "finetune.train_list": Row(
        "{folder}/lists/labelled.csv", lambda b: (b.finetune, "labelled.csv" in b.begun.lists)[1], True
    ),
    "finetune.sampling": Row(
        "segment", lambda b: [d.sampling for d in (b.finetune.clips, b.validation.views, b.test.views)], ["segment"] * 3
    ),
    "finetune.layer_decay": Row(
        "0.6", lambda b: min(g["lr_scale"] for g in groups(b, "finetune")), pytest.approx(0.6**13)
    ),
    "finetune.drop_path": Row("0.4", lambda b: b.finetune.model.encoder.blocks[-1].drop_path.drop_prob, 0.4),
    "finetune.head_dropout": Row("0.3", lambda b: b.finetune.model.dropout.p, 0.3),
    "finetune.head_init_scale": Row(
        "2.0", lambda b: float(b.finetune.model.head.weight.detach().std()), pytest.approx(0.04, rel=0.2)
    ),
    "finetune.pool": Row("class", lambda b: [p.model.pool for p in (b.finetune, b.test)], ["class"] * 2),
    "finetune.label_smoothing": Row("0.25", lambda b: b.finetune.label_smoothing, 0.25),
    "finetune.mixup": Row("0.7", lambda b: b.finetune.mixup, 0.7),
    "finetune.cutmix": Row("0.9", lambda b: b.finetune.cutmix, 0.9),
    "finetune.rand_augment": Row(
        "rand-m5-n3-mstd0.5-inc1",
        lambda b: vars(b.finetune.clips.rand_augment) if b.finetune.clips.rand_augment else None,
        vars(RandAugment.parse("rand-m5-n3-mstd0.5-inc1")),
    ),
    "finetune.color_jitter": Row("0.35", lambda b: b.finetune.clips.color_jitter, 0.35),
    "finetune.erase_prob": Row("0.45", lambda b: b.finetune.clips.erase_prob, 0.45),
    "finetune.eval_epochs": Row("2", lambda b: b.finetune.eval_steps, 6),
    "test.views": Row("4", lambda b: (b.test.views.num_views, b.validation.views.num_views), (4, 1)),
    "test.crops": Row("1", lambda b: (b.test.views.num_crops, b.validation.views.num_crops), (1, 1)),
    "test.batch_size": Row("3", lambda b: (b.test.batch_size, b.validation.batch_size), (3, 3)),
    "test.weights": Row(
        "best", lambda b: (b.test, any(str(path).endswith("best.pt") for path in b.begun.read))[1], True
    ),
    **on_a_cluster(
        {
            "slurm.nodes": Row("2", lambda b: b.script["nodes"], "2"),
            "slurm.gpus_per_node": Row(
                "4", lambda b: (b.script.get("gpus-per-node"), b.script["ntasks-per-node"]), ("4", "4")
            ),
            "slurm.tasks_per_node": Row(
                "2",
                lambda b: (b.script.get("gpus-per-node"), b.script["ntasks-per-node"]),
                (None, "2"),
                variant="second",
            ),
            "slurm.cpus_per_task": Row("6", lambda b: b.script["cpus-per-task"], "6"),
            "slurm.mem_gb": Row("90", lambda b: b.script.get("mem"), "90GB"),
            "slurm.partition": Row("day", lambda b: b.script.get("partition"), "day"),
            "slurm.account": Row("vision", lambda b: b.script.get("account"), "vision"),
            "slurm.qos": Row("long", lambda b: b.script.get("qos"), "long"),
            "slurm.hours": Row("5", lambda b: b.script["time"], "300"),
            "slurm.max_requeues": Row("9", lambda b: b.max_requeues, 9),
            "slurm.signal_delay_seconds": Row("77", lambda b: b.script["signal"], "USR2@77"),
            "slurm.extra": Row("{constraint: a100}", lambda b: b.script.get("constraint"), "a100"),
            "slurm.stages": Row(
                "{test: {nodes: '5'}}",
                lambda b: [b.point.for_stage(stage).slurm.nodes == 5 for stage in ("finetune", "test")],
                [False, True],
            ),
        }
    ),
}
# What the base config and the variants have besides their rows.
BASE = (
    "output_dir={folder}/run", "data.root={videos}", "data.train_list={videos}/train.csv",
    "data.val_list={videos}/val.csv", "data.num_frames=4", "data.crop_size=32", "model.size=micro",
    "model.patch_size=8", "finetune.eval_epochs=1",  # a validation to look at
)  # fmt: skip
VARIANTS = {
    "base": (),
    "main": (),
    "cluster": ("output_dir={folder}/cluster",),
    "second": ("output_dir={folder}/second", "data.swap_flip_labels=true", "slurm.gpus_per_node=0"),
}


@pytest.fixture(scope="module")
def built(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Built]]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "moved").symlink_to(tiny_videos)
    (folder / "m.csv").write_text("")
    (folder / "lists").mkdir()
    for name, split in (("classes.txt", "classes.txt"), ("other.csv", "train.csv"), ("labelled.csv", "train.csv"),
                        ("held.csv", "val.csv")):  # fmt: skip
        (folder / "lists" / name).write_text((tiny_videos / split).read_text())
    cfg = folder / "r.yaml"
    cfg.write_text("")
    precision = torch.get_float32_matmul_precision()
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for variant, own in VARIANTS.items():
            rows = [f"{key}={row.value}" for key, row in ROWS.items() if row.variant == variant]
            texts = [filled(text, folder, tiny_videos) for text in (*BASE, *own, *rows)]
            config = load_config(cfg, texts)
            leave_weights(config)
            made[variant] = Built(config, cfg, texts, patch)
        yield made
    torch.set_float32_matmul_precision(precision)


def leave_weights(config: Config) -> None:
    """The weights that the later stages begin with, as the earlier ones leave them."""
    torch.manual_seed(0)
    classifier = build.build_classifier(config, num_classes=3)
    saved = {
        "stage": "finetune", "identity": {}, "classes": ["still", "left", "right"], "num_videos": 12,
        "model": dict(classifier.state_dict()), "ema": {},
    }  # fmt: skip
    run = Path(config.output_dir)
    for path in (run / "pretrain" / "weights.pt", config.pretrain.init, config.finetune.init):
        if str(path) not in ("none", "pretrain"):
            save_checkpoint(path, {**saved, "stage": "pretrain"})
    for path in (run / "finetune" / "weights.pt", run / "finetune" / "checkpoints" / "best.pt"):
        save_checkpoint(path, saved)


def filled(value: Any, folder: Path, videos: Path | None = None) -> Any:
    """``value`` with the folder's path where it says so."""
    if isinstance(value, str):
        return value.replace("{folder}", str(folder)).replace("{videos}", str(videos))
    return {filled(item, folder) for item in value} if isinstance(value, set) else value


def keys_of(section: Any, prefix: str = "") -> dict[str, Any]:
    """All keys with their values, read from the dataclasses themselves."""
    found: dict[str, Any] = {}
    for spec in dataclasses.fields(section):
        value = getattr(section, spec.name)
        name = f"{prefix}{spec.name}"
        found |= keys_of(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return found


def test_every_key_has_a_row() -> None:
    assert sorted(ROWS) == sorted(keys_of(Config())) == sorted(name for name, _, _ in walk(Config()))


@pytest.mark.parametrize("key", ROWS)
def test_every_key_reaches_its_argument(built: dict[str, Built], key: str) -> None:
    row = ROWS[key]
    changed, before = built[row.variant], built[row.against]
    folder = changed.cfg.parent
    assert keys_of(changed.config)[key] != keys_of(before.config)[key]
    expected = filled(row.expected, folder)
    probe = row.probe
    assert probe(changed) == expected
    assert probe(before) != expected


# What decides a stage's result, by the beginning of the key; a decoder is used in pre-training only.
DECIDES = {
    "pretrain": ("seed", "precision", "data.", "model.", "mask.", "diffusion.", "pretrain."),
    "finetune": ("seed", "precision", "data.", "model.", "finetune."),
    "test": ("seed", "precision", "data.", "model.", "test.", "finetune.sampling", "finetune.pool"),
}
# How a run is carried out, which may change while it is under way, and where files lie: what they say is compared.
FREE = {
    "stages", "output_dir", "device", "tf32", "compile", "parallel", "sharded_checkpoints", "wandb",
    "data.root", "data.train_list", "data.val_list", "data.manifest", "data.backend", "data.num_workers",
    "data.timeout_seconds", "data.max_broken", "model.checkpointing", "pretrain.init", "finetune.init",
    "finetune.train_list", "finetune.eval_epochs", "test.batch_size", "test.weights",
    "pretrain.accumulation", "pretrain.checkpoint_epochs", "pretrain.checkpoint_minutes", "pretrain.keep_checkpoints",
    "pretrain.max_bad_steps",
    "finetune.accumulation", "finetune.checkpoint_epochs", "finetune.checkpoint_minutes", "finetune.keep_checkpoints",
    "finetune.max_bad_steps",
    *(key for key in ROWS if key.startswith("slurm.")),
}  # fmt: skip


def with_value(section: Any, key: str, value: Any) -> Any:
    """A copy of a config or a section with another value of one key, whatever the rules say."""
    name, _, rest = key.partition(".")
    return dataclasses.replace(section, **{name: with_value(getattr(section, name), rest, value) if rest else value})


def test_every_key_decides_a_stage_or_is_free() -> None:
    deciding = {key for key in ROWS for names in DECIDES.values() if key.startswith(names)}
    assert set(ROWS) == deciding | FREE


@pytest.mark.parametrize("key", ROWS)
def test_identity_covers_every_key(built: dict[str, Built], key: str) -> None:
    base, value = built["base"].config, keys_of(built[ROWS[key].variant].config)[key]
    assert value != keys_of(base)[key]
    changed = with_value(base, key, value)
    for stage, names in DECIDES.items():
        unused = key in FREE or (stage != "pretrain" and key.startswith("model.decoder."))
        decides = key.startswith(names) and not unused
        assert (identity(base, stage) != identity(changed, stage)) == decides, stage
