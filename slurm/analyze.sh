#!/usr/bin/env bash
# The data/MC jobs of a study as a SLURM array, one task per file; `python -m pfnano_tag.submit jobs CARD --backend
# slurm` writes the job folder and the sbatch command with its array, memory and time:
#
#   sbatch --array=0-99 slurm/analyze.sh JOBFOLDER OUTPUTFOLDER [FIRST]
#
# FIRST is added to the array's index, for sites that limit the size of an array.
#SBATCH --job-name=pfnano_analyze
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
set -euo pipefail

job="$1"
output="$2"
first="${3:-0}"
exec bash "$job/worker.sh" "$((first + SLURM_ARRAY_TASK_ID))" "$job" "$output"
