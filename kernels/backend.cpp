// From a name to a backend.
#include "kernels/backend.h"

#include "engine/check.h"

#include <charconv>
#include <cstdio>
#include <optional>

namespace microtome {

namespace {

std::optional<int> ordinal_of(std::string_view device) {
  constexpr std::string_view prefix = "cuda:";
  if (!device.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = device.substr(prefix.size());
  int ordinal = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
  if (error != std::errc{} || end != digits.data() + digits.size() || ordinal < 0) return std::nullopt;
  return ordinal;
}

std::string_view name(Precision precision) {
  switch (precision) {
    case Precision::f32: return "f32";
    case Precision::tf32: return "tf32";
    case Precision::bf16: return "bf16";
  }
  return "?";
}

void require_f32(std::string_view device, Precision precision) {
  if (precision == Precision::f32) return;
  fail(ExitCode::machine, fmt::format("{} computes in {} only", device, device == "reference" ? "f64" : "f32"),
       {.expected = "--precision f32",
        .found = fmt::format("--precision {}", name(precision)),
        .next = fmt::format("drop --precision {}, or ask for --device cuda:0", name(precision))});
}

/// What could be cured is no reason to leave a GPU idle in silence.
std::string_view found_device() {
  try {
    return cuda_device_count() > 0 ? "cuda:0" : "cpu";
  } catch (const Error& error) {
    if (error.code() != ExitCode::machine) throw;
    const std::string& found = error.report().found;
    std::fprintf(stderr, "warning: the CPU computes: %s; --device cuda:0 says more\n",
                 (error.what() + (found.empty() ? "" : fmt::format(" ({})", found))).c_str());
    return "cpu";
  }
}

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view device, Precision precision, const BackendOptions& options) {
  if (device == "auto") device = found_device();
  if (device == "reference") {
    require_f32(device, precision);
    return make_reference_backend();
  }
  if (device == "cpu") {
    require_f32(device, precision);
    return make_cpu_backend(precision);
  }
  if (const std::optional<int> ordinal = ordinal_of(device)) return make_cuda_backend(*ordinal, precision, options);
  fail(ExitCode::usage, "there is no such device",
       {.expected = "auto, cpu, cuda:N (cuda:0 is the first GPU) or reference",
        .found = fmt::format("\"{}\"", device),
        .next = device == "cuda" || device == "gpu" ? "--device cuda:0" : "--device auto"});
}

}  // namespace microtome
