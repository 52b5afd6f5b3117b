#!/usr/bin/env bash
# The data/MC job of one file, on HTCondor, SLURM or this machine:
#
#   worker.sh INDEX [JOBFOLDER [OUTPUTFOLDER]]
#
# INDEX       line of JOBFOLDER/items.txt, counted from 0
# JOBFOLDER   as `python -m pfnano_tag.submit jobs` writes it (default: the current folder)
# OUTPUT...   where DATASET/FILE.root is left (default: ./analysis; the folder always exists in the end)
#
# The exit code is that of `python -m pfnano_tag.analyze`: 0 complete, 75 incomplete, 2 bad input, 1 a bug.
set -euo pipefail
export PATH="${PATH:-/usr/bin:/bin}" # HTCondor may start a job without one

index="$1"
job="${2:-$PWD}"
output="${3:-$PWD/analysis}"
mkdir -p "$output"

python="" environment="" threads=1 models=""
# shellcheck disable=SC1091
source "$job/settings.sh" # python, environment, threads, models (empty: all of the card)

export OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads"
export PYTHONNOUSERSITE=1 HOME="${HOME:-$PWD}"

if [ -n "$environment" ]; then
  [ -e "$environment" ] || environment="$job/$(basename "$environment")" # transferred with the job
  unpacked="$(mktemp -d "${TMPDIR:-$PWD}/environment.XXXXXX")"
  trap 'rm -rf "$unpacked"' EXIT
  tar -xf "$environment" -C "$unpacked"
  set +u # conda's scripts read variables that may not be set
  # shellcheck disable=SC1091
  source "$unpacked/bin/activate"
  set -u
  if [ -x "$unpacked/bin/conda-unpack" ]; then
    "$unpacked/bin/python" "$unpacked/bin/conda-unpack"
  fi
  python="$unpacked/bin/python"
fi

# index, dataset, name of the output, file: separated by tabs; the file may hold anything but tab and newline
IFS=$'\t' read -r number dataset name file < <(sed -n "$((index + 1))p" "$job/items.txt")
if [ "$number" != "$index" ]; then
  echo "error: $job/items.txt: line $((index + 1)) is not item $index" >&2
  exit 2
fi
study="$job/study"
if [ "$job" = "$PWD" ] && [ -d inputs ]; then
  cp -R inputs/. . # files that the card names by a relative path
fi

chosen=()
for model in $models; do
  chosen+=(--model "$model")
done

echo "item $index on $(uname -n): $file"
# A batch system's SIGTERM reaches this shell only: it is passed on, and what was done by then is saved (exit code 75).
"$python" -m pfnano_tag.analyze "$job/card.yaml" --set "study.folder='${study//\'/\'\'}'" \
  --dataset "$dataset" --file "$file" --output "$output/$dataset/$name" ${chosen[@]+"${chosen[@]}"} &
process=$!
trap 'kill -TERM "$process" 2>/dev/null || true' TERM
while kill -0 "$process" 2>/dev/null; do # a signal ends a wait, not the process
  wait "$process" || true
done
code=0
wait "$process" || code=$?
echo "item $index: exit code $code"
exit "$code"
