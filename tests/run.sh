#!/usr/bin/env bash
# Installs what is missing, builds into build/, runs every test. What cannot run here is skipped and listed with its reason.
#   tests/run.sh --quick          each link of the chain of trust at its smallest (CMakeLists.txt: long_tests)
#   tests/run.sh -R '^engine:'    arguments go to ctest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/install.sh

selection=()
if [ "${1:-}" = --quick ]; then
  shift
  selection=(-C quick --tests-regex '^quick:')
fi

install_packages
build

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Running the tests; a line for each that fails, then all of its output." >&2
code=0
ctest --preset release --parallel "$(nproc)" --no-tests=error "${selection[@]}" "$@" >"$log" 2>&1 || code=$?

# Leaves out the lines of tests that passed or were skipped, and of those that start: what failed, and ctest's closing lines.
awk '!/^ *Start +[0-9]+:/ && !/^ *[0-9]+\/[0-9]+ Test +#[0-9]+:.*(Passed|\*\*\*Skipped)/ && !/\(Skipped\)$|^The following tests did not run:/' "$log"

# GoogleTest prints "file:line: Skipped", the reason's lines, an empty line, and "[  SKIPPED ] name" unless it is to be brief; a
# script that exits with 77 says "skipped: reason".
awk '
  function close_reason() { if (reading) reasons[reason == "" ? "no reason given" : reason]++; reading = 0 }
  /: Skipped$/                   { close_reason(); reading = 1; reason = ""; next }
  !NF || /^\[/ || /: Failure$/   { close_reason(); next }
  reading                        { $1 = $1; reason = reason (reason == "" ? "" : " ") $0 }
  /^skipped: /                   { reasons[substr($0, 10)]++ }
  END                            { close_reason(); for (r in reasons) printf "skipped: %d, %s\n", reasons[r], r }
' build/Testing/Temporary/LastTest.log
exit "$code"
