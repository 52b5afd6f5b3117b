#!/usr/bin/env bash
# Items of a job folder as a SLURM array, one task per item; `python -m pfnano_tag.submit jobs CARD --backend slurm`
# writes the job folder and calls sbatch with its array, memory and time:
#
#   sbatch --array=0-99 [...] jobs.sh JOBFOLDER LIST RETRIES
#
# LIST holds the index of one item per line; the array counts its lines from 0. Some time before the time limit SLURM
# sends SIGTERM to this shell, which hands it on; what is incomplete then (exit code 75) is queued again.
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

job="$1"
list="$2"
retries="$3"
index="$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$list")"
if [ -z "$index" ]; then
  echo "error: $list: has no line $((SLURM_ARRAY_TASK_ID + 1))" >&2
  exit 2
fi

bash "$job/worker.sh" "$index" "$job" &
worker=$!
trap 'kill -TERM "$worker" 2>/dev/null || true' TERM
while kill -0 "$worker" 2>/dev/null; do # a signal ends a wait, not the worker
  wait "$worker" || true
done
code=0
wait "$worker" || code=$?

if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$retries" ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
