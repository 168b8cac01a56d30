#!/usr/bin/env bash
# kill -9 of a study at random moments, then the same command again: every cell ends with the bytes that it has in a study that
# nobody disturbed.
#   tests/tools/study_kill_test.sh PROGRAMS COUNT [SEED]        PROGRAMS: build/tools; COUNT: kills
set -euo pipefail
programs=$1
count=$2
RANDOM=${3:-1}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$programs/synthesize" idc --out "$folder/data" --train 64 --valid 24 --test 24 --seed 2 -q >"$folder/log" 2>&1
study=(--idc "$folder/data" --device cpu --nets b2,b6 --seeds 0,1 --epochs 2 --tta d4 -q)

fail() {
  echo "study_kill_test: $*"
  tail -20 "$folder/log"
  exit 1
}

begun=$(date +%s%N)
"$programs/study" "${study[@]}" --out "$folder/undisturbed" >>"$folder/log" 2>&1 || fail "the undisturbed study failed"
milliseconds=$((($(date +%s%N) - begun) / 1000000))

# One study is killed again and again; when it has ended another begins.
killed=0
studies=0
out=
while ((killed < count)); do
  if [ -z "$out" ]; then
    studies=$((studies + 1))
    ((studies <= 3 * count + 3)) || fail "studies end before they can be killed"
    out=$folder/study-$studies
  fi
  "$programs/study" "${study[@]}" --out "$out" >>"$folder/log" 2>&1 &
  program=$!
  moment=$((RANDOM * milliseconds / 32768 / 2 + 20))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  kill -9 "$program" 2>/dev/null || true
  status=0
  wait "$program" 2>/dev/null || status=$?
  if ((status == 137)); then killed=$((killed + 1)); fi
  if ((status == 0 || killed == count)); then
    "$programs/study" "${study[@]}" --out "$out" >>"$folder/log" 2>&1 || fail "the study that was killed failed"
    for cell in "$folder"/undisturbed/cells/*/; do
      for file in best.weights.h5 scores.csv scores_tta.csv tta.json; do
        cmp "$cell/$file" "$out/cells/$(basename "$cell")/$file" || fail "another $file after $killed kills"
      done
    done
    rm -rf "$out"
    out=
  elif ((status != 137)); then
    fail "the study ended with $status"
  fi
done
echo "study_kill_test: $killed kills in $studies studies; no cell lost, none other, the same bytes"
