"""The training loops against themselves written out in plain PyTorch, and what a resume keeps of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffmae_video.config import load_config
from diffmae_video.data import TrainClips, read_videos
from diffmae_video.diffusion import DiffMAE, Losses, Schedule
from diffmae_video.engine import runner
from diffmae_video.engine.checkpoint.manager import CheckpointManager
from diffmae_video.engine.checkpoint.single_file import load_checkpoint
from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.engine.monitor.profiling import Speed
from diffmae_video.engine.monitor.status import Status
from diffmae_video.engine.preemption import StopFlag
from diffmae_video.engine.train import trainer as engine_training
from diffmae_video.engine.train.finetune import finetune
from diffmae_video.engine.train.hparams import TrainHParams
from diffmae_video.engine.train.optimizer import build_optimizer, param_groups
from diffmae_video.engine.train.pretrain import _bin_losses, pretrain
from diffmae_video.engine.train.train_state import TrainState
from diffmae_video.engine.train.trainer import Trainer
from diffmae_video.errors import TrainingStopped
from diffmae_video.model import CrossDecoder, SpacetimeViT, VideoClassifier
from tests.engine.driven import decided_part, metrics_of, result_of
from tests.reference import training as by_hand

RECIPE = """
seed: 7
device: cpu
precision: fp32
tf32: false
data:
  dataset: list
  num_frames: 4
  stride_frames: 2
  fps: 10
  crop_size: 32
  backend: pyav
  num_workers: 0
  mean: [0.4, 0.45, 0.5]
  std: [0.2, 0.225, 0.25]
model: {size: micro, patch_size: 8, decoder: {depth: 1, width: 32, num_heads: 2}}
mask: {kind: random, ratio: 0.75}
pretrain:
  {epochs: 2.5, warmup_epochs: 1.4, batch_size: 8, accumulation: 2, clips_per_video: 2, lr: 0.2, min_lr: 0.001,
   betas: [0.8, 0.9], weight_decay: 0.5, clip_grad: 0.4, ema_decay: 0.22}
finetune:
  {epochs: 2.5, warmup_epochs: 1.4, batch_size: 8, accumulation: 2, clips_per_video: 2, lr: 0.1, min_lr: 0.002,
   betas: [0.7, 0.9], weight_decay: 0.4, clip_grad: 2.0, ema_decay: 0.24, layer_decay: 0.6, label_smoothing: 0.2,
   drop_path: 0.3, head_dropout: 0.2, head_init_scale: 1.0}
"""
# What the config's sections come to over 12 videos: 30 videos are 4 steps of 8, and 16.8 of them are 2.
PRETRAIN = by_hand.Numbers(
    seed=7, num_steps=4, warmup_steps=2, batch_size=8, accumulation=2, clips_per_video=2, lr=0.2, min_lr=0.001,
    betas=(0.8, 0.9), weight_decay=0.5, clip_grad=0.4, ema_decay=0.22, mean=(0.4, 0.45, 0.5), std=(0.2, 0.225, 0.25),
)  # fmt: skip
FINETUNE = by_hand.Numbers(
    seed=7, num_steps=4, warmup_steps=2, batch_size=8, accumulation=2, clips_per_video=2, lr=0.1, min_lr=0.002,
    betas=(0.7, 0.9), weight_decay=0.4, clip_grad=2.0, ema_decay=0.24, layer_decay=0.6, mean=(0.4, 0.45, 0.5),
    std=(0.2, 0.225, 0.25),
)  # fmt: skip


@pytest.fixture(scope="module")
def do(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """``do(*overrides)`` runs the config in this process; the run's folder."""

    def run(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        (folder / "r.yaml").write_text(RECIPE)
        lists = [f"data.{split}_list={tiny_videos / split}.csv" for split in ("train", "val")]
        places = [f"output_dir={folder / 'run'}", f"data.root={tiny_videos}", *lists]
        assert runner.run(load_config(folder / "r.yaml", [*places, *overrides])) == 0
        return folder / "run"

    precision = torch.get_float32_matmul_precision()
    yield run
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="module")
def trained(do: Callable[..., Path]) -> Path:
    return do("stages=[pretrain,finetune]")


def clips_of(videos: Path, n: by_hand.Numbers, **options: Any) -> TrainClips:
    return TrainClips(
        read_videos(videos / "train.csv", root=str(videos), dataset="list"),
        seed=n.seed, num_frames=4, stride_frames=2, fps=10, crop_size=32, clips_per_video=n.clips_per_video,
        backend="pyav", **options,
    )  # fmt: skip


def encoder_of(**options: Any) -> SpacetimeViT:
    return SpacetimeViT(
        num_frames=4, crop_size=32, tubelet=2, patch_size=8, width=128, depth=6, num_heads=4, mlp_ratio=4.0, **options
    )


def assert_same_training(run: Path, stage: str, model: torch.nn.Module, expected: by_hand.Trained) -> None:
    """Weights, moving average and metrics of a stage, to what float32 leaves of a sum in another order."""
    saved = load_checkpoint(run / stage / "weights.pt")
    for found, wanted in ((saved["model"], model.state_dict()), (saved["ema"], expected.average)):
        assert found.keys() == wanted.keys()
        for name in found:
            # AdamW makes whole steps of gradients that are all rounding, so single values may differ more.
            apart = decided_part(name, found[name]) - decided_part(name, wanted[name])
            assert float(apart.square().mean().sqrt()) < 1e-6, name
    lines = metrics_of(run, stage)
    assert [line["step"] for line in lines] == [line["step"] for line in expected.lines]
    for name in ("loss", "lr", "grad_norm"):
        found = [line[name] for line in lines]
        assert found == pytest.approx([line[name] for line in expected.lines], rel=2e-5), name
    assert result_of(run, stage)["final_loss"] == lines[-1]["loss"]


def test_pretraining_written_out(trained: Path, tiny_videos: Path) -> None:
    torch.manual_seed(by_hand.seed_of(7, "pretrain", "weights"))
    encoder = encoder_of()
    decoder = CrossDecoder(encoder, depth=1, width=32, num_heads=2, self_attention=True)
    model = DiffMAE(encoder, decoder, schedule=Schedule("linear", num_steps=1000, rho=1.0))
    clips = clips_of(tiny_videos, PRETRAIN, scale=(0.5, 1.0))
    expected = by_hand.pretrain(model, clips, PRETRAIN, mask_kind="random", mask_ratio=0.75)
    assert_same_training(trained, "pretrain", model, expected)
    for found, line in zip(metrics_of(trained, "pretrain"), expected.lines, strict=True):
        bins = [[x for t, x in zip(line["levels"], line["losses"], strict=True) if t // 100 == i] for i in range(10)]
        means = [sum(values) / len(values) if values else None for values in bins]
        for value, mean in zip(found["loss_by_noise"], means, strict=True):
            assert value == (None if mean is None else pytest.approx(mean, rel=2e-5))
        assert found["samples_seen"] == 8 * (line["step"] + 1)
        assert found["epoch"] == pytest.approx(8 * (line["step"] + 1) / 12, abs=1e-4)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.0, 0.0), (0.8, 0.5)])
def test_finetuning_written_out(
    trained: Path, do: Callable[..., Path], tiny_videos: Path, mixup: float, cutmix: float
) -> None:
    torch.manual_seed(by_hand.seed_of(7, "finetune", "weights"))
    model = VideoClassifier(encoder_of(drop_path=0.3), num_classes=3, head_dropout=0.2, head_init_scale=1.0)
    if mixup:
        run = do("stages=[finetune]", "finetune.init=none", f"finetune.mixup={mixup}", f"finetune.cutmix={cutmix}")
    else:
        run, saved = trained, load_checkpoint(trained / "pretrain" / "weights.pt")
        pretrained = {**saved["model"], **saved["ema"]}
        model.encoder.load_state_dict(
            {name.removeprefix("encoder."): x for name, x in pretrained.items() if name.startswith("encoder.")}
        )
    clips = clips_of(tiny_videos, FINETUNE, scale=(0.08, 1.0))
    expected = by_hand.finetune(model, clips, FINETUNE, num_classes=3, smoothing=0.2, mixup=mixup, cutmix=cutmix)
    assert_same_training(run, "finetune", model, expected)
    for found, line in zip(metrics_of(run, "finetune"), expected.lines, strict=True):
        assert found["train_top1"] == pytest.approx(sum(line["right"]) / len(line["right"]))


def test_the_order_of_the_videos_written_out(tiny_videos: Path) -> None:
    """Position p is place p % 12 of epoch p // 12's own permutation, also where epochs are jumped back and forth."""
    clips = clips_of(tiny_videos, PRETRAIN)
    orders = [torch.randperm(12, generator=by_hand.keyed(7, "order", epoch)).tolist() for epoch in range(4)]
    positions = [0, 5, 11, 12, 17, 23, 24, 40, 13, 1]
    assert [clips[p]["index"] for p in positions] == [orders[p // 12][p % 12] for p in positions]


def test_bins_of_the_noise_levels() -> None:
    levels = torch.arange(20)
    sums, counts = _bin_losses(levels.float(), levels, 20)
    assert sums.tolist() == [float(i + i + 1) for i in range(0, 20, 2)]
    assert counts.tolist() == [2.0] * 10
    alone, one = _bin_losses(torch.tensor([0.5, 0.25]), torch.tensor([0, 0]), 1)  # the mae objective's only level
    assert (alone.tolist(), one.tolist()) == ([0.75] + [0.0] * 9, [2.0] + [0.0] * 9)


class Pixels:
    """A data set of clips of one pixel; position p's label is p % 3."""

    def __getitem__(self, position: int) -> dict[str, Any]:
        clips = torch.full((1, 1, 3, 1, 1), position, dtype=torch.uint8)
        return {"clips": clips, "label": position % 3, "index": position, "position": position, "broken": []}


class Noting(nn.Module):
    """A classifier of Pixels that can also stand for a DiffMAE; it notes the mode in which it is called."""

    objective = type("OneLevel", (), {"num_levels": 1})

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        self.modes: list[bool] = []

    def draw(self, generators: list[torch.Generator], *, mask_kind: str, mask_ratio: float) -> int:
        return len(generators)

    def forward(self, video: Tensor, draw: int | None = None) -> Tensor | Losses:
        self.modes.append(self.training)
        out = self.head(video.flatten(1))
        if draw is None:
            return out
        return Losses(out.mean(), out.mean(1), torch.zeros(draw, dtype=torch.int64), torch.zeros(draw))


def training_of(
    folder: Path, stage: str, model: nn.Module, *, num_steps: int, rank: int = 0, **changes: Any
) -> Trainer:
    """A stage's training over batches of two videos; at most two bad steps in a row. ``changes``: of the plan."""
    world = DistributedContext(rank=rank, size=1, local_rank=0, device=torch.device("cpu"))
    plan = TrainHParams(
        stage=stage, seed=0, num_steps=num_steps, steps_per_epoch=2.0, batch_size=2, accumulation=1, peak_lr=0.1,
        floor_lr=0.0, warmup_steps=0, decay="constant", clip_grad=0.0, max_bad_steps=2, max_broken=0.0,
        checkpoint_steps=1, checkpoint_minutes=60, num_workers=0,
    )  # fmt: skip
    plan = dataclasses.replace(plan, **changes)
    groups = param_groups(model, weight_decay=0.0)
    return Trainer(
        TrainState(model, build_optimizer(groups, betas=(0.9, 0.99)), ema_decay=0.5),
        plan=plan,
        world=world,
        folder=folder,
        header={"stage": stage, "identity": {}, "classes": [], "num_videos": 4},
        manager=CheckpointManager(folder / "checkpoints", world=world, keep_last=1),
        dtype=torch.float32,
        stop=StopFlag(),
        status=Status(folder, world=world),
        speed=Speed(flops_per_video=1.0, peak_flops=1.0, num_devices=1),
    )


def finetune_pixels(training: Trainer, validate: Callable[[], float], *, eval_steps: int = 1) -> None:
    finetune(
        training, Pixels(), num_classes=3, label_smoothing=0.0, mixup=0.0, cutmix=0.0, mean=[0.5] * 3, std=[0.5] * 3,
        eval_steps=eval_steps, validate=validate,
    )  # fmt: skip


def test_both_stages_train_in_training_mode(tmp_path: Path) -> None:
    model = Noting().eval()
    training = training_of(tmp_path / "pretrain", "pretrain", model, num_steps=2)
    pretrain(training, model, Pixels(), mask_kind="tube", mask_ratio=0.5, mean=[0.5] * 3, std=[0.5] * 3)
    training = training_of(tmp_path / "finetune", "finetune", model, num_steps=2)
    finetune_pixels(training, lambda: float(model.eval()(torch.zeros(1, 3)).shape[0]))
    assert model.modes == [True, True, True, False, True, False]


def test_each_rank_and_step_has_draws_of_its_own(tmp_path: Path) -> None:
    seen = []
    for stage, rank, step in (("pretrain", 0, 0), ("pretrain", 0, 1), ("pretrain", 1, 0), ("finetune", 0, 0)):
        training = training_of(tmp_path / f"{stage}-{rank}-{step}", stage, Noting(), num_steps=2, rank=rank)
        training.step = step
        for _ in range(2):
            training._seed_step()
            seen.append((float(torch.rand(())), float(np.random.rand())))
    assert seen[::2] == seen[1::2]
    assert len({number for pair in seen for number in pair}) == 8


def test_a_step_without_a_finite_loss_or_gradient_is_skipped(tmp_path: Path) -> None:
    """Weights, moments and average stay, nothing of it is left for the next, and two in a row are too many here."""
    model = Noting()
    weight = model.head.weight
    training = training_of(tmp_path, "finetune", model, num_steps=9)
    steps = training.batches(Pixels())
    losses = (
        lambda: weight.sum(),
        lambda: weight.sum() + float("nan"),  # its gradient is finite
        lambda: (weight - weight.detach()).sqrt().sum(),  # a loss of 0 with an infinite gradient
    )
    after = []
    for loss in losses:
        next(steps)
        training.backward(loss())
        training.update()
        after.append([weight.detach().clone(), training.state.average[0].clone()])
    assert all(torch.equal(a, b) for later in after[1:] for a, b in zip(after[0], later, strict=True))
    with pytest.raises(TrainingStopped, match="2 non-finite steps in a row"):
        next(steps)
    assert (training.bad_steps.total, training.step) == (2, 3)
    assert [line["skipped_steps"] for line in metrics_of(tmp_path.parent, tmp_path.name)] == [0, 1, 2]
    training.backward(weight.sum())
    training.update()
    # A second gradient of ones: AdamW's step is the rate.
    assert torch.allclose(after[0][0] - weight, torch.full_like(weight, 0.1), atol=1e-6)


def test_gradients_are_exchanged_with_the_last_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool] = []
    monkeypatch.setattr(engine_training, "set_gradient_sync", lambda model, sync: said.append(sync))
    training = training_of(tmp_path, "finetune", Noting(), num_steps=2, batch_size=6, accumulation=3)
    positions = []
    for batch in training.batches(Pixels()):
        for part in training.parts(batch):
            positions += part["position"].tolist()
            training.backward(training.state.model(torch.zeros(1, 3)).sum())
        training.update()
    assert said == [False, False, True] * 2
    assert positions == list(range(12))


def test_checkpoints_and_validations_come_when_the_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    validated: list[int] = []
    monkeypatch.setattr(CheckpointManager, "save", lambda manager, step, facts, state: saved.append(step))
    training = training_of(tmp_path, "finetune", Noting(), num_steps=8, checkpoint_steps=3)
    finetune_pixels(training, lambda: float(validated.append(training.step) or 0), eval_steps=3)
    assert saved == [3, 6, 8]
    assert validated == [3, 6]


def test_a_resume_reads_on_where_it_was(tmp_path: Path) -> None:
    """The positions that come, the bad steps so far and the last loss are those of a run without a stop."""
    seen: list[int] = []
    facts = []
    for stop in (3, 5):
        training = training_of(tmp_path, "finetune", Noting(), num_steps=5, max_bad_steps=9)
        facts.append((training.step, training.bad_steps.total, training.bad_steps.in_a_row, training.last_loss))
        for batch in training.batches(Pixels()):
            if training.step == stop:
                break
            seen += batch["position"].tolist()
            training.backward(training.state.model(torch.zeros(1, 3)).sum() + (torch.inf if training.step else 0))
            training.update()
        training.manager.wait()
        training.close()
    assert seen == list(range(10))
    assert facts[1] == (3, 2, 2, torch.inf)
    lines = metrics_of(tmp_path.parent, tmp_path.name)
    assert [line["skipped_steps"] for line in lines] == [0, 1, 2, 3, 4]


def test_the_best_is_the_best_also_after_a_resume(tmp_path: Path) -> None:
    """A crash in the fourth validation, and the same command again from step 2; a tie replaces nothing."""
    scores = {1: 0.2, 2: 0.8, 3: 0.5, 4: 0.6, 5: 0.9, 6: 0.9, 7: 0.1}
    best_of: list[int] = []

    def train(crash: int) -> None:
        training = training_of(tmp_path, "finetune", Noting(), num_steps=7, checkpoint_steps=2)

        def validate() -> float:
            training.manager.wait()
            best = tmp_path / "checkpoints" / "best.pt"
            best_of.append(load_checkpoint(best)["step"] if best.exists() else 0)
            if training.step == crash:
                raise ArithmeticError("a bug of ours")
            return scores[training.step]

        finetune_pixels(training, validate)

    with pytest.raises(ArithmeticError):
        train(crash=4)
    train(crash=-1)
    # Before each validation: the best of those before it.
    assert best_of == [0, 1, 2, 2, 2, 2, 2, 5, 5]
    best = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert (best["step"], best["best_score"]) == (5, 0.9)
    assert [line["step"] for line in metrics_of(tmp_path.parent, tmp_path.name)] == list(range(7))
    last = load_checkpoint(tmp_path / "checkpoints" / "step-00000007.pt")
    assert not torch.equal(best["model"]["head.weight"], last["model"]["head.weight"])
