#!/bin/sh
# Makes from the installed programs' own --help what depends on their names and options, and prints which files it has written:
#   documents.sh PROGRAMS PROGRAMS-SEEN-FROM-BIN BIN MAN COMPLETIONS VERSION COMMIT DATE
# EMULATOR is put before a program that is not of this machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
programs=$1 seen=$2 bin=$3 man=$4 completions=$5 version=$6 commit=$7 date=$8
LC_ALL=C HOME='~'  # some defaults lie in the user's home
export LC_ALL HOME
unset KERAS_HOME
umask 022
mkdir -p "$bin" "$man" "$completions"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

help_of() {
  program=$1
  shift
  # shellcheck disable=SC2086  # an emulator has words
  ${EMULATOR:-} "$programs/$program" "$@" --help >"$scratch/help" </dev/null || {
    echo "documents.sh: $programs/$program does not start" >&2
    exit 1
  }
  awk -f "$here/help.awk" "$scratch/help"
}

# Of the table that help.awk makes: words that may come first, and whose --help may be another.
modes_of() { awk -F '\t' '$1 == "mode" { print $2 }' "$1"; }

for path in "$programs"/*; do
  program=$(basename "$path")
  help_of "$program" >"$scratch/$program.table"
  for mode in $(modes_of "$scratch/$program.table"); do
    help_of "$program" "$mode" >"$scratch/mode"
    cmp -s "$scratch/mode" "$scratch/$program.table" || mv "$scratch/mode" "$scratch/$program.$mode.table"
  done
  printf '  %-11s %s\n' "$program" "$(awk -F '\t' '$1 == "about" { print $2; exit }' "$scratch/$program.table")" >>"$scratch/programs"
done

# Puts a file in the place of a line.
fill() { awk -v line="$1" -v file="$2" '$0 == line { while ((getline text < file) > 0) print text; next } { print }'; }

fill @programs@ "$scratch/programs" <"$here/microtome.in" |
  sed -e "s|@version@|$version|" -e "s|@commit@|$commit|" -e "s|@folder@|$seen|" >"$bin/microtome"
chmod 755 "$bin/microtome"
echo "$bin/microtome"

for path in "$programs"/*; do
  program=$(basename "$path")
  set -- "$scratch/$program.table"
  for table in "$scratch/$program".*.table; do
    if [ -e "$table" ]; then set -- "$@" "$table"; fi
  done
  awk -v program="$program" -v version="$version" -v date="$date" -f "$here/man.awk" "$@" >"$man/microtome-$program.1"
  chmod 644 "$man/microtome-$program.1"
  echo "$man/microtome-$program.1"
  for table; do
    mode=${table#"$scratch/$program"} mode=${mode%table} mode=${mode#.} mode=${mode%.}
    awk -v program="$program" -v mode="$mode" -f "$here/completion.awk" "$table"
  done >>"$scratch/words"
done

awk -v version="$version" -v date="$date" -v programs="$scratch/programs" -f "$here/front_man.awk" >"$man/microtome.1" </dev/null
chmod 644 "$man/microtome.1"
echo "$man/microtome.1"

fill @words@ "$scratch/words" <"$here/completion.in" >"$completions/microtome"
chmod 644 "$completions/microtome"
echo "$completions/microtome"
