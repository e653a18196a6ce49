"""Faults in augmentation, in which frames a clip has, and in what the configs say of themselves."""

from tests.mutants.mutant import Mutant

RAND_AUGMENT = "diffmae_video/data/rand_augment.py"
TRANSFORMS = "diffmae_video/data/transforms.py"
DATASET = "diffmae_video/data/dataset.py"
CLIPS = "diffmae_video/data/frame_sampling.py"
OPERATIONS = "tests/data/test_rand_augment.py::test_each_operation_is_timms_on_pil_images"
LAW = "tests/data/test_rand_augment.py::test_the_law_of_the_draws"
STRINGS = "tests/data/test_rand_augment.py::test_a_string_means_what_it_means_to_timm"
ERASED = "tests/data/test_transforms.py::test_an_erased_box_is_new_normal_noise_in_every_frame"

MUTANTS = [
    Mutant(
        "every picked operation is applied",
        RAND_AUGMENT,
        "if use < self.prob",
        "if use < 1",
        LAW,
    ),
    Mutant(
        "one level for all operations of a clip",
        RAND_AUGMENT,
        "noise = torch.randn(self.num_ops, generator=generator, dtype=torch.float64).tolist()",
        "noise = torch.randn(1, generator=generator, dtype=torch.float64).tolist() * self.num_ops",
        LAW,
    ),
    Mutant(
        "operations are applied in one direction only",
        RAND_AUGMENT,
        "1 if up < 0.5 else -1)",
        "1)",
        LAW,
    ),
    Mutant(
        "levels are not clipped above",
        RAND_AUGMENT,
        "min(MAX_LEVEL, max(0.0, self.magnitude + self.magnitude_std * z))",
        "max(0.0, self.magnitude + self.magnitude_std * z)",
        LAW,
    ),
    Mutant(
        "posterize keeps more bits the higher the level, as without inc1",
        RAND_AUGMENT,
        "kept = 4 - int(level / MAX_LEVEL * 4)",
        "kept = 4 + int(level / MAX_LEVEL * 4)",
        f"{OPERATIONS}[PosterizeIncreasing]",
    ),
    Mutant(
        "what comes from outside the picture is black",
        RAND_AUGMENT,
        "shown.round_(), float(FILL))",
        "shown.round_(), 0.0)",
        f"{OPERATIONS}[Rotate]",
    ),
    Mutant(
        "a shear is about the centre, not about the top edge",
        RAND_AUGMENT,
        "return _warp(clip, ((1.0, sign * level * 0.03, 0.0), (0.0, 1.0, 0.0)))",
        "return _warp(clip, ((1.0, sign * level * 0.03, 0.0), (0.0, 1.0, 0.0)), centred=True)",
        f"{OPERATIONS}[ShearX]",
    ),
    Mutant(
        "a vertical translation is a share of the width",
        RAND_AUGMENT,
        "sign * level * 0.045 * clip.shape[-2]",
        "sign * level * 0.045 * clip.shape[-1]",
        f"{OPERATIONS}[TranslateYRel]",
    ),
    Mutant(
        "one operation a clip where the string has no n",
        RAND_AUGMENT,
        'values.pop("num_ops", 2.0)',
        'values.pop("num_ops", 1.0)',
        STRINGS,
    ),
    Mutant(
        "RandAugment comes after the crop",
        DATASET,
        "first = self.rand_augment is not None and self.num_frames > 1",
        "first = self.rand_augment is not None and self.num_frames > 1000",
        "tests/data/test_dataset.py::test_rand_augment_sees_whole_frames_before_the_crop",
    ),
    Mutant(
        "large frames are augmented at their own size",
        DATASET,
        "RAND_AUGMENT_SHORT_SIDE = 320",
        "RAND_AUGMENT_SHORT_SIDE = 3200",
        "tests/data/test_dataset.py::test_rand_augment_sees_a_short_side_of_320_at_most",
    ),
    Mutant(
        "an erased box has the same noise in all frames",
        TRANSFORMS,
        "noise = torch.randn(*clip.shape[:2], h, w, generator=generator)",
        "noise = torch.randn(clip.shape[1], h, w, generator=generator)",
        ERASED,
    ),
    Mutant(
        "an erased box's noise is uniform",
        TRANSFORMS,
        "noise = torch.randn(*clip.shape[:2], h, w, generator=generator)",
        "noise = 4 * torch.rand(*clip.shape[:2], h, w, generator=generator) - 2",
        ERASED,
    ),
    Mutant(
        "erasing keeps to MAE-ST's mean whatever the config's",
        "diffmae_video/build/datasets.py",
        "        mean=data.mean,\n        std=data.std,\n        short_video",
        "        short_video",
        "tests/engine/test_build.py",
    ),
    Mutant(
        "a box is wide where timm's is high",
        TRANSFORMS,
        "h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))\n        if 0 < h < height",
        "h, w = round(math.sqrt(area)), round(math.sqrt(area))\n        if 0 < h < height",
        "tests/data/test_transforms.py::test_boxes_are_erased_as_often_and_as_large_as_timms",
    ),
    Mutant(
        "two segment views take a quarter and three quarters of each segment",
        CLIPS,
        "(np.arange(num_views), num_views)",
        "(2 * np.arange(num_views) + 1, 2 * num_views)",
        "tests/data/test_frame_sampling.py",
    ),
    Mutant(
        "repeated frames are only noticed without a stride",
        CLIPS,
        "if stride_frames * rate >= 0.95 * fps:",
        "if rate >= 0.95 * fps:",
        "tests/data/test_frame_sampling.py::test_what_repeats_frames_and_what_does_not",
    ),
    Mutant(
        "a run says nothing of repeated frames in training",
        "diffmae_video/engine/train/trainer.py",
        "progress.note_once(kind, line)",
        "pass",
        "tests/engine/test_cli.py::test_a_run_names_a_video_of_too_few_frames_once",
    ),
    Mutant(
        "Something-Something is sampled at 30 frames a second",
        "configs/ssv2_vitl.yaml",
        "  fps: 12\n",
        "  fps: 30\n",
        "tests/test_configs.py::test_its_clips_have_as_many_frames_as_they_say",
    ),
    Mutant(
        "a config's layer decay is no longer its peer's, and its opening doesn't say so",
        "configs/k400_vith.yaml",
        "  layer_decay: 0.8\n",
        "  layer_decay: 0.75\n",
        "tests/test_configs.py::test_its_opening_lists_every_key_that_differs_from_its_peer",
    ),
]
