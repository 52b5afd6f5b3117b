#!/usr/bin/env bash
# Trains one network of a card on SLURM; submit from the checkout:
#
#   sbatch --cpus-per-task=4 --mem=8G --time=8:00:00 slurm/train.sh CARD MODEL [-s KEY=VALUE]...
#
# A scan, or all models of a card, as an array of one task per model:
#
#   bash scripts/train.sh CARD --list >models.txt
#   sbatch --array=1-$(wc -l <models.txt) [...] slurm/train.sh CARD models.txt [-s KEY=VALUE]...
#
# Several processes, one per GPU or core and on several machines if asked for, train the network together:
#
#   sbatch --ntasks=4 --gpus-per-task=1 --cpus-per-task=4 --mem-per-cpu=4G --time=8:00:00 slurm/train.sh CARD MODEL
#
# Two minutes before the time limit the training ends after its current batch, and the job queues again; it goes on
# behind that batch, with the result of a training that was never stopped.
#SBATCH --job-name=pfnano_train
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

card="$1"
model="$2"
shift 2
cd "${SLURM_SUBMIT_DIR:-$PWD}"
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # the name of the task's model is a line of a file
  names="$model"
  model="$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$names")"
  if [ -z "$model" ]; then
    echo "error: $names: line $SLURM_ARRAY_TASK_ID names no model; the array goes from 1 to the number of lines" >&2
    exit 2
  fi
fi
# shellcheck source=scripts/activate.sh
source "${PFNANO_TAG_ROOT:-$PWD}/scripts/activate.sh"
threads="${SLURM_CPUS_PER_TASK:-1}"
export OMP_NUM_THREADS="$threads"

launch=()
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then # processes that wait for one that has failed are ended with it
  launch=(srun --kill-on-bad-exit=1 --cpus-per-task="$threads")
fi

# The signal reaches this shell only: it is passed on (srun hands it to its processes), and waited for.
${launch[@]+"${launch[@]}"} python -m pfnano_tag.train "$card" --model "$model" --resume -s "resources.threads=$threads" "$@" &
training=$!
trap 'kill -TERM "$training" 2>/dev/null || true' TERM
while kill -0 "$training" 2>/dev/null; do # a signal ends a wait, not the training
  wait "$training" || true
done
code=0
wait "$training" || code=$?

if [ "$code" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
