#!/usr/bin/env bash
# Installs what building and testing need, where it is missing: Debian 12's packages, as root or through sudo. Sourced by
# quickstart.sh and tests/run.sh; a second call asks dpkg only.

packages=(
  g++ cmake ninja-build pkg-config git clang-format-14
  libdnnl-dev ocl-icd-opencl-dev libhdf5-dev libpng-dev zlib1g-dev libfmt-dev libboost-dev libcli11-dev nlohmann-json3-dev libssl-dev libonnx-dev libprotobuf-dev
  libgtest-dev libbenchmark-dev
  gnuplot-nox
)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  if ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get. Install what stands for these Debian packages, then call again: ${missing[*]}" >&2
    return 8
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Packages are missing, and this is neither root nor is there sudo. As root: apt-get install ${missing[*]}" >&2
      return 8
    fi
    as_root=(sudo)
  fi
  echo "Installing: ${missing[*]}" >&2
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
  "${install[@]}" >&2 || { "${as_root[@]}" apt-get update -q >&2 && "${install[@]}" >&2; }
}

# A compiler process takes up to 2 GB (nvcc); more of them than fit into memory only swap.
build_jobs() {
  local cores memory_kb
  cores=$(nproc)
  memory_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  local fit=$((memory_kb / (2 * 1024 * 1024)))
  [ "$fit" -lt 1 ] && fit=1
  [ "$fit" -lt "$cores" ] && echo "$fit" || echo "$cores"
}

# build [TARGET…]: into build/, with the preset `release`. A cache of another generator or folder is not touched.
build() {
  cmake --preset release >&2 && cmake --build --preset release --parallel "$(build_jobs)" ${1:+--target "$@"} >&2
}
