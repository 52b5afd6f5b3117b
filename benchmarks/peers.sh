#!/usr/bin/env bash
# Makes the environments of the peers that benchmarks compare with: bash benchmarks/peers.sh [weaver] [weaver_0.4] [salt] [coffea]
# Each is a venv in benchmarks/peers/NAME with its own packages; torch is that of constraints.txt in all of them.
# A second run does nothing.
#
#   PFNANO_TAG_PYTHON  the Python that they are made from (default: python3)
#   PFNANO_TAG_TORCH   what to install as torch, as for scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "peers: $*"; }

# What a peer's environment consists of.
packages_of() {
  case "$1" in
    weaver) echo "weaver-core==0.5.3" ;;
    weaver_0.4) echo "--no-deps weaver-core==0.4.17" ;; # the last one before its loader got compiled kernels
    # without its requirements: it pins another torch; these are what its network classes import
    salt) echo "--no-deps salt-ml==0.13.0 atlas-ftag-tools==0.3.3 numpy scipy h5py hdf5plugin pyyaml" ;;
    coffea) echo "coffea==2026.9.0" ;;
    *)
      echo "error: there is no peer '$1'; there are: weaver, weaver_0.4, salt, coffea" >&2
      return 2
      ;;
  esac
}

make_peer() {
  local name="$1" packages folder="$PWD/benchmarks/peers/$1" torch limits wanted site
  packages="$(packages_of "$name")"
  torch="${PFNANO_TAG_TORCH:-$(grep -o '^torch==[^;]*' constraints.txt)}"
  wanted="$packages $torch"
  if [ -e "$folder/complete" ] && [ "$(cat "$folder/complete")" = "$wanted" ]; then
    say "$folder is complete, nothing to do"
    return
  fi
  say "making $folder: $wanted (this takes a few minutes the first time)"
  rm -rf "$folder"
  "${PFNANO_TAG_PYTHON:-python3}" -m venv "$folder"
  limits="$folder/constraints.txt"
  grep -v '^torch==' constraints.txt >"$limits"
  # $torch and $packages are split on purpose: they may hold options of pip.
  if [ "$name" = weaver_0.4 ]; then # takes all but weaver itself from the environment of weaver
    make_peer weaver
    site="$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    echo "${site/weaver_0.4/weaver}" >"$site/weaver.pth"
  else
    # shellcheck disable=SC2086
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$limits" $torch
  fi
  # shellcheck disable=SC2086
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$limits" $packages
  echo "$wanted" >"$folder/complete"
}

if [ "$#" -eq 0 ]; then
  set -- weaver weaver_0.4 salt coffea
fi
for peer in "$@"; do
  make_peer "$peer"
done
