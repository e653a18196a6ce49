"""Faults in how configs are read, in launching and in the command lines."""

from tests.mutants.mutant import Mutant

LOAD = "diffmae_video/config/load.py"
POINTS = "diffmae_video/launch/sweep.py"
TABLE = "diffmae_video/launch/table.py"
VALUES = "tests/config/test_values.py"

MUTANTS = [
    Mutant(
        "a key given twice in a file: the last one silently wins",
        LOAD,
        "        if key.value in lines:\n",
        "        if key.value in lines and False:\n",
        f"{VALUES}::test_what_is_wrong_in_a_file_is_named_with_its_line",
    ),
    Mutant(
        "digits may be grouped by underscores, as YAML 1.1 has it",
        LOAD,
        're.compile(r"[-+]?[0-9]{1,18}")',
        're.compile(r"[-+]?[0-9_]{1,18}")',
        f"{VALUES}::test_whole_numbers",
    ),
    Mutant(
        "1e999 is taken as a number",
        LOAD,
        "if not _FLOAT.fullmatch(node.value) or math.isinf(float(node.value)):",
        "if not _FLOAT.fullmatch(node.value):",
        f"{VALUES}::test_numbers_are_finite_decimal_ones",
    ),
    Mutant(
        "the days of a SLURM time are forgotten",
        LOAD,
        "24.0 * (days + long_days)",
        "24.0 * long_days",
        f"{VALUES}::test_hours_may_be_written_as_slurm_writes_times",
    ),
    Mutant(
        "the home folder is expanded in every text",
        LOAD,
        "    str: _read_str,\n",
        "    str: _read_path,\n",
        f"{VALUES}::test_home_in_paths_only",
    ),
    Mutant(
        "data.val_list is no path",
        "diffmae_video/config/schema.py",
        'key("", "list of validation videos, scored by the test stage", kind="path")',
        'key("", "list of validation videos, scored by the test stage")',
        f"{VALUES}::test_every_key_that_holds_a_path_expands_home",
    ),
    Mutant(
        "an entry of slurm.extra replaces those of the file",
        LOAD,
        "copy.deepcopy(values.by_name.get(owner, {}))",
        "{}",
        f"{VALUES}::test_the_last_override_wins_over_earlier_ones_and_the_file",
    ),
    Mutant(
        "a mistake in a rule names the file, not the override",
        LOAD,
        "            self.sources[name] = source_of(node)\n",
        "            self.sources.setdefault(name, source_of(node))\n",
        "tests/config/test_config.py::test_a_rule_broken_by_an_override_names_the_override",
    ),
    Mutant(
        "AdamW's betas are unbounded",
        "diffmae_video/config/schema.py",
        'key([0.9, 0.95], "AdamW\'s betas", bounds="[0, 1)")',
        'key([0.9, 0.95], "AdamW\'s betas")',
        f"{VALUES}::test_what_is_wrong_in_a_file_is_named_with_its_line",
    ),
    Mutant(
        "the later of two axes of one key wins",
        POINTS,
        "        if key in values:\n",
        "        if not key:\n",
        "tests/launch/test_sweep.py::test_a_key_swept_twice_is_refused",
    ),
    Mutant(
        "long names are cut without the hash that tells them apart",
        POINTS,
        '}-{digest}"',
        '}"',
        "tests/launch/test_sweep.py::test_names_too_long_for_a_folder_are_cut_and_stay_apart",
    ),
    Mutant(
        "equal named points both run",
        POINTS,
        "output_dir=point.config.output_dir) == point.config:",
        "output_dir=other.name) == point.config:",
        "tests/launch/test_sweep.py::test_bad_point_files",
    ),
    Mutant(
        "ports reach into Linux's ephemeral range",
        "diffmae_video/engine/distributed/env.py",
        "_FIRST_PORT, _NUM_PORTS = 12000, 20000",
        "_FIRST_PORT, _NUM_PORTS = 20000, 20000",
        "tests/launch/test_submission.py::test_jobs_on_one_node_have_different_ports",
    ),
    Mutant(
        "the loader's own process needs no CPU",
        "diffmae_video/engine/distributed/env.py",
        "if usable >= num_workers + 1:",
        "if usable >= num_workers:",
        "tests/engine/distributed/test_env.py::test_too_few_cpus_for_the_loader_is_one_line",
    ),
    Mutant(
        "srun doesn't get the CPUs of a task",
        "diffmae_video/launch/submission.py",
        '["--kill-on-bad-exit=1", f"--cpus-per-task={slurm.cpus_per_task}"]',
        '["--kill-on-bad-exit=1"]',
        "tests/launch/test_submission.py::test_a_dry_run_shows_the_script_and_leaves_nothing",
    ),
    Mutant(
        "a folder with % is submitted",
        "diffmae_video/launch/submission.py",
        'for character in ("%", "\\\\"):',
        'for character in ("\\\\",):',
        "tests/launch/test_submission.py::test_folders_that_slurm_would_read_as_patterns",
    ),
    Mutant(
        "local process ids are given to scancel",
        "diffmae_video/launch/cli.py",
        'for job in row.live if row.cluster == "slurm"]',
        "for job in row.live]",
        "tests/launch/test_table.py::test_cancel_leaves_local_processes_alone",
    ),
    Mutant(
        "a run whose process is gone counts as running",
        TABLE,
        'and not _process_exists(status["pid"])',
        'and _process_exists(status["pid"])',
        "tests/launch/test_table.py::test_runs_that_were_not_submitted_have_rows_too",
    ),
    Mutant(
        "every ValueError is a user's mistake",
        "diffmae_video/command_line.py",
        "return isinstance(error, UserError) or (",
        "return isinstance(error, ValueError) or (",
        "tests/tools/test_command_lines.py::test_faults_of_ours",
    ),
    Mutant(
        "an upper bound of an argument is not held",
        "diffmae_video/command_line.py",
        "if value < low or (high is not None and value > high):",
        "if value < low:",
        "tests/tools/test_command_lines.py::test_bounds",
    ),
    Mutant(
        "configs load torch",
        "diffmae_video/config/schema.py",
        "from diffmae_video.sizes import SIZES\n",
        "from diffmae_video.sizes import SIZES\nimport diffmae_video.model  # noqa\n",
        "tests/tools/test_command_lines.py::test_what_needs_no_model_is_told_without_loading_torch",
    ),
    Mutant(
        "another rank ends with 1 where the first had a user's mistake with a path",
        "diffmae_video/engine/distributed/heartbeat.py",
        "if is_user_error(error):",
        "if type(error).__name__ == 'UserError':",
        "tests/engine/distributed/test_context.py::test_a_rank_that_is_refused_takes_the_job_down",
    ),
    Mutant(
        "a pre-training that begins from a run leaves its decoder behind",
        "diffmae_video/weights/load.py",
        "        model.load_state_dict(rest, strict=False)\n",
        "        pass\n",
        "tests/engine/test_pretrain_init.py::test_a_run_begins_from_all_weights_of_an_earlier_one",
    ),
    Mutant(
        "a decoder of another depth is taken over in part",
        "diffmae_video/weights/load.py",
        "    fits = own.keys() == rest.keys() and all(",
        "    fits = all(n in rest for n in list(own)[:9]) and all(",
        "tests/engine/test_pretrain_init.py::test_another_decoder_stays_fresh_as_a_whole",
    ),
]
