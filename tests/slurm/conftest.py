"""A running cluster for the tests of this folder, and an uninterrupted run to compare with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.moves import LONG, ROOT, environment, job_in, wait_for_end, wait_until, write_config


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes for the whole session, in the folder that tests/slurm/run.sh names and clears if pytest is killed."""
    folder = os.environ.get("SLURM_TEST_FOLDER") or tmp_path_factory.mktemp("cluster")
    running = Cluster(folder)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
    running.stop()


@pytest.fixture(autouse=True)
def _idle_cluster(cluster: Cluster) -> Iterator[None]:
    """Cancel the jobs that a test leaves."""
    yield
    if cluster.run("squeue", "-h"):
        cluster.run("scancel", "--user=root")
        wait_until(lambda: not cluster.run("squeue", "-h"), "jobs are still there after scancel", seconds=60)


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two nodes and two ranks, and the same run on one machine in ``local``."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_config(folder, tiny_videos)
    command = [sys.executable, str(ROOT / "tools" / "submit.py"), "--cfg", str(config), *LONG]
    own = ["slurm.nodes=1", "slurm.tasks_per_node=2", f"output_dir={folder}/local", "--local"]
    here = subprocess.Popen([*command, *own], cwd=folder, env=environment())
    output = subprocess.check_output([*command, f"output_dir={folder}/slurm"], cwd=folder, text=True, env=environment())
    assert "watch  python tools/sweep.py" in output
    wait_for_end(job_in(output), seconds=240)
    assert here.wait(timeout=120) == 0
    return folder
