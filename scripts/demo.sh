#!/usr/bin/env bash
# From nothing to data/MC plots: bash scripts/demo.sh [FOLDER [CARD]]   (default: demo_study demo)
# Sets everything up, then runs every stage on a shipped card, with two processes of one thread each.
# A second run in the same folder goes on where the first one ended.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-demo_study}"
case "$folder" in
  -*)
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
card=("${2:-demo}" --set "study.folder='${folder//\'/\'\'}'")
export OMP_NUM_THREADS=1
steps=()
plots="$folder/comparison, $folder/evaluation, $folder/attacks, $folder/prepared"

# Runs one step with its wall and CPU time taken; stops the demo, with the step's name, when it fails.
step() {
  local name="$1" times code=0
  shift
  echo "== $name"
  times="$folder/.times"
  local TIMEFORMAT='%R %U %S'
  { time "$@" 2>&3; } 3>&2 2>"$times" || code=$?
  if [ "$code" -ne 0 ]; then
    echo "error: the demo stopped at step '$name' (exit code $code); run it again to go on from there" >&2
    exit "$code"
  fi
  steps+=("$name $(tail -n 1 "$times")")
  rm -f "$times"
}

# Names of the card's models, the last first: it is the largest network, and two are trained at a time.
models_of() {
  python -c '
import sys
from pfnano_tag.card import read_card
print(*reversed(read_card(sys.argv[1], sys.argv[3:]).models), sep="\n")' "$@"
}

train_all() {
  models_of "${card[@]}" | xargs -P 2 -I '{}' python -m pfnano_tag.train "${card[@]}" --model '{}' --resume
}

# Both look at the test split only: side by side. The attack takes some of its jets: a curve needs no more.
evaluate_and_attack() {
  python -m pfnano_tag.attack "${card[@]}" --jets 20000 &
  local attack="$!" code=0
  python -m pfnano_tag.evaluate "${card[@]}" || code=$?
  wait "$attack" || code=$?
  return "$code"
}

# Flavours that the card calibrates: none without a section `calibration`.
calibrated_of() {
  python -c '
import sys
from pfnano_tag.card import read_card
print(*read_card(sys.argv[1], sys.argv[3:]).calibration.regions)' "$@"
}

analyze_all() {
  python -m pfnano_tag.submit jobs "${card[@]}" --stage analyze --backend local --processes 2
}

step setup bash "$here/setup.sh"
# shellcheck source=scripts/activate.sh
source "$here/activate.sh"
step generate python -m pfnano_tag.generate "${card[@]}"
step prepare python -m pfnano_tag.prepare "${card[@]}"
step train train_all
step evaluate+attack evaluate_and_attack
step analyze analyze_all
step compare python -m pfnano_tag.compare "${card[@]}"
if [ -n "$(calibrated_of "${card[@]}")" ]; then
  step calibrate python -m pfnano_tag.calibrate "${card[@]}"
  plots="$plots, $folder/calibration"
fi

echo
printf '%s\n' "${steps[@]}" | LC_ALL=C awk '
  BEGIN { printf "%-16s %10s %10s\n", "step", "CPU [s]", "wall [s]" }
  { printf "%-16s %10.1f %10.1f\n", $1, $3 + $4, $2; cpu += $3 + $4; wall += $2 }
  END { printf "%-16s %10.1f %10.1f\n", "all", cpu, wall }'
echo
cat "$folder/comparison/table.md"
echo
echo "plots: $plots"
echo "table: $folder/comparison/table.md"
