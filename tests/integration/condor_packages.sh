#!/usr/bin/env bash
# HTCondor from Debian's packages in a folder of its own, for tests: nothing is installed.
#
#   condor_packages.sh FOLDER     the release is then in FOLDER/usr; nothing is done when it is there already
#
# Debian 12 has no HTCondor, the release after it has. Its programs are told to take the C library that comes with them;
# jobs run with this machine's. The folder can't be moved afterwards.
set -euo pipefail
release=trixie
folder="$(realpath -m "$1")"
[ ! -f "$folder/complete" ] || exit 0
rm -rf "$folder"
apt="$folder/apt"
mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc} "$folder"/usr/{bin,sbin,lib,lib64}
for name in bin sbin lib lib64; do
  ln -s "usr/$name" "$folder/$name"
done

mirror="$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 || true)"
key="$(sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 || true)"
echo "deb [signed-by=${key:-/usr/share/keyrings/debian-archive-keyring.gpg}]" \
  "${mirror:-http://deb.debian.org/debian} $release main" >"$apt/etc/sources.list"
: >"$apt/status" # as if nothing was installed: all that it needs is fetched
options=()
for option in \
  "Dir::State=$apt" "Dir::State::lists=$apt/lists" "Dir::State::status=$apt/status" "Dir::Cache=$apt/cache" \
  "Dir::Etc::sourcelist=$apt/etc/sources.list" "Dir::Etc::sourceparts=/dev/null" "Dir::Etc::preferences=/dev/null" \
  "Dir::Etc::preferencesparts=/dev/null" "APT::Sandbox::User=$(id -un)" "Debug::NoLocking=1" \
  "Acquire::Languages=none"; do
  options+=(-o "$option")
done
apt-get "${options[@]}" -qq update >/dev/null
apt-get "${options[@]}" -qq -y --no-install-recommends --download-only install condor >"$apt/log" 2>&1 || {
  cat "$apt/log" >&2
  exit 1
}
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" --keep-directory-symlink --no-same-owner
done
rm -rf "$apt"

libraries="$folder/usr/lib:$folder/usr/lib/$(uname -m)-linux-gnu:$folder/usr/lib/condor"
loader="$(find "$folder/usr/lib64/" -name 'ld-linux-*.so.2' | head -n 1)"
for program in "$folder"/usr/bin/condor_* "$folder"/usr/sbin/condor_* "$folder"/usr/libexec/condor/*; do
  if [ -f "$program" ] && [ ! -L "$program" ] && patchelf --print-interpreter "$program" >/dev/null 2>&1; then
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program"
  fi
done
touch "$folder/complete"
