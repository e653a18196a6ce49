"""The keys of a config with their types, defaults, rules and one line of documentation.

Tags in brackets name the source of a default: [P] the DiffMAE paper, [3] its re-implementations and
follow-ups, [M] recalled from the paper but not checked, [MAE-ST], [VideoMAE], [us] our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffmae_video.sizes import SIZES

TAPS = ("reversed", "last")
MASKS = ("tube", "random", "frame", "block")
SHORT_VIDEO = ("hold", "loop")
STAGES = ("pretrain", "finetune", "test")
DATASETS = ("kinetics400", "kinetics600", "kinetics700", "ssv2", "ucf101", "hmdb51", "list", "folder", "images")


def key(default: Any, doc: str, *, choices: tuple[str, ...] = (), bounds: str = "", kind: str = "") -> Any:
    """A dataclass field for one key of a config.

    Args:
        default: its type is the key's type.
        doc: one line of documentation.
        choices: allowed values, as text; () for any.
        bounds: allowed interval, as ``"(0, 1)"`` (open) or ``"[1, inf)"`` (half open); of each item of a list.
        kind: "path" for a text in which a leading ~ is the home folder, "hours" for a number of hours that may also
            be written in SLURM's notation of times; "" for anything else.
    """
    metadata = {"doc": doc, "choices": choices, "bounds": bounds, "kind": kind}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataConfig:
    """The videos, and the frames of a clip."""

    dataset: str = key("list", "collection; decides the list format and the flip rule", choices=DATASETS)
    root: str = key("", "folder to which paths in the lists are relative", kind="path")
    train_list: str = key("", "list of training videos (for folder and images: a folder of class folders)", kind="path")
    val_list: str = key("", "list of validation videos, scored by the test stage", kind="path")
    swap_flip_labels: bool = key(
        False, "allow mirroring where left and right are classes (ssv2): it exchanges the labels; needs classes.txt"
    )
    manifest: str = key("", "manifest of tools/scan_videos.py; videos that failed its check are skipped", kind="path")
    num_frames: int = key(16, "frames of a clip [MAE-ST]", bounds="[1, inf)")
    stride_frames: int = key(
        4, "frames of the resampled video from one frame of a clip to the next [MAE-ST]", bounds="[1, inf)"
    )
    fps: float = key(30.0, "frame rate to which videos are resampled, Hz; 0 keeps each video's own", bounds="[0, inf)")
    crop_size: int = key(224, "height and width of a clip in pixels", bounds="[1, inf)")
    short_video: str = key(
        "hold", "videos shorter than a clip: hold the last frame [MAE-ST, VideoMAE], or loop", choices=SHORT_VIDEO
    )
    backend: str = key("auto", "decoder of video files", choices=("auto", "pyav", "decord", "torchcodec"))
    num_workers: int = key(2, "loader processes per rank", bounds="[0, inf)")
    timeout_seconds: float = key(30.0, "decoding a clip for longer than this counts as a failure", bounds="(0, inf)")
    max_broken: float = key(0.01, "share of unreadable videos above which training stops [us]", bounds="[0, 1]")
    mean: list[float] = key([0.45, 0.45, 0.45], "mean of R, G, B in [0, 1] [MAE-ST]")
    std: list[float] = key([0.225, 0.225, 0.225], "standard deviation of R, G, B [MAE-ST]")


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder over the masked cubes."""

    kind: str = key(
        "cross_self",
        "one of the paper's three [P]; cross fills each cube on its own: joint or cross_self for samples",
        choices=("joint", "cross_self", "cross"),
    )
    depth: int = key(
        0, "decoder blocks; 0 takes DECODER_SIZES' row of the encoder [us; paper: 8, M]", bounds="[0, inf)"
    )
    width: int = key(0, "decoder width; 0 takes DECODER_SIZES' [us; paper: 512, M]", bounds="[0, inf)")
    num_heads: int = key(0, "attention heads; 0 takes DECODER_SIZES' [us]", bounds="[0, inf)")
    taps: str = key(
        "reversed",
        "encoder blocks that decoder blocks read: top-down [P, 3], or only the last (joint: always)",
        choices=TAPS,
    )
    predict_fraction: float = key(
        1.0, "share of the masked cubes that the loss covers; unbiased for cross [us]", bounds="(0, 1]"
    )


@dataclass(frozen=True)
class ModelConfig:
    """The spatiotemporal ViT and its decoder."""

    size: str = key("base", "row of the SIZES table", choices=tuple(SIZES))
    tubelet: int = key(2, "frames of a cube [MAE-ST]", bounds="[1, inf)")
    patch_size: int = key(16, "height and width of a cube in pixels [P]", bounds="[1, inf)")
    class_token: bool = key(False, "put a class token before the cubes")
    positions: str = key("sincos", "position embedding: fixed sines or learned", choices=("sincos", "learned"))
    position_base: float = key(
        10000.0, "lowest frequency of the sines is 1 / this; lower it for tiny grids [us]", bounds="(1, inf)"
    )
    checkpointing: bool = key(False, "recompute activations: less memory, a third more compute")
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


@dataclass(frozen=True)
class MaskConfig:
    """The mask of pre-training."""

    kind: str = key("tube", "tube (one spatial mask through time), random, frame or block", choices=MASKS)
    ratio: float = key(0.9, "share of the cubes that is masked [M, MAE-ST]", bounds="(0, 1)")


@dataclass(frozen=True)
class FeatureConfig:
    """A second target: features of a frozen teacher, predicted by a second decoder."""

    teacher: str = key("", "timm model name of the teacher; empty switches the target off [M]")
    checkpoint: str = key("", "local weights of the teacher (.pth or .safetensors)", kind="path")
    weight: float = key(1.0, "weight of (1 - cosine) beside the pixel loss [us]", bounds="(0, inf)")


@dataclass(frozen=True)
class DiffusionConfig:
    """The prediction target and the noise schedule."""

    objective: str = key(
        "diffusion", "diffusion, or mae: mask tokens without noise (the baseline)", choices=("diffusion", "mae")
    )
    target: str = key("x0", "what the decoder predicts [P: x0]", choices=("x0", "eps", "v"))
    schedule: str = key("linear", "noise schedule", choices=("linear", "cosine"))
    rho: float = key(
        1.0, "exponent of each beta: below 1 more noise [M]; the shipped configs have 0.6 [us]", bounds="(0, inf)"
    )
    num_steps: int = key(1000, "diffusion steps S [M]", bounds="[2, inf)")
    pixels: str = key(
        "raw", "raw, or normalized per cube as in MAE; normalized can't inpaint honestly", choices=("raw", "normalized")
    )
    target_frames: str = key(
        "all",
        "frames of a cube that are predicted; first: MAE-ST's target, objective=mae only",
        choices=("all", "first"),
    )
    feature: FeatureConfig = field(default_factory=FeatureConfig)


@dataclass(frozen=True)
class TrainConfig:
    """Keys that pre-training and fine-tuning share."""

    epochs: float = key(1.0, "passes over the videos", bounds="(0, inf)")
    warmup_epochs: float = key(0.0, "epochs of linear warm-up from 0", bounds="[0, inf)")
    batch_size: int = key(256, "videos per optimiser step, over all ranks", bounds="[1, inf)")
    accumulation: int = key(1, "forward/backward passes per optimiser step, on equal micro-batches", bounds="[1, inf)")
    clips_per_video: int = key(1, "clips drawn from each opened video (repeated sampling)", bounds="[1, inf)")
    lr: float = key(
        1.5e-4, "learning rate for batch size 256, scaled linearly; clips_per_video doesn't count", bounds="(0, inf)"
    )
    min_lr: float = key(1e-6, "learning rate at the end, not scaled", bounds="[0, inf)")
    decay: str = key("cosine", "learning rate schedule after the warm-up", choices=("cosine", "linear", "constant"))
    betas: list[float] = key([0.9, 0.95], "AdamW's betas", bounds="[0, 1)")
    weight_decay: float = key(0.05, "AdamW's weight decay; not applied to vectors and tokens", bounds="[0, inf)")
    clip_grad: float = key(0.0, "gradient norm to which larger ones are clipped; 0 is off", bounds="[0, inf)")
    ema_decay: float = key(
        0.0, "decay per step of the moving average of the weights, warmed up; 0 is off", bounds="[0, 1)"
    )
    crop_scale: list[float] = key([0.5, 1.0], "area range of the random resized crop, share of the frame")
    flip: bool | None = key(
        None, "mirror half of the clips; null: yes, except for ssv2 and where left and right name classes"
    )
    checkpoint_epochs: float = key(1.0, "epochs between checkpoints", bounds="(0, inf)")
    checkpoint_minutes: float = key(30.0, "longest time between checkpoints, minutes", bounds="(0, inf)")
    keep_checkpoints: int = key(2, "checkpoints kept in addition to the best", bounds="[1, inf)")
    max_bad_steps: int = key(10, "consecutive non-finite steps after which the run stops", bounds="[1, inf)")


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """Pre-training: the decoder denoises the masked cubes, given the encoder's visible ones."""

    init: str = key("none", "none (scratch), or the run or checkpoint whose weights it begins from", kind="path")


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Fine-tuning: the encoder and a linear head on labelled clips."""

    betas: list[float] = key([0.9, 0.999], "AdamW's betas", bounds="[0, 1)")
    crop_scale: list[float] = key([0.08, 1.0], "area range of the random resized crop, share of the frame")
    init: str = key("pretrain", "pretrain (this run's), none (from scratch), or another run or checkpoint", kind="path")
    init_weights: str = key(
        "auto",
        "weights of finetune.init: moving averages (auto: if there are any) or the model's",
        choices=("auto", "ema", "model"),
    )
    train_list: str = key("", "labelled videos, if not data.train_list", kind="path")
    sampling: str = key("dense", "dense, or one frame per segment (TSN)", choices=("dense", "segment"))
    layer_decay: float = key(0.75, "learning rate of a block relative to the one above it", bounds="(0, 1]")
    drop_path: float = key(0.1, "stochastic depth of the last block, linear from 0", bounds="[0, 1)")
    head_dropout: float = key(0.0, "dropout before the head", bounds="[0, 1)")
    head_init_scale: float = key(0.001, "scale of the head's initial weights [MAE-ST]", bounds="(0, inf)")
    pool: str = key("mean", "input of the head: mean of the tokens, or the class token", choices=("mean", "class"))
    label_smoothing: float = key(0.1, "label smoothing", bounds="[0, 1)")
    mixup: float = key(0.0, "alpha of mixup; 0 is off", bounds="[0, inf)")
    cutmix: float = key(0.0, "alpha of CutMix; 0 is off", bounds="[0, inf)")
    rand_augment: str = key("", "RandAugment in timm's notation, as rand-m7-n4-mstd0.5-inc1; empty is off")
    color_jitter: float = key(0.0, "brightness, contrast, saturation jitter; 0 is off", bounds="[0, 1]")
    erase_prob: float = key(0.0, "probability of random erasing, one box of new noise in each frame", bounds="[0, 1]")
    eval_epochs: float = key(0.0, "epochs between validations; 0 never validates", bounds="[0, inf)")


@dataclass(frozen=True)
class TestConfig:
    """Testing: softmax averaged over views x crops of each video."""

    __test__ = False  # not a pytest class

    views: int = key(5, "temporal views per video", bounds="[1, inf)")
    crops: int = key(3, "spatial crops per view, along the longer side", choices=("1", "3"))
    batch_size: int = key(8, "videos per forward pass and rank", bounds="[1, inf)")
    weights: str = key("last", "last or best checkpoint of the fine-tuning, or another run or checkpoint", kind="path")


@dataclass(frozen=True)
class SlurmConfig:
    """Resources that tools/submit.py requests."""

    nodes: int = key(1, "nodes", bounds="[1, inf)")
    gpus_per_node: int = key(8, "GPUs per node, one task each; 0 runs on CPUs", bounds="[0, inf)")
    tasks_per_node: int = key(1, "tasks per node if gpus_per_node is 0", bounds="[1, inf)")
    cpus_per_task: int = key(10, "CPUs per task: its loader workers and itself", bounds="[1, inf)")
    mem_gb: int = key(0, "memory per node in GB; 0 takes the partition's default", bounds="[0, inf)")
    partition: str = key("", "partition; empty takes the cluster's default")
    account: str = key("", "account to charge")
    qos: str = key("", "quality of service")
    hours: float = key(
        24.0,
        "time limit in hours, or as SLURM writes it: 12:00:00, 1-12:00:00; a longer run is requeued and resumes",
        bounds="(0, inf)",
        kind="hours",
    )
    max_requeues: int = key(20, "requeues after which a job ends", bounds="[0, inf)")
    signal_delay_seconds: int = key(
        120, "seconds from the signal to the limit: longer than a step and a save", bounds="[1, inf)"
    )
    extra: dict[str, str] = key({}, "other sbatch options, name: value")
    stages: dict[str, dict[str, str]] = key(
        {}, "resources of single stages with --split-stages, as stages.test.nodes=1"
    )


@dataclass(frozen=True)
class Config:
    """A run: data, model, mask and diffusion for all stages, and a section for each stage."""

    stages: list[str] = key(list(STAGES), "stages to run, in this order", choices=STAGES)
    output_dir: str = key("runs/run", "folder of the run", kind="path")
    seed: int = key(0, "seed of all random draws", bounds="[0, inf)")
    device: str = key("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))
    precision: str = key(
        "auto", "auto: bf16, fp16 on older GPUs, fp32 on CPUs", choices=("auto", "fp32", "bf16", "fp16")
    )
    tf32: bool = key(True, "TensorFloat-32 for matrix products that stay in float32 on a GPU")
    compile: bool = key(False, "torch.compile the training step")
    parallel: str = key("ddp", "several ranks: replicas, or FSDP2 shards (ViT-H/g)", choices=("ddp", "fsdp"))
    sharded_checkpoints: bool = key(False, "each rank saves its own shards (parallel=fsdp, ViT-g)")
    wandb: str = key("", "Weights & Biases project; empty logs to the run folder only")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    test: TestConfig = field(default_factory=TestConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
