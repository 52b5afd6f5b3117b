#!/usr/bin/env bash
# Items of a job folder as a SLURM array, one task per item; `python -m pfnano_tag.submit jobs CARD --backend slurm`
# writes the job folder and calls sbatch with its array, memory and time:
#
#   sbatch --array=0-99 --signal=B:USR1@120 [...] jobs.sh JOBFOLDER LIST RETRIES
#
# LIST holds the index of one item per line; the array counts its lines from 0.
#
# SLURM signals this shell alone, which hands it on: SIGUSR1 some time before the time limit, after which the item goes
# on in another run; SIGTERM where somebody has cancelled the job, or it makes room for others, which SLURM queues again
# itself. (A job that asked to be queued again after `scancel` would come back.)
#SBATCH --nodes=1
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

ended="" worker=""
trap 'ended=yes; kill -TERM "$worker" 2>/dev/null || true' TERM
trap 'kill -TERM "$worker" 2>/dev/null || true' USR1
bash "$job/worker.sh" "$index" "$job" &
worker=$!
while kill -0 "$worker" 2>/dev/null; do # a signal ends a wait, not the worker
  wait "$worker" || true
done
code=0
wait "$worker" || code=$?

# Incomplete (75) and crashed items run again; bad input (2) stays bad, and memory (137: killed) stays too small.
case "$code" in
  0 | 2 | 137) ;;
  *)
    if [ -z "$ended" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$retries" ]; then
      echo "item $index: exit code $code, queued again"
      scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    fi
    ;;
esac
exit "$code"
