"""Faults in what a result is held to, in the checks before the first step, and in what is said and recorded."""

from tests.mutants.mutant import Mutant

_RESULTS = "tests/engine/test_results.py::"
_IDENTITY = "tests/engine/test_identity.py::"
_INPUTS = "tests/engine/test_inputs.py::"
_BROKEN = "tests/engine/test_broken.py::"
_BEST = f"{_RESULTS}test_the_best_is_chosen_by_the_weights_that_are_tested"
_DIGEST = f"{_IDENTITY}test_two_lists_have_one_digest_exactly_when_they_say_the_same"

MUTANTS = [
    Mutant(
        "a list's digest doesn't see labels",
        "diffmae_video/engine/digests.py",
        '_NOT_SAID = {"root", "notes", ',
        '_NOT_SAID = {"root", "notes", "labels", ',
        _DIGEST,
    ),
    Mutant(
        "a list's digest doesn't see segments",
        "diffmae_video/engine/digests.py",
        '_NOT_SAID = {"root", "notes", ',
        '_NOT_SAID = {"root", "notes", "segments", ',
        _DIGEST,
    ),
    Mutant(
        "a list's digest doesn't see where one name ends and the next begins",
        "diffmae_video/engine/digests.py",
        '_NOT_SAID = {"root", "notes", ',
        '_NOT_SAID = {"root", "notes", "ends", ',
        f"{_IDENTITY}test_the_same_letters_in_other_names_are_another_list",
    ),
    Mutant(
        "a list's digest sees the root",
        "diffmae_video/engine/digests.py",
        '_NOT_SAID = {"root", "notes", ',
        '_NOT_SAID = {"notes", ',
        f"{_RESULTS}test_moved_videos_and_lists_are_the_same_result",
    ),
    Mutant(
        "weights' digest doesn't see the averages",
        "diffmae_video/engine/digests.py",
        'for kind in ("model", "ema"):',
        'for kind in ("model",):',
        f"{_IDENTITY}test_weights_have_another_digest_when_anything_of_them_differs",
    ),
    Mutant(
        "digests are compared by presence only",
        "diffmae_video/engine/identity.py",
        "name in wanted and saved[name] != wanted[name]",
        "name not in wanted",
        f"{_IDENTITY}test_a_refusal_names_the_difference",
    ),
    Mutant(
        "a test's identity doesn't see how views are sampled",
        "diffmae_video/engine/identity.py",
        '{"test": ("finetune.sampling", "finetune.pool")}',
        '{"test": ("finetune.pool",)}',
        f"{_IDENTITY}test_a_test_is_of_its_views_sampling_and_pooling",
    ),
    Mutant(
        "the weights aren't part of a test's identity",
        "diffmae_video/engine/stages.py",
        'header["weights_sha256"] = weights_digest(saved)',
        'header["weights_sha256"] = ""',
        f"{_RESULTS}test_other_weights_under_the_same_name_are_scored_anew_and_the_same_in_a_new_file_are_not",
    ),
    Mutant(
        "fine-tuning isn't held to the weights that it began from",
        "diffmae_video/engine/stages.py",
        '{"init": weights_digest(load_checkpoint(source))} if',
        '{"init": "some"} if',
        f"{_RESULTS}test_a_fine_tuning_is_held_to_its_initial_weights_and_validation_list",
    ),
    Mutant(
        "a finished test is skipped without its score",
        "diffmae_video/engine/stages.py",
        "for line in describe_test(result):",
        "for line in []:",
        f"{_RESULTS}test_another_list_is_another_result_and_both_are_kept",
    ),
    Mutant(
        "all tests share one folder",
        "diffmae_video/engine/results.py",
        "-{digest[:8]}",
        "",
        f"{_RESULTS}test_another_list_is_another_result_and_both_are_kept",
    ),
    Mutant(
        "results may hold NaN",
        "diffmae_video/engine/results.py",
        ", allow_nan=False",
        "",
        f"{_RESULTS}test_no_result_holds_what_is_no_number",
    ),
    Mutant(
        "a test that read nothing leaves a result",
        "diffmae_video/engine/stages.py",
        "if not scores.used:",
        "if scores.total == 0:",
        f"{_RESULTS}test_a_test_that_read_nothing_is_not_finished",
    ),
    Mutant(
        "the run's recipe is rewritten where nothing was done",
        "diffmae_video/engine/stages.py",
        '    if result:\n        this.say(f"test: finished',
        '    if result:\n        _begin(this, "test", videos, folder)\n        this.say(f"test: finished',
        f"{_RESULTS}test_views_and_weights_are_of_the_result_and_how_it_is_carried_out_is_not",
    ),
    Mutant(
        "the best is chosen by the weights where the averages are tested",
        "diffmae_video/engine/stages.py",
        "        chosen = scores.top1\n",
        "        chosen = scores.top1 if kind == 'model' else chosen\n",
        _BEST,
    ),
    Mutant(
        "averages are validated with plain weights",
        "diffmae_video/engine/stages.py",
        'training.state.averaged() if kind == "ema" else contextlib.nullcontext()',
        "contextlib.nullcontext()",
        _BEST,
    ),
    Mutant(
        "an equal score replaces the best",
        "diffmae_video/engine/training.py",
        "if score > self.best_score:",
        "if score >= self.best_score:",
        _BEST,
    ),
    Mutant(
        "validation isn't in the metrics",
        "diffmae_video/engine/training.py",
        "        self._line |= scores\n",
        "",
        f"{_RESULTS}test_validation_is_in_the_metrics_and_in_the_result",
    ),
    Mutant(
        "FSDP2 scores the averages with gathered plain weights",
        "diffmae_video/engine/state.py",
        "self.model.reshard()",
        "self.model.eval()",
        "tests/engine/test_distributed.py::test_two_ranks_equal_one",
    ),
    Mutant(
        "a broken file is named at every read",
        "diffmae_video/engine/broken.py",
        "for path, reason in unread if path not in self.files",
        "for path, reason in unread",
        f"{_BROKEN}test_a_file_is_new_once_and_each_read_of_it_counts",
    ),
    Mutant(
        "each rank counts its own unreadable videos",
        "diffmae_video/engine/broken.py",
        "gather_objects(self.world, list(unread))",
        "[list(unread)]",
        f"{_BROKEN}test_all_ranks_have_the_counts_of_all",
    ),
    Mutant(
        "broken.csv keeps what came after the checkpoint",
        "diffmae_video/engine/broken.py",
        "write_broken(self.path, [(path, *entry)",
        "self.path.exists() or write_broken(self.path, [(path, *entry)",
        f"{_BROKEN}test_counting_goes_on_from_a_checkpoint_and_the_file_forgets_what_came_after_it",
    ),
    Mutant(
        "unlabelled videos reach the loss",
        "diffmae_video/engine/inputs.py",
        "(videos.labels < 0)",
        "(videos.labels < -1)",
        f"{_INPUTS}test_a_mistake_of_a_later_stage_is_found_before_the_first_step",
    ),
    Mutant(
        "a missing finetune.train_list is blamed on data.train_list",
        "diffmae_video/engine/build.py",
        'return "finetune.train_list" if',
        'return "data.train_list" if',
        f"{_INPUTS}test_a_mistake_of_a_later_stage_is_found_before_the_first_step",
    ),
    Mutant(
        "a dry run with problems exits with 0",
        "diffmae_video/engine/cli.py",
        "return USER_ERROR if problems else 0",
        "return 0",
        f"{_INPUTS}test_all_problems_are_listed_and_the_first_is_said_with_their_number",
    ),
    Mutant(
        "finished stages need their videos",
        "diffmae_video/engine/inputs.py",
        "if look_for_videos and open_stages & readers:",
        "if look_for_videos:",
        f"{_INPUTS}test_a_finished_run_needs_neither_its_videos_nor_the_weights_it_began_from",
    ),
]
