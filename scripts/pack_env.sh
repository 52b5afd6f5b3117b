#!/usr/bin/env bash
# Packs the environment for batch jobs:
#
#   bash scripts/pack_env.sh [--no-check] [ARCHIVE]
#
#   ARCHIVE     .tar.zst (default: environment.tar.zst; smallest and fastest, a machine needs zstd to unpack it),
#               .tar.gz or .tar
#   --no-check  does not unpack it elsewhere to see that it works (scripts/check_env.sh)
#
# Name the archive in the card: submit.environment. ARCHIVE.json, beside it, says what it is and needs: keep the two
# together. A packed venv needs the Python that it was made from at the same path; a packed conda environment brings
# its own. The environment itself is not touched: the package of this checkout is packed as a copy.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"

fail() {
  echo "error: $*" >&2
  exit 2
}

check=yes archive=""
for argument in "$@"; do
  case "$argument" in
    --no-check) check=no ;;
    -*) fail "unknown option $argument; known: --no-check" ;;
    *)
      [ -z "$archive" ] || fail "two archives: $archive and $argument; name one"
      archive="$argument"
      ;;
  esac
done
archive="${archive:-environment.tar.zst}"
name="$(basename "$archive")"
case "$name" in
  *.tar.zst) command -v zstd >/dev/null || fail "$archive: no zstd here; install zstd, or name the archive .tar.gz" ;;
  *.tar.gz | *.tar) ;;
  *) fail "$archive: the archive's name must end in .tar.zst, .tar.gz or .tar" ;;
esac
folder="$(cd "$(dirname "$archive")" 2>/dev/null && pwd)" || fail "$archive: there is no folder $(dirname "$archive")"
scratch="$(mktemp -d "$folder/.pack_env.XXXXXX")" || fail "$folder: can't be written"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Built from a copy: a build in the checkout would leave its own folders there, and take what lies in old ones.
mkdir "$scratch/source" "$scratch/tools"
cp -R "$root/pfnano_tag" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$scratch/source"
python -m pip install --quiet --disable-pip-version-check --no-deps --target "$scratch/package" "$scratch/source"
if [ -d "$(python -c 'import sys; print(sys.prefix)')/conda-meta" ]; then
  tool=conda-pack
else
  tool=venv-pack2
fi
module="${tool%2}"
if ! python -c "import ${module/-/_}" 2>/dev/null; then
  wanted="$(sed -n "s/^pack = .*\"\(${tool}[^\"]*\)\".*/\1/p" "$root/pyproject.toml")"
  python -m pip install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" \
    --target "$scratch/tools" "$wanted"
fi

echo "packing $(python -c 'import sys; print(sys.prefix)') (this takes a few minutes)"
PYTHONPATH="$root:$scratch/tools" TMPDIR="$scratch" \
  python -m pfnano_tag.submit.packing --package "$scratch/package" "$scratch/$name"
chmod '=rw' "$scratch/$name" # for the accounts that read what this one writes; temporary files are private
if [ "$check" = yes ]; then
  bash "$root/scripts/check_env.sh" "$scratch/$name"
fi
# A description without its archive is refused, and so is an archive beside the description of another.
mv -f "$scratch/$name.json" "$folder/$name.json"
mv -f "$scratch/$name" "$folder/$name"
python -c 'import sys
from pathlib import Path
from pfnano_tag.submit.environment import description_path, read_environment
archive = Path(sys.argv[1])
about = read_environment(description_path(archive))
print(f"packed: {archive}, {about.bytes / 1e6:.0f} MB, SHA-256 {about.sha256}")
print(f"holds: Python {about.python}, " + ", ".join(f"{name} {version}" for name, version in about.versions.items()))
print(f"needs: {about.needs}")' "$folder/$name"
