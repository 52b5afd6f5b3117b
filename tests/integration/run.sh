#!/usr/bin/env bash
# Tests against real services, which are installed if need be (Debian packages, as root), started, and stopped again.
#
#   tests/integration/run.sh xrootd    reading from root:// servers that die, freeze and come back
#   tests/integration/run.sh slurm     jobs, and chains of them, on a SLURM of this machine (as root)
#   tests/integration/run.sh condor    jobs on an HTCondor: killed, held, evicted, short of memory; chains by DAGMan
#   tests/integration/run.sh root      C++ ROOT adds up and reads what we write (no service; fetches 250 MB)
#   tests/integration/run.sh env       packing the environment; jobs from the archive give the same bits (no service)
#
# PFNANO_TAG_CONDOR names a folder that keeps HTCondor's packages from run to run; else they are fetched each time.
# PFNANO_TAG_ROOT names a Python that has ROOT; else one is made.
# Further arguments go to pytest. A second run at the same time is no problem: ports are chosen free.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() {
  echo "error: $*" >&2
  exit 2
}

install_packages() {
  local program="$1"
  shift
  command -v "$program" >/dev/null && return
  command -v apt-get >/dev/null || fail "$program is not installed, and there is no apt-get to install: $*"
  [ "$(id -u)" = 0 ] || fail "$program is not installed; as root: apt-get install $*"
  echo "integration: installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

install_extra() {
  local extra="$1" module="$2"
  shift 2
  python -c "import $module" 2>/dev/null && return
  [ "${PFNANO_TAG_ENV:-}" != current ] ||
    fail "this Python has no module $module (PFNANO_TAG_ENV=current): pip install 'pfnano_tag[$extra]'"
  echo "integration: installing $*"
  python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

service="${1:-}"
case "$service" in
  xrootd | slurm | condor | env | root) shift ;;
  *) fail "'$service' is no service; known: xrootd, slurm, condor, env, root" ;;
esac
bash scripts/setup.sh
source scripts/activate.sh
export OMP_NUM_THREADS=1

case "$service" in
  xrootd)
    install_packages xrootd xrootd-server
    install_extra xrootd XRootD xrootd
    ;;
  condor)
    install_packages patchelf patchelf
    install_packages unshare util-linux
    install_packages zstd zstd
    install_extra pack venv_pack venv-pack2
    if [ -z "${PFNANO_TAG_CONDOR:-}" ]; then
      PFNANO_TAG_CONDOR="$(mktemp -d "${TMPDIR:-/tmp}/condor.XXXXXX")"
      trap 'rm -rf "$PFNANO_TAG_CONDOR"' EXIT
    fi
    export PFNANO_TAG_CONDOR
    bash tests/integration/condor_packages.sh "$PFNANO_TAG_CONDOR"
    ;;
  slurm)
    PATH="$PATH:/usr/sbin:/sbin"
    [ "$(id -u)" = 0 ] || fail "SLURM's daemons are started as root"
    install_packages slurmctld slurm-wlm munge
    install_packages zstd zstd
    install_extra pack venv_pack venv-pack2
    ;;
  root)
    if [ -z "${PFNANO_TAG_ROOT:-}" ]; then # in an environment of its own: this project needs no ROOT
      scratch="$(mktemp -d "${TMPDIR:-/tmp}/root.XXXXXX")"
      trap 'rm -rf "$scratch"' EXIT
      python -m venv "$scratch"
      echo "integration: installing root into an environment of its own"
      "$scratch/bin/python" -m pip install --quiet --disable-pip-version-check root==0.1a12 numpy
      export PFNANO_TAG_ROOT="$scratch/bin/python"
    fi
    ;;
  env)
    install_packages zstd zstd
    install_packages flock util-linux
    install_packages patchelf patchelf
    install_extra pack conda_pack conda-pack
    install_extra pack venv_pack venv-pack2
    ;;
esac
python -m pytest "tests/integration/test_$service"*.py "$@"
