#!/usr/bin/env bash
# Makes the files that benchmarks read: bash benchmarks/inputs.sh [NAME...]   (all: about 1 GB, six minutes of one core)
# They go to benchmarks/inputs, or to the folder that PFNANO_TAG_BENCHMARKS names. A second run does nothing.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/activate.sh"
cd "$root"
exec python -m benchmarks.inputs "$@"
