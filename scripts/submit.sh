#!/usr/bin/env bash
# Batch jobs on HTCondor, SLURM, or this machine: python -m pfnano_tag.submit
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.submit "$@"
