#!/bin/sh
# What a Debian package has beside the files that are installed everywhere:
#   debianize.sh USR VERSION MAINTAINER SOURCE      with SOURCE_DATE_EPOCH
set -eu
usr=$1 version=$2 maintainer=$3 source=$4
doc=$usr/share/doc/microtome
umask 022

{
  echo "microtome ($version) unstable; urgency=medium"
  echo
  # The newest section of the changelog.
  awk '/^## / { if (++sections > 1) exit; next } sections == 1 && /^- / { sub(/^- /, ""); print "  * " $0; next }
    sections == 1 && /^  / { print "  " $0 }' "$source/tools/packaging/CHANGELOG.md"
  echo
  echo " -- $maintainer  $(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")"
} | gzip -9 -n >"$doc/changelog.Debian.gz"

cat >"$doc/copyright" <<'end'
Microtome: the authors named in its history.

No licence has been chosen yet. Until its owner chooses one, nobody is
granted a right to copy, change or distribute this package.
end

find "$usr/share/man" -name '*.1' -exec gzip -9 -n {} +
find "$usr" -type d -exec chmod 755 {} +
find "$usr" -type f -perm /111 -exec chmod 755 {} +
find "$usr" -type f ! -perm /111 -exec chmod 644 {} +
