#!/usr/bin/env bash
# What `cmake --install` makes works wherever its folder is moved: install_test.sh BUILD CMAKE
set -uo pipefail
build=$1 cmake=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
expect() {
  local what=$1
  shift
  "$@" || { echo "FAILED: $what"; failures=$((failures + 1)); }
}
# shellcheck disable=SC2317  # expect calls it
contains() { grep -qF -e "$2" <<<"$1"; }

"$cmake" --install "$build" --prefix "$scratch/first" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
mv "$scratch/first" "$scratch/moved here"
top="$scratch/moved here"
microtome="$top/bin/microtome"
cd /

list=$("$microtome" --help)
programs=$(ls "$top/libexec/microtome")
expect "twelve programs or more are installed" [ "$(wc -w <<<"$programs")" -ge 12 ]
for program in $programs; do
  page="$top/share/man/man1/microtome-$program.1"
  expect "--help lists $program with a line of its own" grep -qE "^  $program +[A-Z].{20}" <<<"$list"
  expect "$program has a man page" [ -s "$page" ]
  text=$(sed -e 's/\\-/-/g' -e 's/\\f[BIR]//g' "$page")
  help=$("$microtome" "$program" --help)
  modes=$(sed -n 's/^.*| \(diff\) .*| \(forecast\)$/\1 \2/p' <<<"$help")
  [ "$program" != profile ] || expect "profile has modes with a help of their own" [ "$modes" = "diff forecast" ]
  for mode in $modes; do help+=$'\n'$("$microtome" "$program" "$mode" --help); done
  options=$(grep -oE -e '(^|[ ,[])--?[a-zA-Z][-a-z_]*' <<<"$help" | tr -d ' ,[' | sort -u)
  expect "the help of $program has options" [ -n "$options" ]
  for option in $options; do
    # A word that begins so is another option.
    expect "the man page of $program says $option" grep -qE -e "(^|[^-a-z])$option($|[^-a-z_])" <<<"$text"
  done
  expect "the man page of microtome names $program" grep -q "^\.B $program\$" "$top/share/man/man1/microtome.1"
  expect "microtome-$program.1 does not name its maker's home" [ "$(grep -c -F -e "$HOME/.keras" "$page")" -eq 0 ]
done

ln -s "moved here/bin/microtome" "$scratch/one"
mkdir "$scratch/links"
ln -s ../one "$scratch/links/two"
expect "describe runs through links" contains "$("$scratch/links/two" describe --net b2)" "parameters"
expect "arguments arrive as they are" contains "$("$microtome" describe --net 'a  b' 2>&1)" "a  b"
"$microtome" describe --net nothing 2>/dev/null
expect "a program's exit code is the front end's" [ $? -eq 2 ]
expect "--version" grep -qE '^microtome [0-9]+\.[0-9]+\.[0-9]+ \(.+\)$' <<<"$("$microtome" --version)"

for word in trian describ unheard-of; do
  said=$("$microtome" "$word" 2>&1 >/dev/null)
  expect "$word is exit code 2" [ $? -eq 2 ]
  expect "$word: one error" [ "$(grep -c error: <<<"$said")" -eq 1 ]
done
expect "the nearest name" contains "$("$microtome" trian 2>&1)" "did you mean train?"
expect "two as near" contains "$("$microtome" comvert 2>&1)" "convert"
expect "none near" [ "$("$microtome" unheard-of 2>&1 | grep -c 'did you mean')" -eq 0 ]
mv "$top/libexec/microtome/tune" "$scratch/tune"
"$microtome" tune --help 2>/dev/null
expect "a program that is missing is exit code 8" [ $? -eq 8 ]

complete_last() {
  # shellcheck disable=SC2034  # the completion reads it
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
  _microtome
  echo "${COMPREPLY[*]}"
}
# shellcheck disable=SC1091
source "$top/share/bash-completion/completions/microtome"
expect "completes programs" [ "$(complete_last microtome tr)" = train ]
expect "completes options" [ "$(complete_last microtome train --batch)" = --batch-size ]
expect "completes values" [ "$(complete_last microtome train --device '')" = "auto cpu reference" ]
expect "completes networks" [ "$(complete_last microtome describe --net mob)" = mobilenet ]
expect "completes modes, each once" [ "$(complete_last microtome profile d)" = diff ]
expect "completes a mode's own options" [ "$(complete_last microtome profile forecast --pl)" = --plan ]
expect "leaves files to the shell" [ -z "$(complete_last microtome train --data '')" ]

for readme in README.md tools/README.md tools/packaging/CHANGELOG.md; do
  expect "$readme is installed" [ -s "$top/share/doc/microtome/$readme" ]
done
module=$(find "$top" -path '*/microtome/libmicrotome_cuda.so')
missing=1
[ ! -e "$build/kernels/cuda/libmicrotome_cuda.so" ] || missing=0
expect "the CUDA module is installed where it was built" [ "$(grep -c . <<<"$module")" -eq $((1 - missing)) ]
"$microtome" bench --device cuda:99 --plans 2>"$scratch/said"
expect "a GPU that is not there is exit code 8" [ $? -eq 8 ]
expect "programs find the CUDA module where it was built" [ "$(grep -c 'there is no CUDA module' "$scratch/said")" -eq "$missing" ]
for program in $programs; do
  file=$top/libexec/microtome/$program
  if [ -e "$file" ] && command -v readelf >/dev/null; then
    expect "$program needs nothing of CUDA" [ "$(readelf -d "$file" | grep NEEDED | grep -cE 'libcu(da|dnn|blas|pti)')" -eq 0 ]
  fi
done
for file in "$top"/libexec/microtome/* ${module:+"$module"}; do
  if command -v readelf >/dev/null; then
    expect "$file does not look for libraries in the build" [ "$(readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -cF "$build")" -eq 0 ]
  fi
done
[ "$failures" -eq 0 ] && echo "all is as it should be"
exit "$((failures > 0))"
