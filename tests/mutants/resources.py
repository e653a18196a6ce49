"""Faults in what is judged of a job before it is submitted, and in how a rank's failure is told."""

from tests.mutants.mutant import Mutant

LOAD = "diffmae_video/config/load.py"
RULES = "diffmae_video/config/rules.py"
SUBMISSION = "diffmae_video/launch/submission.py"
OVERRIDES = "tests/config/test_values.py::test_what_is_wrong_in_an_override"
BATCHES = "tests/launch/test_submission.py::test_bad_arguments"

MUTANTS = [
    Mutant(
        "a stage's resources keep no bounds",
        LOAD,
        "            check_value(name, specs[word], value)\n",
        "",
        OVERRIDES,
    ),
    Mutant(
        "a stage may have resources of its own for its stages",
        LOAD,
        'if spec.name not in ("extra", "stages")}',
        "}",
        OVERRIDES,
    ),
    Mutant(
        "an entry's override isn't where the entry was set",
        LOAD,
        "            values.sources[name] = source\n",
        "",
        "tests/config/test_values.py::test_what_is_wrong_for_a_stage_is_named_with_where_it_stands",
    ),
    Mutant(
        "an entry that a whole mapping replaced is blamed for it",
        LOAD,
        "                del self.sources[entry]\n",
        "                pass\n",
        "tests/config/test_values.py::test_what_is_wrong_for_a_stage_is_named_with_where_it_stands",
    ),
    Mutant(
        "slurm.extra.cpus_per_task goes past slurm.cpus_per_task",
        RULES,
        'option = name.replace("_", "-")',
        "option = name",
        OVERRIDES,
    ),
    Mutant(
        "a job's ranks are its nodes",
        SUBMISSION,
        "ranks=phase.slurm.nodes * tasks_per_node(phase.slurm)",
        "ranks=phase.slurm.nodes",
        BATCHES,
    ),
    Mutant(
        "the batch of the first point only is held to the ranks",
        SUBMISSION,
        "        for config in phase.configs:\n",
        "        for config in phase.configs[:1]:\n",
        BATCHES,
    ),
    Mutant(
        "batches are held to the ranks of the whole run, not of the stage's own job",
        SUBMISSION,
        "ranks=phase.slurm.nodes * tasks_per_node(phase.slurm)",
        "ranks=points[0].config.slurm.nodes * tasks_per_node(points[0].config.slurm)",
        BATCHES,
    ),
    Mutant(
        "a batch that can't be paired is found when the job runs",
        RULES,
        'if stage == "finetune" and "finetune" in config.stages:',
        'if stage == "finetune" and ranks == 1 and "finetune" in config.stages:',
        BATCHES,
    ),
    Mutant(
        "other ranks read a user's mistake with its class",
        "diffmae_video/engine/distributed/heartbeat.py",
        "code, last = USER_ERROR, error_line(error)",
        "code = USER_ERROR",
        "tests/engine/distributed/test_context.py::test_a_rank_that_is_refused_takes_the_job_down",
    ),
]
