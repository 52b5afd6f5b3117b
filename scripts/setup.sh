#!/usr/bin/env bash
# Makes the environment: .conda with conda, mamba or micromamba when one is present, else a venv in .venv.
#
#   PFNANO_TAG_ENV     venv or conda: that one and no other; current: install nothing, take the Python in PATH
#   PFNANO_TAG_PYTHON  the Python that the venv is made from (3.10 to 3.13; the generator has wheels for 3.11 only)
#   PFNANO_TAG_TORCH   what to install as torch: for a venv, arguments of pip, say
#                      'torch==2.9.1 --index-url URL'; for conda a specification, say 'pytorch=2.9.*=cuda*'
#                      (default: the version in constraints.txt, or the newest of environment.yml)
#
# A second run finds the environment complete and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"
kind="${PFNANO_TAG_ENV:-}"
torch="${PFNANO_TAG_TORCH:-}"

say() { echo "setup: $*"; }
fail() {
  echo "error: $*" >&2
  exit 2
}

# What the environment was made of; another answer means making it again.
stamp_of() { { cat pyproject.toml constraints.txt environment.yml; echo "$1 $torch $root"; } | cksum; }

is_complete() { [ -e "$1/pfnano_tag.stamp" ] && [ "$(cat "$1/pfnano_tag.stamp")" = "$(stamp_of "$1")" ]; }

find_conda() {
  local tool
  for tool in micromamba mamba conda; do
    if command -v "$tool" >/dev/null; then
      command -v "$tool"
      return
    fi
  done
  return 1
}

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
is_supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

# Prints the Python to make the venv from: the wished one, else the first that will do.
find_python() {
  local name without=""
  for name in ${PFNANO_TAG_PYTHON:+"$PFNANO_TAG_PYTHON"} python3.11 python3.12 python3.13 python3.10 python3 python; do
    if is_supported "$name"; then
      if has_venv "$name"; then
        command -v "$name"
        return
      fi
      without="${without:-$(command -v "$name")}"
    fi
    [ -z "${PFNANO_TAG_PYTHON:-}" ] || break
  done
  if [ -n "$without" ]; then
    fail "$without has no module venv or ensurepip; install it (Debian, Ubuntu: python3-venv) or set PFNANO_TAG_PYTHON"
  fi
  fail "no Python 3.10 to 3.13 found (${PFNANO_TAG_PYTHON:-looked for python3.11, 3.12, 3.13, 3.10, python3, python});" \
    "install one, set PFNANO_TAG_PYTHON, or install conda"
}

make_venv() {
  local python extras="cms,log,fit,onnx,tables,test" limits
  python="$(find_python)"
  if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    extras="cms,generate,log,fit,onnx,tables,test"
  else
    say "$("$python" -V): the embedded generator is left out, its wheels are for Python 3.11 (see PFNANO_TAG_PYTHON)"
  fi
  say "making a venv of $python in $root/.venv"
  "$python" -m venv .venv
  limits="$root/.venv/constraints.txt"
  if [ -n "$torch" ]; then
    grep -v '^torch==' constraints.txt >"$limits"
  else
    cp constraints.txt "$limits"
  fi
  say "installing ${torch:-$(grep '^torch==' constraints.txt)} (this takes a few minutes the first time)"
  # Split on purpose: a specification may hold options of pip.
  # shellcheck disable=SC2086
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$limits" \
    ${torch:-$(grep -o '^torch==[^;]*' constraints.txt)}
  say "installing pfnano_tag[$extras] with the versions of constraints.txt"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$limits" --editable ".[$extras]"
}

make_conda() {
  local conda="$1" file="$root/environment.yml" temporary=""
  if [ -n "$torch" ]; then
    temporary="$(mktemp "${TMPDIR:-/var/tmp}/pfnano_tag.XXXXXX.yml")"
    sed "s|^  - pytorch\b.*|  - $torch|" environment.yml >"$temporary"
    file="$temporary"
  fi
  say "making a conda environment with $conda in $root/.conda (this takes a few minutes)"
  rm -rf .conda
  case "$conda" in
    *micromamba) "$conda" create --yes --prefix "$root/.conda" --file "$file" ;;
    *) "$conda" env create --yes --prefix "$root/.conda" --file "$file" ;;
  esac
  [ -z "$temporary" ] || rm -f "$temporary"
  say "installing pfnano_tag into it"
  .conda/bin/python -m pip install --quiet --no-deps --editable .
}

case "$kind" in
  "" | venv | conda) ;;
  current)
    python -c 'import sys; print("setup: taking", sys.executable, "as it is (PFNANO_TAG_ENV=current)")' ||
      fail "PFNANO_TAG_ENV=current, but there is no python in PATH"
    exit 0
    ;;
  *) fail "PFNANO_TAG_ENV is '$kind'; it may be venv, conda, current, or empty" ;;
esac

folder=.venv
if [ "$kind" != venv ] && conda="$(find_conda)"; then
  folder=.conda
elif [ "$kind" = conda ]; then
  fail "PFNANO_TAG_ENV=conda, but none of micromamba, mamba, conda is in PATH"
fi

if is_complete "$folder"; then
  say "$root/$folder is complete, nothing to do"
  exit 0
fi
rm -f "$folder/pfnano_tag.stamp"
if [ "$folder" = .conda ]; then
  make_conda "$conda"
else
  make_venv
fi
stamp_of "$folder" >"$folder/pfnano_tag.stamp"
say "done; the commands are scripts/*.sh, or after activating $root/$folder: python -m pfnano_tag"
