# shellcheck shell=bash
# Sourced by the worker script: makes an environment that scripts/pack_env.sh packed usable on the machine of a job.
#
#   use_environment WHAT [DESCRIPTION]
#
# WHAT         a folder (shared disk, CVMFS): used where it is, nothing is written to it
#              an archive (.tar.zst, .tar.gz, .tar): by its path, or of that name beside the job ($job, else here)
#              an address of an archive: https://, http://, root:// (by xrdcp), file://
# DESCRIPTION  what pack_env.sh wrote beside the archive (default: WHAT.json; else the copy in the archive)
#
# Where `cache` names a folder, an archive is unpacked once per machine, into $cache/SHA-256, and fetched only for
# that (with its description at hand); jobs that start together wait for the one that unpacks. Else it is unpacked
# into the job's scratch ($TMPDIR, else here). Call `remove_environment` in the end: it removes what is the job's own.
#
# Sets `python` to the environment's interpreter, `environment_folder`, PATH, and CONDA_PREFIX or VIRTUAL_ENV.
# Returns 2 where another try would end alike (archive broken, for another Python or machine), 75 where it may not
# (a server that does not answer, a disk that is full); `error: ...` on stderr says what was found and expected.

environment_wait="${environment_wait:-1800}" # longest wait for another job that unpacks [s]
environment_scratch=""

use_environment() {
  local what="$1" description="${2:-}" name sha256="" # known to the functions below
  case "$what" in
    file://*) what="$(path_of_address "$what")" ;;
    *://*) ;;
    *) what="$(beside_the_job "$what")" ;;
  esac
  if [ -d "$what" ]; then
    environment_folder="$(cd "$what" && pwd)" || return 2
  else
    name="$what"
    ! is_address || name="${what%%[?#]*}"
    name="${name##*/}"
    case "$name" in
      *.tar.zst | *.tar.gz | *.tar) ;;
      *) environment_error 2 "$what: expected a folder, or an archive whose name ends in .tar.zst, .tar.gz or .tar" || return ;;
    esac
    environment_scratch="$(mktemp -d "${TMPDIR:-$PWD}/environment.XXXXXX")" ||
      environment_error 75 "${TMPDIR:-$PWD}: no scratch for the environment can be made on $(uname -n)" || return
    find_description && check_machine && unpack_or_share || return
  fi
  [ -n "$description" ] || description="$environment_folder/environment.json"
  check_machine && check_python && enter_environment
}

# Removes what was fetched and unpacked for this job alone.
remove_environment() {
  [ -z "$environment_scratch" ] || rm -rf "$environment_scratch"
  environment_scratch=""
}

environment_error() {
  local code="$1"
  shift
  echo "error: $*" >&2
  return "$code"
}

is_address() { case "$what" in *://*) ;; *) return 1 ;; esac; }

beside_the_job() {
  local there="${job:-$PWD}/${1##*/}"
  if [ ! -e "$1" ] && [ -e "$there" ]; then echo "$there"; else echo "$1"; fi
}

path_of_address() {
  local path="${1#file://}"
  path="${path#localhost}"
  printf '%b' "${path//%/\\x}"
}

# A value of the description; nothing where there is none. pack_env.sh writes one key per line.
described() {
  [ -f "$description" ] || return 0
  sed -n "/^ *\"$1\": /{s/^ *\"$1\": //;s/,\$//;s/^\"\(.*\)\"\$/\1/;s/\\\\\([\"\\\\]\)/\1/g;p;q;}" "$description"
}

find_description() {
  if [ -n "$description" ]; then
    description="$(beside_the_job "$description")"
    [ -f "$description" ] || environment_error 2 "$description: no such file, expected the description of $what" || return
  elif is_address; then # goes without: it is the answer to the archive's own address that counts
    description="$environment_scratch/description.json"
    fetch_environment "${what%%[?#]*}.json" "$description" 2>/dev/null || rm -f "$description"
  else
    description="$what.json"
  fi
  [ -f "$description" ] || description=""
  sha256="$(described sha256)"
  [ -z "$description" ] || [[ "$sha256" =~ ^[0-9a-f]{64}$ ]] ||
    environment_error 2 "$description: found no SHA-256, expected what scripts/pack_env.sh writes beside an archive"
}

# Whether the environment can run here: asked before it is fetched and unpacked where its description is at hand.
check_machine() {
  local wanted here interpreter
  wanted="$(described platform)"
  here="$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)"
  if [ -n "$wanted" ] && [ "$wanted" != "$here" ]; then
    environment_error 2 "$what: for another platform: found $here on $(uname -n), expected $wanted;" \
      "ask for such machines, or pack on a machine like this one" || return
  fi
  interpreter="$(described interpreter)"
  [ -z "$interpreter" ] || [ -x "$interpreter" ] || no_interpreter "$interpreter"
}

no_interpreter() {
  environment_error 2 "$what: no interpreter at $1 on $(uname -n), expected the one that the venv was made from:" \
    "ask for machines that have it, or pack a conda environment, which brings its own"
}

check_python() {
  local found wanted
  python="$environment_folder/bin/python"
  if [ -L "$python" ] && [ ! -e "$python" ]; then
    no_interpreter "$(readlink -m "$python")" || return
  fi
  [ -x "$python" ] || environment_error 2 "$what: found no bin/python in $environment_folder, expected an environment" || return
  unset PYTHONHOME PYTHONPATH # a site's, for its own Python
  found="$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1)" ||
    environment_error 2 "$what: its Python does not start on $(uname -n): ${found##*$'\n'}" || return
  wanted="$(described python)"
  [ -z "$wanted" ] || [ "${found%.*}" = "${wanted%.*}" ] ||
    environment_error 2 "$what: for another Python: found $found at $(readlink -f "$python") on $(uname -n), expected" \
      "$wanted; ask for machines that have it, or pack a conda environment, which brings its own"
}

enter_environment() {
  local script options="$-"
  export PATH="$environment_folder/bin:${PATH:-/usr/bin:/bin}"
  if [ ! -d "$environment_folder/conda-meta" ]; then
    export VIRTUAL_ENV="$environment_folder"
    return
  fi
  export CONDA_PREFIX="$environment_folder"
  set +eu # the packages' scripts are written for shells that go on
  for script in "$environment_folder"/etc/conda/activate.d/*.sh; do
    # shellcheck disable=SC1090
    [ ! -r "$script" ] || source "$script"
  done
  case "$options" in *e*) set -e ;; esac
  case "$options" in *u*) set -u ;; esac
}

unpack_or_share() {
  local lock code=0
  if [ -n "${cache:-}" ] && ! { mkdir -p "$cache" && [ -w "$cache" ]; } 2>/dev/null; then
    echo "warning: cache $cache can't be written on $(uname -n): the job unpacks the environment for itself" >&2
  elif [ -n "${cache:-}" ]; then
    if [ -z "$sha256" ]; then # only the archive tells
      archive_here && sha256="$(sha256_of "$what")" || return
    fi
    environment_folder="$(cd "$cache" && pwd)/$sha256"
    [ ! -e "$environment_folder/.whole" ] || return 0
    command -v flock >/dev/null ||
      environment_error 2 "$cache: no flock on $(uname -n) to share a cache by; install util-linux, or ask for no cache" || return
    { exec {lock}>"$cache/.$sha256.lock"; } 2>/dev/null ||
      environment_error 75 "$cache: its lock can't be written on $(uname -n)" || return
    if flock -w "$environment_wait" "$lock"; then
      fill_cache || code=$?
    else
      environment_error 75 "$cache: another job unpacks $name since over $environment_wait s" || code=$?
    fi
    exec {lock}>&-
    return "$code"
  fi
  environment_folder="$environment_scratch/environment"
  mkdir "$environment_folder" && environment_folder="$(cd "$environment_folder" && pwd)" || return 75
  unpack_environment "$environment_folder" && unpack_conda
}

# With the lock held. What a killed job left goes; `.whole` is written when all is done, conda-unpack included, which
# writes the folder's own name into files and can run only under that.
fill_cache() {
  local made code=0
  [ ! -e "$environment_folder/.whole" ] || return 0
  rm -rf "$environment_folder" "$cache/.$sha256".making.*
  made="$(mktemp -d "$cache/.$sha256.making.XXXXXX")" ||
    environment_error 75 "$cache: no folder can be made in it on $(uname -n)" || return
  unpack_environment "$made" && chmod 755 "$made" && mv "$made" "$environment_folder" && unpack_conda || code=$?
  if [ "$code" = 0 ]; then
    : >"$environment_folder/.whole"
  else
    rm -rf "$made" "$environment_folder"
  fi
  return "$code"
}

unpack_conda() {
  local said
  [ -e "$environment_folder/bin/conda-unpack" ] || return 0
  said="$("$environment_folder/bin/python" "$environment_folder/bin/conda-unpack" 2>&1)" ||
    environment_error 2 "$what: conda-unpack failed on $(uname -n): ${said##*$'\n'}"
}

# Fetches the archive into the job's scratch where `what` is an address.
archive_here() {
  if is_address; then
    fetch_environment "$what" "$environment_scratch/$name" || return
    what="$environment_scratch/$name"
  fi
  [ -f "$what" ] || environment_error 2 "$what: no such environment on $(uname -n), nor in ${job:-$PWD}"
}

unpack_environment() {
  local folder="$1" began=$SECONDS code=2 found said address="$what"
  case "$name" in *.zst) can_decompress || return ;; esac
  archive_here || return
  if [ -n "$description" ]; then
    found="$(sha256_of "$what")" || return
    [ "$address" = "$what" ] || code=75 # cut on its way here
    [ "$found" = "$sha256" ] ||
      environment_error "$code" "$address: broken, or another archive than its description is of: found SHA-256" \
        "$found, expected $sha256" || return
    code=75 # the archive is good, so it is this machine
  fi
  said="$(extract_environment "$what" "$folder" 2>&1)" ||
    environment_error "$code" "$address: can't be unpacked on $(uname -n): ${said%%$'\n'*}" || return
  [ "$address" = "$what" ] || rm -f "$what"
  what="$address"
  echo "environment: $name unpacked in $((SECONDS - began)) s"
}

can_decompress() {
  command -v zstd >/dev/null || command -v bsdtar >/dev/null ||
    environment_error 2 "$what: no zstd on $(uname -n); install zstd (or bsdtar) there, or pack a .tar.gz"
}

# From stdin: tar takes a name with a colon for another machine's. A job run by root gives files to no other account.
extract_environment() {
  local archive="$1" into=(--no-same-owner -xf - -C "$2")
  set -o pipefail
  case "$name" in
    *.gz) gzip -dc <"$archive" | tar "${into[@]}" ;;
    *.zst) if command -v zstd >/dev/null; then zstd -dcq | tar "${into[@]}"; else bsdtar "${into[@]}"; fi <"$archive" ;;
    *) tar "${into[@]}" <"$archive" ;;
  esac
}

sha256_of() {
  local sum
  sum="$(sha256sum <"$1")" || environment_error 75 "$1: can't be read on $(uname -n)" || return
  echo "${sum%% *}"
}

fetch_environment() {
  local address="$1" file="$2" way refused said code=0
  case "$address" in
    root://* | roots://*) way=(xrdcp --silent --force "$address" "$file") refused=none ;;
    http://* | https://*)
      if command -v curl >/dev/null; then
        way=(curl --fail --silent --show-error --location --retry 3 --connect-timeout 30)
        way+=(--speed-limit 1000 --speed-time 60 --output "$file" "$address") refused=22
      else
        way=(wget --no-verbose --tries=3 --timeout=60 --output-document="$file" "$address") refused=8
      fi
      ;;
    *) environment_error 2 "$address: unknown kind of address, expected https://, http://, root:// or file://" || return ;;
  esac
  command -v "${way[0]}" >/dev/null ||
    environment_error 2 "$address: no ${way[0]} on $(uname -n) to fetch it with; install it there, or send the file" || return
  said="$(XRD_CONNECTIONWINDOW="${XRD_CONNECTIONWINDOW:-30}" XRD_CONNECTIONRETRY="${XRD_CONNECTIONRETRY:-3}" \
    "${way[@]}" 2>&1)" || code=$?
  [ "$code" != 0 ] || return 0
  [ "$code" = "$refused" ] && code=2 || code=75 # the server's last word, or none
  environment_error "$code" "$address: can't be fetched to $(uname -n): ${said##*$'\n'}"
}
