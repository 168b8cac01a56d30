#!/usr/bin/env bash
# Packs a build with the libraries it needs, for machines where nobody is root: tools/packaging/tarball.sh BUILD FOLDER
# makes FOLDER/microtome-VERSION-PROCESSOR.tar.zst, which unpacks into one folder and runs there, wherever that is, with the C
# library of the building machine's Debian or a later one. The same build gives the same bytes. Needs patchelf and zstd.
set -euo pipefail
die() {
  echo "tools/packaging/tarball.sh: $1" >&2
  exit "$2"
}
[ $# -eq 2 ] || die "usage: tools/packaging/tarball.sh BUILD FOLDER" 2
[ -f "$1/CMakeCache.txt" ] || die "$1 is no build folder" 2
build=$(realpath "$1") folder=$(realpath -m "$2")
for tool in patchelf zstd readelf; do
  command -v "$tool" >/dev/null || die "needs $tool (apt-get install patchelf zstd binutils)" 8
done
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
[[ $(cached MICROTOME_NATIVE) != ON ]] || die "$1 is for this machine's processor alone: configure without -DMICROTOME_NATIVE=ON" 2
source=$(cached CMAKE_HOME_DIRECTORY)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
name=microtome-$(cached CMAKE_PROJECT_VERSION)-$(uname -m)
top=$scratch/$name
"$(cached CMAKE_COMMAND)" --install "$build" --prefix "$top" --strip >/dev/null

# All but the C library and its parts, which belong to the kernel's side of things. What the CUDA module needs is the GPU's machine's.
libraries=$top/lib/microtome
mkdir -p "$libraries"
programs=()
for file in "$top"/libexec/microtome/*; do
  if readelf -h "$file" >/dev/null 2>&1; then programs+=("$file"); fi
done
ldd "${programs[@]}" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 } $3 == "not" { print "not found: " $1 >"/dev/stderr"; exit 1 }' | sort -u |
  while read -r soname path; do
    case $soname in
      lib[cm].so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | libutil.so.* | libmvec.so.* | libanl.so.* | ld-linux*) ;;
      *) install -m 644 "$path" "$libraries/$soname" ;;
    esac
  done
# RPATH and not RUNPATH: what the programs say then holds for the libraries' libraries too.
for file in "${programs[@]}"; do patchelf --force-rpath --set-rpath "\$ORIGIN/../../lib/microtome" "$file"; done

glibc=$(readelf -V --wide "${programs[@]}" "$libraries"/*.so* | grep -oE 'GLIBC_[0-9]+\.[0-9]+' | sort -uV | tail -n 1)
mkdir -p "$folder"
tar --directory="$scratch" --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go-w "$name" |
  zstd -q -19 -T1 -f -o "$folder/$name.tar.zst"
echo "$folder/$name.tar.zst: $(du -h "$folder/$name.tar.zst" | cut -f 1), needs ${glibc/_/ } or later"
