"""Faults between a recipe and the objects that it builds, in evaluation, and in what a run is known by."""

from tests.mutants.mutant import Mutant

KEYS = "tests/engine/test_keys.py::test_every_key_reaches_its_argument"
BUILD = "diffmae_video/engine/build.py"
STAGES = "diffmae_video/engine/stages.py"
EVALUATE = "diffmae_video/engine/evaluate.py"
BY_HAND = "tests/engine/test_evaluate.py"


def forgotten(path: str, line: str) -> Mutant:
    """A keyword argument that isn't passed on, so that its default holds."""
    return Mutant(f"{line} is not passed on", path, f"        {line},\n", "", KEYS)


MUTANTS = [
    forgotten(BUILD, "predict_fraction=recipe.model.decoder.predict_fraction"),
    forgotten(BUILD, "position_base=model.position_base"),
    forgotten(BUILD, "drop_path=drop_path"),
    forgotten(BUILD, "checkpointing=model.checkpointing"),
    forgotten(BUILD, "positions=model.positions"),
    forgotten(BUILD, "pixels=diffusion.pixels"),
    forgotten(BUILD, "weight=feature.weight"),
    forgotten(BUILD, "head_init_scale=finetune.head_init_scale"),
    forgotten(BUILD, "head_dropout=finetune.head_dropout"),
    forgotten(BUILD, "erase_prob=finetune.erase_prob if finetune else 0.0"),
    forgotten(BUILD, "flip=train.flip"),
    forgotten(BUILD, "scale=(train.crop_scale[0], train.crop_scale[1])"),
    forgotten(BUILD, "sampling=recipe.finetune.sampling"),
    Mutant("weight decay is left at torch's", BUILD, "weight_decay=train.weight_decay", "weight_decay=0.01", KEYS),
    Mutant(
        "betas are those of pre-training", BUILD, "betas=(train.betas[0], train.betas[1])", "betas=(0.9, 0.95)", KEYS
    ),
    Mutant("the average's decay isn't passed on", BUILD, "ema_decay=train.ema_decay,\n", "", KEYS),
    Mutant(
        "a stage warms up as long as the other",
        BUILD,
        "warmup_steps=round(train.warmup_epochs * steps_per_epoch)",
        "warmup_steps=round(recipe.pretrain.warmup_epochs * steps_per_epoch)",
        KEYS,
    ),
    Mutant(
        "checkpoints are counted in whole epochs of the run",
        BUILD,
        "checkpoint_steps=steps(train.checkpoint_epochs)",
        "checkpoint_steps=steps(train.epochs)",
        KEYS,
    ),
    Mutant(
        "rho is applied to the default schedule",
        BUILD,
        "Schedule(diffusion.schedule, num_steps=diffusion.num_steps, rho=diffusion.rho)",
        "Schedule(num_steps=diffusion.num_steps, rho=diffusion.rho)",
        KEYS,
    ),
    Mutant(
        "fine-tuning's own list isn't read",
        BUILD,
        '"finetune": recipe.finetune.train_list or data.train_list',
        '"finetune": data.train_list or recipe.finetune.train_list',
        KEYS,
    ),
    Mutant(
        "mixup and cutmix are exchanged", STAGES, "mixup=recipe.finetune.mixup", "mixup=recipe.finetune.cutmix", KEYS
    ),
    Mutant(
        "label smoothing isn't the recipe's",
        STAGES,
        "label_smoothing=recipe.finetune.label_smoothing",
        "label_smoothing=0.1",
        KEYS,
    ),
    Mutant("the mask's ratio isn't the recipe's", STAGES, "mask_ratio=recipe.mask.ratio", "mask_ratio=0.9", KEYS),
    Mutant(
        "the speed counts one clip a video",
        STAGES,
        "flops_per_video=flops * build.stage_section(this.recipe, stage).clips_per_video",
        "flops_per_video=flops",
        KEYS,
    ),
    Mutant(
        "a test takes the fine-tuning's batch size",
        STAGES,
        "batch_size=this.recipe.test.batch_size",
        "batch_size=this.recipe.finetune.batch_size",
        KEYS,
    ),
    Mutant(
        "validation takes all views",
        STAGES,
        "views=1, crops=1, name=",
        "views=this.recipe.test.views, crops=1, name=",
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
        "tests/engine/test_finetune.py::test_a_constant_classifier_is_never_right",
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
            "diffmae_video/engine/identity.py",
            '    "test.batch_size",\n',
            f'    "test.batch_size",\n    "{key}",\n',
            "tests/engine/test_keys.py::test_identity_covers_every_key",
        )
        for key in ("finetune.mixup", "data.fps", "mask.kind")
    ),
    Mutant(
        "a pre-training goes on with another decoder",
        "diffmae_video/engine/identity.py",
        'and not (stage != "pretrain" and name.startswith("model.decoder."))',
        'and not name.startswith("model.decoder.")',
        "tests/engine/test_keys.py::test_identity_covers_every_key",
    ),
]
