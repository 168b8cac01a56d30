#!/usr/bin/env bash
# Builds the fuzz targets and runs each with libFuzzer: tests/fuzz/run.sh [SECONDS] [TARGET…]   60 s each, all, unless told
# otherwise. Wants clang-16, libclang-rt-16-dev and libomp-16-dev. What they learn is kept in build-fuzz/corpus, what they find in
# build-fuzz/found, an input a file; the cured ones' place is tests/fuzz/found/TARGET.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^microtome_fuzz(\([a-z_]*\).*/\1/p' tests/fuzz/CMakeLists.txt)

cmake --preset fuzz > /dev/null
ninja -C build-fuzz "${targets[@]/%/_fuzz}" "${targets[@]/%/_replay}"
cd build-fuzz
failed=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "found/$target"
  "tests/fuzz/${target}_replay" --seeds "corpus/$target"
  options=()
  # libhdf5 leaks where a file is damaged, and now and then crashes; a child of ours dies of either, and nothing else.
  case $target in pcam | weights) options=(-fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -detect_leaks=0) ;; esac
  "tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=32768 \
    -artifact_prefix="found/$target/" "${options[@]}" "corpus/$target" || true
  [ -z "$(ls -A "found/$target")" ] || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || { echo "found something: ${failed[*]} (build-fuzz/found)"; exit 1; }
