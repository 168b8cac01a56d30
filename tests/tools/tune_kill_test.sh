#!/usr/bin/env bash
# kill -9 of a search at random moments, then --resume: every trial is in the list once, with the values and the score that it has
# in a search that nobody disturbed, and the best weights are the same bytes.
#   tests/tools/tune_kill_test.sh PROGRAMS COUNT [SEED]        PROGRAMS: build/tools; COUNT: kills
set -euo pipefail
programs=$1
count=$2
RANDOM=${3:-1}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$programs/synthesize" idc --out "$folder/data" --train 64 --valid 24 --test 24 --seed 2 -q >"$folder/log" 2>&1
search=(--net b2 --data "$folder/data" --device cpu --space "lr=1e-5..1e-2:log, batch-size=8..16:8" --max-epochs 2 --factor 2 -q)

fail() {
  echo "tune_kill_test: $*"
  tail -20 "$folder/log"
  exit 1
}

begun=$(date +%s%N)
"$programs/tune" "${search[@]}" --out "$folder/undisturbed" >>"$folder/log" 2>&1 || fail "the undisturbed search failed"
milliseconds=$((($(date +%s%N) - begun) / 1000000))
trials=$(wc -l <"$folder/undisturbed/trials.jsonl")

# One search is killed again and again; when it has ended another begins.
killed=0
searches=0
out=
while ((killed < count)); do
  if [ -z "$out" ]; then
    searches=$((searches + 1))
    ((searches <= 3 * count + 3)) || fail "searches end before they can be killed"
    out=$folder/search-$searches
  fi
  "$programs/tune" "${search[@]}" --resume --out "$out" >>"$folder/log" 2>&1 &
  program=$!
  moment=$((RANDOM * milliseconds / 32768 / 2 + 20))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  kill -9 "$program" 2>/dev/null || true
  status=0
  wait "$program" 2>/dev/null || status=$?
  if ((status == 137)); then killed=$((killed + 1)); fi
  if ((status == 0 || killed == count)); then
    "$programs/tune" "${search[@]}" --resume --out "$out" >>"$folder/log" 2>&1 || fail "the resumed search failed"
    strip='s/,"seconds":[^}]*}/}/'
    cmp <(sed "$strip" "$folder/undisturbed/trials.jsonl") <(sed "$strip" "$out/trials.jsonl") || fail "other trials after $killed kills"
    for ((trial = 1; trial <= trials; ++trial)); do
      weights=$(printf 'trials/%04d/best.weights.h5' "$trial")
      cmp "$folder/undisturbed/$weights" "$out/$weights" || fail "other weights of trial $trial after $killed kills"
    done
    rm -rf "$out"
    out=
  elif ((status != 137)); then
    fail "the search ended with $status"
  fi
done
echo "tune_kill_test: $killed kills in $searches searches of $trials trials; none lost, none other, the same weights"
