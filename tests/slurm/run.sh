#!/usr/bin/env bash
# The tests on a real two-node SLURM on this machine: bash tests/slurm/run.sh [pytest's arguments]
# Installs Debian's slurm-wlm and munge if they are missing; ends the cluster whatever happens. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv/bin/python

if ! PATH="$PATH:/usr/sbin:/sbin" command -v slurmctld munged > /dev/null; then
    echo "installing slurm-wlm and munge (Debian packages), which the cluster tests need"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurm-wlm munge
fi

SLURM_TEST_FOLDER=$(mktemp -d /tmp/cluster.XXXXXX)
export SLURM_TEST_FOLDER
stop() {
    "$python" tests/slurm/cluster.py stop "$SLURM_TEST_FOLDER" || true
    rm -rf "$SLURM_TEST_FOLDER"
}
trap stop EXIT
"$python" -m pytest -m slurm tests/slurm --durations=5 "$@"
