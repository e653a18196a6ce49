"""Faults in masks, objectives, the encoder's taps, moving averages, and in who uses them."""

from tests.mutants.mutant import Mutant

MASKING = "diffmae_video/model/masking.py"
ENCODER = "diffmae_video/model/encoder.py"
OBJECTIVE = "diffmae_video/diffusion/objective.py"
DIFFMAE = "diffmae_video/diffusion/diffmae.py"
STATE = "diffmae_video/engine/train/train_state.py"
WEIGHTS = "diffmae_video/weights/load.py"
RULES = "diffmae_video/config/rules.py"

BLOCKS = "tests/model/test_masking.py::test_a_block_mask_is_four_boxes_that_grow"
EMBEDDING = "tests/diffusion/test_objective.py::test_the_embedding_of_t_is_diffusers_at_t_on_a_scale_of_1000"
EPS = "tests/diffusion/test_objective.py::test_eps_needs_a_schedule_whose_last_level_holds_something_of_x0"
FIRST_FRAME = "tests/diffusion/test_diffmae.py::test_the_first_frame_of_each_cube_is_mae_sts_target"
LET_GO = "tests/model/test_encoder.py::test_outputs_that_nobody_reads_are_let_go"
NO_CLIP = "tests/model/test_encoder.py::test_what_is_no_normalised_clip_is_refused_in_one_line"
WARM_UP = "tests/engine/train/test_train_state.py::test_the_average_warms_up_as_diffusers_does"
LOADERS = "tests/weights/test_load.py::test_every_loader_of_a_run_takes_the_weights_it_is_told"
ODD = "tests/engine/train/test_finetune.py::test_an_odd_number_of_clips_to_mix_is_refused"

MUTANTS = [
    Mutant(
        "a block mask's boxes end at the borders",
        MASKING,
        "torch.minimum(apart, 1 - apart)",
        "apart",
        "tests/model/test_masking.py::test_every_cube_is_hidden_equally_often",
    ),
    Mutant("a block mask has one box", MASKING, "NUM_BLOCKS = 4 ", "NUM_BLOCKS = 1 ", BLOCKS),
    Mutant("boxes reach to the middle of a cube", MASKING, " - cubes[0]).clamp(min=0)", ")", BLOCKS),
    Mutant("the embedding of t doesn't know the number of steps", OBJECTIVE, "1000 / num_steps", "1.0", EMBEDDING),
    Mutant("the embedding of t has waves of another base", OBJECTIVE, "math.log(10000)", "math.log(100)", EMBEDDING),
    Mutant(
        "the angles of t are as coarse as the weights",
        OBJECTIVE,
        "angle = self.scale * t[:, None] * frequency",
        "angle = self.scale * t[:, None] * frequency.to(next(self.mlp.parameters()).dtype)",
        "tests/diffusion/test_objective.py::test_a_cast_of_the_embedding_rounds_its_waves_not_their_angles",
    ),
    Mutant(
        "noise levels are cast with the model",
        OBJECTIVE,
        "self.levels = self.schedule.levels().float().to(self.levels.device)",
        "pass",
        "tests/diffusion/test_objective.py::test_a_cast_of_the_model_leaves_the_levels_as_they_are",
    ),
    Mutant(
        "eps goes with schedules that end in nothing",
        OBJECTIVE,
        "MIN_ALPHA_BAR_OF_EPS = 1e-10",
        "MIN_ALPHA_BAR_OF_EPS = 1e-290",
        EPS,
    ),
    Mutant(
        "the config's rule for eps doesn't look at rho",
        RULES,
        "num_steps=diffusion.num_steps, rho=diffusion.rho)",
        "num_steps=diffusion.num_steps)",
        "tests/config/test_config.py",
    ),
    Mutant(
        "the last frame of each cube is the target",
        DIFFMAE,
        "[..., : self.target_dim]",
        "[..., -self.target_dim :]",
        FIRST_FRAME,
    ),
    Mutant(
        "cubes are normalised by the biased variance",
        DIFFMAE,
        "cubes.var(-1, keepdim=True)",
        "cubes.var(-1, keepdim=True, correction=0)",
        FIRST_FRAME,
    ),
    Mutant(
        "the config's target frames don't reach the model",
        "diffmae_video/build/models.py",
        "        target_frames=diffusion.target_frames,\n",
        "",
        "tests/engine/test_keys.py",
    ),
    Mutant(
        "the encoder keeps the outputs of all blocks",
        ENCODER,
        "            if i in taps:\n",
        "            if True:\n",
        LET_GO,
    ),
    Mutant(
        "the last tap isn't normalised",
        ENCODER,
        "if last in outputs:",
        "if outputs.keys() == {last}:",
        "tests/model/test_encoder.py::test_every_tap_of_visible_cubes_matches_a_slow_loop",
    ),
    Mutant(
        "an exported classifier takes one size of batch",
        ENCODER,
        "self._all_cubes(video.shape[0])), (last,))",
        "self._all_cubes(len(video))), (last,))",
        "tests/model/test_encoder.py::test_an_exported_program_takes_any_batch",
    ),
    Mutant(
        "pixels up to 255 are taken for normalised", ENCODER, "LARGEST_VALUE = 50.0", "LARGEST_VALUE = 500.0", NO_CLIP
    ),
    Mutant(
        "integers are taken for clips",
        ENCODER,
        "if not video.is_floating_point():",
        "if video.dtype == torch.uint8:",
        NO_CLIP,
    ),
    Mutant(
        "the moving average doesn't warm up",
        STATE,
        "return min(decay, (1 + steps_before) / (10 + steps_before)) if steps_before else 0.0",
        "return decay",
        WARM_UP,
    ),
    Mutant("the initialisation has a share of the average", STATE, " if steps_before else 0.0", "", WARM_UP),
    Mutant(
        "skipped steps count for the average's warm-up",
        STATE,
        "        self.optimizer.zero_grad(set_to_none=True)\n",
        "        self.steps_taken += not finite\n        self.optimizer.zero_grad(set_to_none=True)\n",
        WARM_UP,
    ),
    Mutant(
        "the average warms up again after a resume",
        STATE,
        'return max((int(whole(state["step"]))',
        'return 0 * max((int(whole(state["step"]))',
        "tests/engine/train/test_train_state.py::test_both_forms_of_a_state_go_on_to_the_same_bits",
    ),
    Mutant(
        "averages are taken on demand only",
        WEIGHTS,
        'return dict(saved["model"]) if weights == "model" else',
        'return dict(saved["model"]) if weights != "ema" else',
        LOADERS,
    ),
    Mutant(
        "a classifier's weights can't be chosen",
        WEIGHTS,
        "choose_weights(saved, weights, path=path))",
        'choose_weights(saved, "auto", path=path))',
        LOADERS,
    ),
    Mutant(
        "fine-tuning doesn't choose the weights it begins from",
        "diffmae_video/engine/stages.py",
        ", weights=config.finetune.init_weights",
        "",
        "tests/engine/test_keys.py",
    ),
    Mutant(
        "inpainting doesn't choose its weights",
        "tools/inpaint.py",
        ", weights=args.weights",
        "",
        "tests/tools/test_inpaint_tool.py::test_moving_averages_are_taken_on_demand",
    ),
    Mutant(
        "features don't choose their weights",
        "tools/extract_features.py",
        ", weights=args.weights",
        "",
        "tests/tools/test_extract_features.py::test_moving_averages_are_taken_on_demand",
    ),
    Mutant("ranks don't matter to mixup's pairs", "diffmae_video/engine/setup.py", "ranks=world_size", "ranks=1", ODD),
    Mutant(
        "clips a video don't matter to mixup's pairs",
        RULES,
        "train.batch_size // parts * train.clips_per_video",
        "train.batch_size // parts",
        ODD,
    ),
]
