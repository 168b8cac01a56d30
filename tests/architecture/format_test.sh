#!/usr/bin/env bash
# Every C++ and CUDA file is as clang-format makes it. Another version formats otherwise, so one is named: Debian 12's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for formatter in clang-format-14 clang-format; do
  version=$("$formatter" --version 2>/dev/null) && [[ $version =~ version\ 14\. ]] && break
  formatter=
done
if [ -z "$formatter" ]; then
  echo "skipped: clang-format 14 is not installed"
  exit 77
fi

find bench data engine kernels layers nets tests tools -name '*.h' -o -name '*.cpp' -o -name '*.cu' | sort | xargs "$formatter" --dry-run -Werror
