#!/usr/bin/env bash
# kill -9 at random moments, every second one while the checkpoint is being written, then --resume: the final weights and the
# logged losses must equal, byte for byte, those of a run that nobody disturbed.
#   tests/tools/kill_test.sh PROGRAMS COUNT [SEED]        PROGRAMS: build/tools; COUNT: runs to kill
set -euo pipefail
programs=$1
count=$2
RANDOM=${3:-1}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$programs/synthesize" idc --out "$folder/data" --train 64 --valid 24 --test 24 --seed 2 -q >"$folder/log" 2>&1

# A run goes on where it was killed; --checkpoint-every makes many moments to be killed at.
train=("$programs/train" --net b2 --data "$folder/data" --device cpu --epochs 2 -b 16 --log-steps --checkpoint-every 0.1 --resume -q)

fail() {
  echo "kill_test: $*"
  tail -20 "$folder/log"
  exit 1
}

begun=$(date +%s%N)
"${train[@]}" --out "$folder/undisturbed" >>"$folder/log" 2>&1 || fail "the undisturbed run failed"
milliseconds=$((($(date +%s%N) - begun) / 1000000))

killed_writing=0
killed=0
for ((i = 1; killed < count; ++i)); do
  ((i <= 10 * count)) || fail "only $killed of $i runs were still alive when they were to be killed"
  out=$folder/run-$i
  "${train[@]}" --out "$out" >>"$folder/log" 2>&1 &
  program=$!
  moment=$((RANDOM * milliseconds / 32768))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  if ((i % 2 == 0)); then
    while [ ! -e "$out/.last.checkpoint.part" ] && kill -0 "$program" 2>/dev/null; do :; done
  fi
  kill -9 "$program" 2>/dev/null || true
  status=0
  wait "$program" 2>/dev/null || status=$?
  if ((status == 137)); then
    killed=$((killed + 1))
  elif ((moment > 0)); then
    milliseconds=$moment  # it had ended by then
  fi
  if [ -e "$out/.last.checkpoint.part" ]; then killed_writing=$((killed_writing + 1)); fi

  "${train[@]}" --out "$out" >>"$folder/log" 2>&1 || fail "the resumed run $i failed"
  cmp "$folder/undisturbed/best.weights.h5" "$out/best.weights.h5" || fail "other best weights after kill $i at ${moment} ms"
  cmp "$folder/undisturbed/steps.csv" "$out/steps.csv" || fail "other losses after kill $i at ${moment} ms"
  cmp <(cut -d, -f1-5 "$folder/undisturbed/metrics.csv") <(cut -d, -f1-5 "$out/metrics.csv") || fail "other metrics after kill $i"
  rm -rf "$out"
done
echo "kill_test: $killed runs killed, $killed_writing of them while the checkpoint was written; all went on to the same bytes"
