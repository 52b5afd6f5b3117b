#!/usr/bin/env bash
# One item of a job folder, on HTCondor, SLURM or this machine:
#
#   worker.sh INDEX [JOBFOLDER]
#
# INDEX       name of the item's folder: JOBFOLDER/items/INDEX, or beside this script where HTCondor has put it
# JOBFOLDER   as `python -m pfnano_tag.submit jobs` writes it (default: the current folder)
#
# Everything that is said goes to log.txt in the item's folder, where the results and report.json are left, too. The
# exit code is the stage's: 0 complete, 75 incomplete, 2 bad input, 1 a bug.
set -euo pipefail
export PATH="${PATH:-/usr/bin:/bin}" # HTCondor may start a job without one
PFNANO_TAG_BEGAN="$(date +%s)"
export PFNANO_TAG_BEGAN

index="$1"
job="${2:-$PWD}"
folder="$job/items/$index"
[ -d "$folder" ] || folder="$job/$index"
if [ ! -f "$folder/item.json" ]; then
  echo "error: $job: has no item $index" >&2
  mkdir -p "$index" # HTCondor is to find what it transfers back
  exit 2
fi
job="$(cd "$job" && pwd)"
folder="$(cd "$folder" && pwd)"
[ ! -f "$folder/report.json" ] || mv "$folder/report.json" "$folder/report.last.json"
exec >>"$folder/log.txt" 2>&1
echo "== item $index on $(uname -n), $(date '+%Y-%m-%d %H:%M:%S')"

# Leaves a report where Python could not, so that nobody waits for this job.
# shellcheck disable=SC2317  # a trap calls it
finish() {
  local code=$? attempt=1 error
  trap - EXIT
  if [ ! -f "$folder/report.json" ]; then
    # the last error of this attempt, as JSON wants it
    error="$(awk '/^== item/ {said = ""} /^error: / {said = $0} END {print said}' "$folder/log.txt" |
      tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"
    [ "$code" -le 128 ] || error="killed by signal $((code - 128))"
    [ -n "$error" ] || error="ended before the stage was started, see log.txt"
    if [ "$code" -eq 143 ]; then # told to stop, with nothing begun
      code=75
    fi
    if [ -f "$folder/report.last.json" ]; then
      attempt=$(($(sed -n 's/^ *"attempt": *\([0-9]*\),*$/\1/p' "$folder/report.last.json") + 1))
    fi
    printf '{\n "attempt": %d,\n "code": %d,\n "error": "%s",\n "host": "%s",\n "started": %d,\n "ended": %d\n}\n' \
      "$attempt" "$((code == 0 ? 1 : code))" "$error" "$(uname -n)" "$PFNANO_TAG_BEGAN" "$(date +%s)" \
      >"$folder/report.tmp"
    mv "$folder/report.tmp" "$folder/report.json"
  fi
  [ -n "${_CONDOR_SCRATCH_DIR:-}" ] || rm -rf "$scratch" # HTCondor removes its own, off the job's time
  echo "== item $index: exit code $code"
  exit "$code"
}
scratch="$(mktemp -d "${TMPDIR:-${_CONDOR_SCRATCH_DIR:-/tmp}}/pfnano_tag.XXXXXX")"
trap finish EXIT

python="" environment="" cache="" threads=1
# shellcheck disable=SC1091
source "$job/settings.sh" # python, environment, cache, threads
# shellcheck source=condor/unpack.sh
source "$job/unpack.sh"

export OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads"
export PYTHONNOUSERSITE=1 HOME="${HOME:-$PWD}"
[ ! -f "$job/proxy" ] || export X509_USER_PROXY="$job/proxy"
if [ -f "$job/token" ]; then # as WLCG Bearer Token Discovery has it, where BEARER_TOKEN would win
  export BEARER_TOKEN_FILE="$job/token"
  unset BEARER_TOKEN
fi

if [ -f "$job/before.sh" ]; then
  bash "$job/before.sh" "$folder"
fi

# The environment is active in here only; a batch system's SIGTERM reaches the script alone, and is passed on.
(
  export TMPDIR="$scratch"
  if [ -n "$environment" ]; then
    use_environment "$environment" || exit
  fi
  exec "$python" -m pfnano_tag.submit.runner "$job" "$folder"
) &
process=$!
trap 'kill -TERM "$process" 2>/dev/null || true' TERM
while kill -0 "$process" 2>/dev/null; do # a signal ends a wait, not the process
  wait "$process" || true
done
code=0
wait "$process" || code=$?

if [ -f "$job/after.sh" ]; then
  bash "$job/after.sh" "$folder"
fi
exit "$code"
