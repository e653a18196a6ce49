"""Faults in inpainting whole films, in masks, in features, in devices, and in what a step's time covers."""

from tests.mutants.mutant import Mutant

FILM = "diffmae_video/inpainting/film.py"
MASKS = "diffmae_video/inpainting/masks.py"
INPAINTING = "diffmae_video/inpainting/pipeline.py"
DEVICE = "diffmae_video/engine/distributed/device.py"
TRAINING = "diffmae_video/engine/train/trainer.py"
FEATURES = "tools/extract_features.py"
IN_FILMS = "tests/inpainting/test_film.py::"
IN_MASKS = "tests/inpainting/test_masks.py::"
IN_TOOL = "tests/tools/test_inpaint_tool.py::"
IN_FEATURES = "tests/tools/test_extract_features.py::"
STEP_TIME = "tests/engine/monitor/test_profiling.py::test_a_steps_time_is_all_of_it_but_checkpoints_and_validation"

MUTANTS = [
    Mutant(
        "a mask is squeezed to the clip's square",
        FILM,
        "F.adaptive_max_pool2d(picture[None].float(), (self.height, self.width))",
        "F.adaptive_max_pool2d(picture[None].float(), (self.height, self.box.left * 2 + self.box.width))",
        IN_FILMS + "test_a_rectangle_hides_exactly_the_patches_whose_source_it_touches",
    ),
    Mutant(
        "thin lines vanish from masks",
        FILM,
        "F.adaptive_max_pool2d(picture[None].float(), (self.height, self.width))[0].bool()",
        "F.interpolate(picture[None, None].float(), (self.height, self.width))[0, 0].bool()",
        IN_MASKS + "test_a_thin_line_hides_its_cubes",
    ),
    Mutant(
        "the end of a film that is no whole number of windows is left out",
        FILM,
        "np.append(np.arange(0, max(len(self) - span, 0), span), max(len(self) - span, 0))",
        "np.arange(0, max(len(self) - span, 0) + 1, span)",
        IN_FILMS + "test_every_frame_is_filled_once",
    ),
    Mutant(
        "frames of overlapping windows are filled twice",
        FILM,
        "self.places.max((1, 2))[:-1] + 1)",
        "self.places.min((1, 2))[1:])",
        IN_FILMS + "test_every_frame_is_filled_once",
    ),
    Mutant(
        "a clip's frames are as far apart as in a film of the model's rate",
        FILM,
        "stride_frames * _rate(seconds) / fps if fps else stride_frames",
        "stride_frames",
        IN_FILMS + "test_clips_of_a_window_alternate_as_far_apart_as_the_models_frames",
    ),
    Mutant(
        "what is left out isn't said",
        FILM,
        "rest, side = self.total - len(self), self.square.box.width",
        "rest, side = 0, self.square.box.width",
        IN_FILMS + "test_a_limit_takes_the_start_and_says_so",
    ),
    Mutant(
        "all frames of a film stay in memory until it ends",
        FILM,
        "while read <= numbers[part].max():",
        "while read < len(film):",
        IN_FILMS + "test_windows_are_read_once_and_few_at_a_time",
    ),
    Mutant(
        "frames come out at a constant rate",
        INPAINTING,
        "writer.write(_even(frame), second=float(film.seconds[numbers[place]]))",
        "writer.write(_even(frame))",
        IN_TOOL + "test_a_film_of_no_constant_rate_keeps_its_times",
    ),
    Mutant(
        "a box ends with the first of its frames",
        MASKS,
        "shown if t0 <= number < t1 else seen",
        "shown if t0 <= number <= t0 else seen",
        IN_MASKS + "test_a_box_hides_from_its_first_frame_to_before_its_last",
    ),
    Mutant(
        "a mask film of another length is taken",
        MASKS,
        "if len(reader.times) not in (1, film.total):",
        "if 1 < len(reader.times) < 12:",
        IN_MASKS + "test_files_that_do_not_fit_are_refused",
    ),
    Mutant(
        "every clip of a window draws its own noise",
        INPAINTING,
        "key = (first, count)",
        "key = (first, count, clip)",
        IN_TOOL + "test_clips_that_alternate_are_sampled_from_the_same_noise",
    ),
    Mutant(
        "noise is drawn on the CPU for a model on a GPU",
        INPAINTING,
        '"inpaint noise", *key, device=device)',
        '"inpaint noise", *key)',
        IN_TOOL + "test_everything_goes_to_the_models_device",
    ),
    Mutant(
        "frames that two windows share are measured twice",
        INPAINTING,
        '(rows["original"], rows[name], cubes & new)',
        '(rows["original"], rows[name], cubes)',
        IN_TOOL + "test_each_frame_is_measured_once",
    ),
    Mutant(
        "one visible GPU a task is refused",
        DEVICE,
        "else 0 if visible == 1 else local_rank",
        "else local_rank",
        "tests/engine/distributed/test_context.py::test_a_ranks_gpu",
    ),
    Mutant(
        "ranks on other devices aren't noticed",
        DEVICE,
        "if kind != common]",
        "if not kind]",
        "tests/engine/distributed/test_context.py::test_many_ranks_are_named_shortly",
    ),
    Mutant(
        "rank 0 takes the store with it before the others have read why",
        DEVICE,
        'store.add("read", 0) < size',
        'store.add("read", 0) < 1',
        "tests/engine/distributed/test_context.py::test_rank_0_stays_until_all_have_read",
    ),
    Mutant(
        "a step's time begins when its data come",
        TRAINING,
        "        self._asked_for_data = time.perf_counter()\n\n    def _bad_message",
        "        self._asked_for_data = self._step_began = time.perf_counter()\n\n    def _bad_message",
        STEP_TIME,
    ),
    Mutant(
        "checkpoints count as time of a step",
        TRAINING,
        "self._step_began += time.perf_counter() - began",
        "pass",
        STEP_TIME,
    ),
    Mutant(
        "recomputed activations count as FLOPs",
        "diffmae_video/engine/dry_run.py",
        "replace(config.model, checkpointing=False)",
        "replace(config.model)",
        "tests/engine/test_dry_run.py::test_recomputed_activations_are_no_work",
    ),
    Mutant(
        "features are the last part's views alone",
        FEATURES,
        "sums[index] = sums.get(index, 0) + row",
        "sums[index] = row",
        IN_FEATURES + "test_many_views_are_decoded_and_encoded_a_few_at_a_time",
    ),
    Mutant(
        "all views of a video are decoded at once",
        FEATURES,
        "crops=1), at_once=args.batch_size)",
        "crops=1), at_once=args.views)",
        IN_FEATURES + "test_many_views_are_decoded_and_encoded_a_few_at_a_time",
    ),
    Mutant(
        "--timeout reaches no reader",
        FEATURES,
        "replace(config.data, timeout_seconds=args.timeout)",
        "replace(config.data)",
        IN_FEATURES + "test_a_slow_video_points_to_the_time_limit",
    ),
    Mutant(
        "the clip in the figure is always the first of its window",
        "diffmae_video/inpainting/pipeline.py",
        "row[window - part.start, clip]",
        "row[window - part.start, 0]",
        "tests/tools/test_inpaint_tool.py::test_any_clip_can_be_shown",
    ),
    Mutant(
        "one clip more than there are can be shown",
        "tools/inpaint.py",
        "if args.show >= clips:",
        "if args.show > clips:",
        "tests/tools/test_inpaint_tool.py::test_what_cannot_be_done_is_one_line_and_exit_2",
    ),
    Mutant(
        "a mask ratio that isn't finite is a traceback",
        "diffmae_video/model/masking.py",
        "    if not math.isfinite(ratio):",
        "    if ratio == math.inf:",
        "tests/tools/test_inpaint_tool.py::test_what_cannot_be_done_is_one_line_and_exit_2",
    ),
    Mutant(
        "features are extracted before their file turns out to be a folder",
        "tools/extract_features.py",
        "    if args.out.is_dir():",
        "    if args.out.is_file():",
        "tests/tools/test_extract_features.py::test_what_is_wrong_shows_before_the_encoder_is_loaded",
    ),
]
