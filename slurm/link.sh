#!/usr/bin/env bash
# A link of a chain on SLURM, between two stages; `python -m pfnano_tag.submit chain CARD --backend slurm` submits the
# first one, and each submits the jobs of its stage, and the link that comes after them:
#
#   sbatch [--dependency=afterany:JOBS] [...] link.sh CHAIN ENDED NEXT
#
# ENDED is the stage whose jobs have ended, NEXT the one that comes now; the first link has no ENDED, the last no NEXT.
# A stage that is not complete ends the chain here, and its log says so; only `compare` takes what there is.
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --no-requeue
#SBATCH --open-mode=append
set -euo pipefail

chain="$1"
ended="$2"
next="$3"
code=0
if [ -n "$ended" ]; then
  bash "$chain/chain.sh" after "$ended" || code=$?
fi
if [ "$next" = compare ] || { [ -n "$next" ] && [ "$code" -eq 0 ]; }; then
  bash "$chain/chain.sh" before "$next" || code=$?
fi
exit "$code"
