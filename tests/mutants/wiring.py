"""Faults between a config and the objects that it builds, in evaluation, and in what a run is known by."""

from tests.mutants.mutant import Mutant

KEYS = "tests/engine/test_keys.py::test_every_key_reaches_its_argument"
DATASETS, MODELS = "diffmae_video/build/datasets.py", "diffmae_video/build/models.py"
STAGES = "diffmae_video/engine/stages.py"
EVALUATE = "diffmae_video/engine/train/evaluate.py"
BY_HAND = "tests/engine/train/test_evaluate.py"


def forgotten(path: str, line: str) -> Mutant:
    """A keyword argument that isn't passed on, so that its default holds."""
    return Mutant(f"{line} is not passed on", path, f"        {line},\n", "", KEYS)


MUTANTS = [
    forgotten(MODELS, "predict_fraction=config.model.decoder.predict_fraction"),
    forgotten(MODELS, "position_base=model.position_base"),
    forgotten(MODELS, "drop_path=drop_path"),
    forgotten(MODELS, "checkpointing=model.checkpointing"),
    forgotten(MODELS, "positions=model.positions"),
    forgotten(MODELS, "pixels=diffusion.pixels"),
    forgotten(MODELS, "weight=feature.weight"),
    forgotten(MODELS, "head_init_scale=finetune.head_init_scale"),
    forgotten(MODELS, "head_dropout=finetune.head_dropout"),
    forgotten(DATASETS, "erase_prob=finetune.erase_prob if finetune else 0.0"),
    forgotten(DATASETS, "flip=train.flip"),
    forgotten(DATASETS, "scale=(train.crop_scale[0], train.crop_scale[1])"),
    forgotten(DATASETS, "sampling=config.finetune.sampling"),
    Mutant(
        "weight decay is left at torch's",
        "diffmae_video/engine/setup.py",
        "weight_decay=train.weight_decay",
        "weight_decay=0.01",
        KEYS,
    ),
    Mutant(
        "betas are those of pre-training",
        "diffmae_video/engine/setup.py",
        "betas=(train.betas[0], train.betas[1])",
        "betas=(0.9, 0.95)",
        KEYS,
    ),
    Mutant(
        "the average's decay isn't passed on", "diffmae_video/engine/setup.py", "ema_decay=train.ema_decay,\n", "", KEYS
    ),
    Mutant(
        "a stage warms up as long as the other",
        "diffmae_video/engine/setup.py",
        "warmup_steps=round(train.warmup_epochs * steps_per_epoch)",
        "warmup_steps=round(config.pretrain.warmup_epochs * steps_per_epoch)",
        KEYS,
    ),
    Mutant(
        "checkpoints are counted in whole epochs of the run",
        "diffmae_video/engine/setup.py",
        "checkpoint_steps=steps(train.checkpoint_epochs)",
        "checkpoint_steps=steps(train.epochs)",
        KEYS,
    ),
    Mutant(
        "rho is applied to the default schedule",
        "diffmae_video/build/models.py",
        "Schedule(diffusion.schedule, num_steps=diffusion.num_steps, rho=diffusion.rho)",
        "Schedule(num_steps=diffusion.num_steps, rho=diffusion.rho)",
        KEYS,
    ),
    Mutant(
        "fine-tuning's own list isn't read",
        "diffmae_video/build/datasets.py",
        '"finetune": config.finetune.train_list or data.train_list',
        '"finetune": data.train_list or config.finetune.train_list',
        KEYS,
    ),
    Mutant(
        "mixup and cutmix are exchanged", STAGES, "mixup=config.finetune.mixup", "mixup=config.finetune.cutmix", KEYS
    ),
    Mutant(
        "label smoothing isn't the config's",
        STAGES,
        "label_smoothing=config.finetune.label_smoothing",
        "label_smoothing=0.1",
        KEYS,
    ),
    Mutant("the mask's ratio isn't the config's", STAGES, "mask_ratio=config.mask.ratio", "mask_ratio=0.9", KEYS),
    Mutant(
        "the speed counts one clip a video",
        STAGES,
        "flops_per_video=flops * build.stage_section(this.config, stage).clips_per_video",
        "flops_per_video=flops",
        KEYS,
    ),
    Mutant(
        "a test takes the fine-tuning's batch size",
        STAGES,
        "batch_size=this.config.test.batch_size",
        "batch_size=this.config.finetune.batch_size",
        KEYS,
    ),
    Mutant(
        "validation takes all views",
        STAGES,
        "views=1, crops=1, name=",
        "views=this.config.test.views, crops=1, name=",
        KEYS,
    ),
    Mutant(
        "the softmax comes after the mean over the views",
        EVALUATE,
        "return logits.float().softmax(-1).unflatten(0, clips.shape[:2]).mean(1)",
        "return logits.float().unflatten(0, clips.shape[:2]).mean(1).softmax(-1)",
        BY_HAND,
    ),
    Mutant(
        "views of different videos are averaged",
        EVALUATE,
        "return logits.float().softmax(-1).unflatten(0, clips.shape[:2]).mean(1)",
        "return logits.float().softmax(-1).unflatten(0, clips.shape[1::-1]).mean(0)",
        BY_HAND,
    ),
    Mutant(
        "only the first view counts",
        EVALUATE,
        "unflatten(0, clips.shape[:2]).mean(1)",
        "unflatten(0, clips.shape[:2])[:, 0]",
        BY_HAND,
    ),
    Mutant("top-5 is top-4", EVALUATE, "rank < 1, rank < 5", "rank < 1, rank < 4", BY_HAND),
    Mutant(
        "ties count for the label",
        EVALUATE,
        "return (scores >= own).sum(1) - 1",
        "return (scores > own).sum(1)",
        "tests/engine/train/test_finetune.py::test_a_constant_classifier_is_never_right",
    ),
    Mutant("a test runs with dropout", EVALUATE, "    model.eval()\n", "    model.train()\n", BY_HAND),
    Mutant(
        "unread videos are scored",
        EVALUATE,
        "            if error:\n",
        "            if error and False:\n",
        BY_HAND,
    ),
    Mutant(
        "ranks share out the videos of one too few",
        "diffmae_video/data/loader.py",
        "mine = range(rank, len(dataset), world_size)",
        "mine = range(rank, len(dataset) - len(dataset) % world_size, world_size)",
        BY_HAND,
    ),
    Mutant(
        "a last, smaller batch is left out",
        "diffmae_video/data/loader.py",
        "for i in range(0, len(mine), batch_size)]",
        "for i in range(0, len(mine) - batch_size + 1, batch_size)]",
        BY_HAND,
    ),
    *(
        Mutant(
            f"another {key} goes on with the same run",
            "diffmae_video/engine/compatibility.py",
            '    "test.batch_size",\n',
            f'    "test.batch_size",\n    "{key}",\n',
            "tests/engine/test_keys.py::test_identity_covers_every_key",
        )
        for key in ("finetune.mixup", "data.fps", "mask.kind")
    ),
    Mutant(
        "a pre-training goes on with another decoder",
        "diffmae_video/engine/compatibility.py",
        'and not (stage != "pretrain" and name.startswith("model.decoder."))',
        'and not name.startswith("model.decoder.")',
        "tests/engine/test_keys.py::test_identity_covers_every_key",
    ),
]
