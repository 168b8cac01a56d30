#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command. `gpu.sh --help` says what.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'HELP'
Everything that only a GPU can tell: correctness, memory errors, speed, each stage with a time limit, a short summary last.

    bench/gpu.sh                                         all stages, from build/
    bench/gpu.sh --only tests,parity --out /tmp/first    two of them
    bench/gpu.sh --only peers --python ~/venv/bin/python --networks resnet50,b6 --rounds 1
    bench/gpu.sh --pack /tmp/microtome                   copies what it needs into a folder for another machine, runs nothing
    /tmp/microtome/bench/gpu.sh                          there: no sources, no cmake

Stages:
  tests      every op on the GPU, f32, tf32 and bf16, against the reference
  golden     whole networks on the GPU against what Keras says of them
  parity     losses of a few training steps: GPU against CPU, recorded steps against queued ones   [Python]
  kernels    ops that move memory, on tensors larger than any cache, beside the copy rate; chains of ops, fused and not
  memcheck   the ops' tests under compute-sanitizer: accesses out of bounds                        [compute-sanitizer]
  racecheck  the same: races in shared memory                                                      [compute-sanitizer]
  gaps       the share of a step in which no kernel runs                                           [Python, nsys]
  profile    the share of kernels' time that `profile` names by row and pass, counters, and steps estimated by `bench` [Python]
  peers      images/s and memory beside PyTorch, the share of the floors; hours   [Python with torch, torchvision, timm, h5py]
Options:
  --tree DIR        a build tree or a packed folder [default: the folder above this script if packed, else its build/]
  --only A,B        these stages; --skip A,B all others
  --python PYTHON   the interpreter of parity, gaps, profile and peers [default python3]
  --out DIR         logs, results and summary.txt [default gpu-<date>]
  --device DEVICE   cuda:0, or cpu to try the stages themselves [default cuda:0; CUDA_VISIBLE_DEVICES chooses another GPU]
  --networks A,B    of golden, parity, gaps, profile and peers [default all twelve]
  --batches A,B     of peers [default 32,256]
  --rounds N        of peers [default 3]
  --filter GLOB     of the tests under compute-sanitizer, as GoogleTest takes it [default: f32 and bf16, vendors' ops few]
  --limit SECONDS   for every stage [default: 1200, kernels, sanitizers, gaps and profile 3600, peers 6 hours]

Libraries: cuDNN 9, cuBLASLt and NVRTC, with which cuDNN compiles its bf16 engines, are found where the loader looks. Where they
come from Python packages, add their folders:
    export LD_LIBRARY_PATH=$(echo SITE-PACKAGES/nvidia/*/lib | tr ' ' ':')
Build for the GPU's architecture (cmake finds it on the machine itself, else -DCMAKE_CUDA_ARCHITECTURES=90).

Exit codes: 0 all passed or were skipped with a reason · 2 usage · 7 a stage failed · 8 no GPU, or a library is missing
HELP
}

die() {
  echo "gpu.sh: error: $1" >&2
  exit "${2:-2}"
}

all_stages=(tests golden parity kernels memcheck racecheck gaps profile peers)
tree='' only='' skip='' python=python3 out='' device=cuda:0 networks='' batches='' rounds=3 limit='' pack=''
filter='*cuda0_f32:*cuda0_bf16-*/ConvTest.CasesOf*:*/ConvTest.Random*:*/DenseTest.CasesOf*'
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --tree | --only | --skip | --python | --out | --device | --networks | --batches | --rounds | --filter | --limit | --pack)
      [ $# -ge 2 ] || die "$1 lacks its value; see --help"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    *) die "unknown option $1; see --help" ;;
  esac
done
if [ -z "$tree" ]; then
  tree=$here/../build
  [ -x "$here/../tools/train" ] && tree=$here/..
fi
[ -x "$tree/tools/train" ] || die "no program $tree/tools/train: build first, or name the build tree with --tree"
tree=$(cd "$tree" && pwd)
for stage in ${only//,/ } ${skip//,/ }; do
  [[ " ${all_stages[*]} " == *" $stage "* ]] || die "no stage $stage; there are ${all_stages[*]}"
done

programs=(tools/train tools/profile tools/synthesize tools/describe bench/bench tests/kernels/kernels_tests tests/nets/nets_tests)
module=kernels/cuda/libmicrotome_cuda.so

# What every Linux has stays behind, and so does what the CUDA module needs. The rest is seen by our programs alone, each started
# by a script in its place: Python has libraries of its own under the same names.
pack() {
  local to=$1 program library up
  mkdir -p "$to"/{tools,bench/peers,kernels/cuda,tests/kernels,tests/nets/golden,lib}
  for program in "${programs[@]}"; do
    [ -x "$tree/$program" ] || die "no program $tree/$program: build everything first"
    install -s -m 755 "$tree/$program" "$to/$program.bin"
    up=$(dirname "$program" | sed 's:[^/]*:..:g')
    cat >"$to/$program" <<SCRIPT
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
export LD_LIBRARY_PATH="\$here/$up/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$here/$(basename "$program").bin" "\$@"
SCRIPT
    chmod +x "$to/$program"
  done
  ldd "${programs[@]/#/$tree/}" | awk '$3 ~ /^\// {print $3}' | sort -u |
    grep -vE '/(lib(c|m|dl|rt|pthread|resolv|gcc_s|stdc\+\+)|ld-linux[^/]*)\.so' |
    while read -r library; do install -m 644 "$library" "$to/lib/"; done
  [ ! -e "$tree/$module" ] || install -s -m 644 "$tree/$module" "$to/$module"
  install -m 755 "$here"/{gpu.sh,parity.py,gaps.py,named.py} "$to/bench/"
  install -m 755 "$here"/peers/{compare,floors,roofs,train_torch}.py "$to/bench/peers/"
  install -m 644 "$here"/../tests/nets/golden/*.json "$to/tests/nets/golden/"
  echo "$to: $(du -sh "$to" | cut -f1)"
}
if [ -n "$pack" ]; then
  pack "$pack"
  exit 0
fi

"$tree/bench/bench" --device "$device" --batch 1 --benchmark_filter=^loss_ --benchmark_list_tests >/dev/null || exit $?
out=${out:-gpu-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export MICROTOME_GOLDEN=$tree/tests/nets/golden
[ -d "$MICROTOME_GOLDEN" ] || unset MICROTOME_GOLDEN

skipped() {
  echo "skipped: $1"
  exit 77
}

need_program() {
  command -v "$1" >/dev/null || skipped "no $1 on the PATH ($2)"
}

# gtest PROGRAM FILTER: a filter that finds nothing, or a machine that skips all, is no success.
gtest() {
  local log=$out/$stage.gtest code=0
  "$tree/$1" --gtest_brief=1 --gtest_filter="$2" >"$log" 2>&1 || code=$?
  cat "$log"
  if [ $code -ne 0 ]; then
    echo "result: $(sed -n 's/^ *\([0-9]* FAILED TESTS*\)$/\1/p' "$log" | tail -1) in $log"
    return 7
  fi
  local passed skips why
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | tail -1)
  skips=$(grep -c '^\[  SKIPPED \]' "$log" || true)
  why=$(awk '/: Skipped$/ {getline; print; exit}' "$log")
  [ "${passed:-0}" -gt 0 ] || skipped "${why:-no test matches $2}"
  echo "result: $passed tests passed$([ "$skips" -eq 0 ] || echo ", $skips skipped")"
}

# The GPU's subjects among the tests' names, or the CPU's to try the stage.
subject() {
  [ "$device" = cpu ] && echo cpu || echo "$1"
}

run_tests() {
  gtest tests/kernels/kernels_tests "*/$(subject 'cuda0_*')"
}

run_golden() {
  local net filters=''
  for net in ${networks//,/ }; do filters+="*/${net}_*_$(subject cuda):"; done
  gtest tests/nets/nets_tests "${filters:-*/*_$(subject cuda)}"
}

run_parity() {
  need_program "$python" "see --python"
  "$python" "$here/parity.py" --tools "$tree/tools" --device "$device" ${networks:+--networks "$networks"}
}

run_kernels() {
  local small=() precision
  [ "$device" = cpu ] && small=(--large-mb 4 --samples 1)
  for precision in bf16 f32; do
    [ "$device" = cpu ] && [ $precision = bf16 ] && continue
    "$tree/bench/bench" --device "$device" --precision $precision --benchmark_filter=/large "${small[@]}" \
      --benchmark_out="$out/kernels-$precision.json"
    [ "$device" = cpu ] || "$tree/bench/bench" --device "$device" --precision $precision --size 96 --batch 256 \
      --benchmark_filter='^chain_.*/(resnet50|mobilenet|efficientnet_v2_b0):' --benchmark_out="$out/chains-$precision.json"
  done
  local slow
  slow=$(awk '/^Large cases under/ {on = 1; next} !/^  / {on = 0} on {++n} END {print n + 0}' "$out/kernels.log")
  echo "result: $slow large cases under 80% of the copy rate"
}

sanitize() {
  [ "$device" = cpu ] && skipped "needs a GPU"
  local sanitizer code=0
  sanitizer=$(PATH="$PATH:/usr/local/cuda/bin" command -v compute-sanitizer) ||
    skipped "no compute-sanitizer on the PATH (CUDA toolkit)"
  "$sanitizer" --tool "$1" --target-processes all --error-exitcode 7 \
    "$tree/tests/kernels/kernels_tests" --gtest_brief=1 --gtest_filter="$filter" || code=$?
  echo "result: $(grep -o 'ERROR SUMMARY: .*\|RACECHECK SUMMARY: .*' "$out/$stage.log" | tail -1)"
  return $code
}
run_memcheck() { sanitize memcheck; }
run_racecheck() { sanitize racecheck; }

run_gaps() {
  [ "$device" = cpu ] && skipped "needs a GPU"
  need_program "$python" "see --python"
  "$python" "$here/gaps.py" --tools "$tree/tools" --device "$device" ${networks:+--networks "$networks"}
}

run_profile() {
  need_program "$python" "see --python"
  local options=(--precision bf16 --counters 'dram,l2,tensor,occupancy' --batch-size 256)
  [ "$device" = cpu ] && options=(--precision f32 --batch-size 8 --steps 4)
  "$python" "$here/named.py" --tools "$tree/tools" --bench "$tree/bench/bench" --device "$device" --out "$out/profiles" \
    ${networks:+--networks "$networks"} "${options[@]}"
}

run_peers() {
  need_program "$python" "see --python"
  "$python" -c 'import torch, torchvision, timm, h5py' 2>/dev/null || skipped "$python lacks torch, torchvision, timm or h5py"
  local options=(--precision bf16 --batches "${batches:-32,256}")
  [ "$device" = cpu ] && options=(--precision f32 --batches "${batches:-8}" --images 16 --epochs 1)
  "$python" "$here/peers/compare.py" --device "$device" --tools "$tree/tools" --rounds "$rounds" \
    --out "$out/peers.json" --resume ${networks:+--networks "$networks"} "${options[@]}"
  echo "result: $out/peers.json"
}

limit_of() {
  case $1 in
    kernels | memcheck | racecheck | gaps | profile) echo "${limit:-3600}" ;;
    peers) echo "${limit:-21600}" ;;
    *) echo "${limit:-1200}" ;;
  esac
}

# A stage runs in a process group of its own, which its limit ends as a whole.
one_stage() {
  local stage=$1 start code=0 verdict note seconds job
  seconds=$(limit_of "$stage")
  start=$(date +%s)
  echo "== $stage (at most $seconds s; $out/$stage.log)" >&2
  set -m
  (set +m -euo pipefail && "run_$stage") >"$out/$stage.log" 2>&1 &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null && [ $(($(date +%s) - start)) -lt "$seconds" ]; do sleep 0.5; done
  if kill -0 "$job" 2>/dev/null; then
    code=124
    kill -TERM -- "-$job" 2>/dev/null || true
    sleep 2
    kill -KILL -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
  else
    wait "$job" || code=$?
  fi
  note=$(sed -n 's/^result: //p; s/^skipped: //p' "$out/$stage.log" | tail -1)
  case $code in
    0) verdict=passed ;;
    77) verdict=skipped ;;
    124) verdict='out of time' ;;
    *) verdict=FAILED ;;
  esac
  [ $code -eq 0 ] || [ $code -eq 77 ] || [ -n "$note" ] || note=$(tail -1 "$out/$stage.log" | cut -c1-90)
  printf '%-10s %-12s %6d s  %s\n' "$stage" "$verdict" $(($(date +%s) - start)) "$note" >>"$out/summary.txt"
  # What a stage prints last is its table.
  [ "$stage" = tests ] || [ "$stage" = golden ] || [ $code -eq 77 ] || tail -60 "$out/$stage.log"
  [ $code -eq 0 ] || [ $code -eq 77 ] || failed=1
}

failed=0
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader >"$out/summary.txt" 2>/dev/null ||
  echo "no GPU that nvidia-smi sees" >"$out/summary.txt"
for stage in "${all_stages[@]}"; do
  [ -z "$only" ] || [[ ,$only, == *",$stage,"* ]] || continue
  [[ ,$skip, != *",$stage,"* ]] || continue
  one_stage "$stage"
done
echo
cat "$out/summary.txt"
[ $failed -eq 0 ] || exit 7
