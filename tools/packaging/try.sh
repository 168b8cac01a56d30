#!/usr/bin/env bash
# Runs both commands of the README, as somebody does who has just cloned this repository, in a bare root of Debian 12 or 13:
#   tools/packaging/try.sh bookworm|trixie [--arch ARCHITECTURE] [FOLDER]
# tools/quickstart.sh as a user who has sudo (emulated: as root), then tests/run.sh as root. Prints what they print last and
# their times. The root lies in FOLDER (default: /tmp), takes 5 GB and is removed; what runs in it sees the commit that is
# checked out here. Needs root, debootstrap, and the network; for another architecture (arm64) the kernel must run its programs
# through qemu, as Debian's qemu-user-static and binfmt-support make it. Emulated, the compiler alone takes hours: arm64.cmake
# is faster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  echo "usage: tools/packaging/try.sh bookworm|trixie [--arch ARCHITECTURE] [FOLDER]" >&2
  exit 2
}
suite="" folder="" arch=""
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=${2:-}; shift; [ -n "$arch" ] || usage ;;
    -*) usage ;;
    *) if [ -z "$suite" ]; then suite=$1; elif [ -z "$folder" ]; then folder=$1; else usage; fi ;;
  esac
  shift
done
case $suite in bookworm | trixie) ;; *) usage ;; esac
if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
  echo "tools/packaging/try.sh: needs root (for chroot and mounts) and debootstrap (apt-get install debootstrap)" >&2
  exit 8
fi
here=$(dpkg --print-architecture)
arch=${arch:-$here}
declare -A qemu=([arm64]=aarch64)
if [ "$arch" != "$here" ] && [ ! -e "/proc/sys/fs/binfmt_misc/qemu-${qemu[$arch]:-$arch}" ]; then
  echo "tools/packaging/try.sh: this kernel runs no programs for $arch: apt-get install qemu-user-static binfmt-support" >&2
  echo "  (where that is not enough: mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable)" >&2
  exit 8
fi

scratch=$(mktemp -d "${folder:-/tmp}/microtome-$suite.XXXXXX")
root=$scratch/root
# shellcheck disable=SC2317  # the trap calls it
remove() {
  local place
  for place in proc sys dev; do
    if mountpoint -q "$root/$place"; then umount -R "$root/$place" || umount -R -l "$root/$place"; fi
  done
  rm -rf --one-file-system "$scratch"
}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

inside() { chroot "$root" "$@"; }

# A command in the clone, as a user; its last lines of either stream, its time; what it returned.
try() {
  local user=$1 lines=$2 begin=$SECONDS code=0 log
  shift 2
  log=$scratch/$(basename "$1").log
  echo "== $suite $arch, $user: $*"
  inside su - "$user" -c "cd /home/user/microtome && $*" >"$log" 2>&1 || code=$?
  if [ "$code" -ne 0 ]; then lines=60; fi
  tail -n "$lines" "$log"
  echo "== exit $code after $((SECONDS - begin)) s"
  return "$code"
}

begin=$SECONDS
debootstrap --arch="$arch" --variant=minbase --include=ca-certificates,git,sudo "$suite" "$root" >"$scratch/bootstrap" 2>&1 || {
  tail -n 20 "$scratch/bootstrap" >&2
  exit 8
}
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
inside useradd --create-home --shell /bin/bash user
echo 'user ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/user"
git clone -q --no-hardlinks . "$root/home/user/microtome"
inside chown -R user:user /home/user/microtome
inside git config --system --add safe.directory /home/user/microtome
echo "== $suite $arch: a bare root with $(git describe --always), after $((SECONDS - begin)) s"

code=0
user=user
if [ "$arch" != "$here" ]; then user=root; fi  # Debian registers qemu without "credentials": sudo gets no rights
try "$user" 14 tools/quickstart.sh || code=1
try root 12 tests/run.sh || code=1
if grep -hE ': warning: .*\[-W|^CMake Warning' "$scratch"/*.log; then code=1; fi
exit "$code"
