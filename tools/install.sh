#!/usr/bin/env bash
# Installs what building and testing need, where it is missing, as root or through sudo: on Debian 12 and 13; untested on Ubuntu
# 24.04 and Fedora. Elsewhere it says the names and goes on with what is there. Sourced by quickstart.sh and tests/run.sh; a
# second call only asks whether all is there.

debian=(
  g++ cmake ninja-build pkg-config git
  libdnnl-dev libhdf5-dev libpng-dev zlib1g-dev libfmt-dev libboost-dev libcli11-dev nlohmann-json3-dev libssl-dev libonnx-dev libprotobuf-dev
  libgtest-dev libbenchmark-dev
  gnuplot-nox
)
bookworm=(ocl-icd-opencl-dev clang-format-14)  # its oneDNN links OpenCL; later Debians have no clang-format 14, and a test is skipped
fedora=(
  gcc-c++ cmake ninja-build pkgconf-pkg-config git
  onednn-devel hdf5-devel libpng-devel zlib-devel fmt-devel boost-devel cli11-devel json-devel openssl-devel onnx-devel protobuf-devel
  gtest-devel google-benchmark-devel
  gnuplot
)
conda_forge=(
  gxx cmake ninja pkg-config git
  'onednn=*=omp*' hdf5 libpng zlib fmt libboost-headers cli11 nlohmann_json openssl onnx libprotobuf
  gtest benchmark
  gnuplot
)
spack=(
  gcc cmake ninja pkgconf git
  onednn hdf5 libpng zlib fmt boost cli11 nlohmann-json openssl onnx protobuf
  googletest benchmark
  gnuplot
)

install_packages() {
  local system packages missing install=(apt-get install -y -q --no-install-recommends)
  system=$(. /etc/os-release && echo "$ID${VERSION_ID:+ $VERSION_ID}")
  case $system in
    "debian 12") packages=("${debian[@]}" "${bookworm[@]}") ;;
    "debian 13" | "ubuntu 24.04") packages=("${debian[@]}") ;;
    "fedora "*) packages=("${fedora[@]}") install=(dnf install -y -q) ;;
    *)
      echo "Nothing is installed on this system, $system. What it needs is called" >&2
      echo "  apt          ${debian[*]}" >&2
      echo "  dnf          ${fedora[*]}" >&2
      echo "  conda-forge  ${conda_forge[*]}" >&2
      echo "  Spack        ${spack[*]}" >&2
      return 0
      ;;
  esac

  missing_packages
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Packages are missing, and this is neither root nor is there sudo. As root: ${install[*]} ${missing[*]}" >&2
      return 8
    fi
    as_root=(sudo)
  fi
  case $system in ubuntu* | fedora*) echo "Untested on $system." >&2 ;; esac
  echo "Installing: ${missing[*]}" >&2
  install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}")
  "${install[@]}" "${missing[@]}" >&2 && return 0
  [[ ${install[*]} == *apt-get* ]] && "${as_root[@]}" apt-get update -q >&2 && "${install[@]}" "${missing[@]}" >&2 && return 0
  missing_packages
  echo "Could not be had, for the reason above: $(unknown_packages | grep . || echo "${missing[*]}")" >&2
  return 8
}

# Those of `missing` that apt has never heard of, on one line: with one of them it installs none of the others either.
unknown_packages() {
  local package unknown=()
  command -v apt-cache >/dev/null || return 0
  for package in "${missing[@]}"; do
    apt-cache show "$package" >/dev/null 2>&1 || unknown+=("$package")
  done
  echo "${unknown[*]}"
}

# Of `packages`, into `missing`.
missing_packages() {
  local package
  missing=()
  for package in "${packages[@]}"; do
    if command -v dpkg-query >/dev/null; then
      dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$'
    else
      rpm -q --quiet --whatprovides "$package"
    fi || missing+=("$package")
  done
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
