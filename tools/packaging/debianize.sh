#!/bin/sh
# What a Debian package has beside the files that are installed everywhere:
#   debianize.sh USR VERSION MAINTAINER SOURCE      with SOURCE_DATE_EPOCH
set -eu
usr=$1 version=$2 maintainer=$3 source=$4
doc=$usr/share/doc/microtome
umask 022

# Each line an item, in lines of at most 76 characters.
fmt_items() {
  while read -r item; do echo "$item" | fold -s -w 72 | sed -e '1s/^/  * /' -e '2,$s/^/    /' -e 's/ *$//'; done
}

time=${SOURCE_DATE_EPOCH:-$(date +%s)}
{
  echo "microtome ($version) unstable; urgency=medium"
  echo
  # The newest section of the changelog; an item is a line there.
  awk '/^## / { if (++sections > 1) exit } sections == 1 && /^- / { sub(/^- /, ""); print }' "$source/tools/packaging/CHANGELOG.md" |
    fmt_items
  echo
  echo " -- $maintainer  $(date -u -R -d "@$time")"
} | gzip -9 -n >"$doc/changelog.Debian.gz"

cat >"$doc/copyright" <<end
Copyright $(date -u -d "@$time" +%Y) the authors of Microtome, who are named in its history

No licence has been chosen yet. Until its owner chooses one, nobody is
granted a right to copy, change or distribute this package.
end

find "$usr/share/man" -name '*.1' -exec gzip -9 -n {} +
find "$usr" -type d -exec chmod 755 {} +
find "$usr" -type f -perm /111 -exec chmod 755 {} +
find "$usr" -type f ! -perm /111 -exec chmod 644 {} +
