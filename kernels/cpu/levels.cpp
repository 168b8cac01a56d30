// Which level of instructions serves this process.
#include "kernels/cpu/levels.h"

#include "engine/check.h"

#include <cstdlib>
#include <string>

namespace microtome {
namespace {

constexpr const char variable[] = "MICROTOME_ISA";

const CpuLevel& best_level() {
  const CpuLevel* best = nullptr;
  for (const CpuLevel& level : cpu_levels())
    if (level.is_here()) best = &level;
  if (best) return *best;
  fail(ExitCode::machine, "this processor is older than the CPU backend's code",
       {.expected = fmt::format("{} or later (a processor of 2009 or later)", cpu_levels().front().name),
        .next = "another machine; describe, data and convert serve on this one"});
}

const CpuLevel& level_named(std::string_view name) {
  std::string names;
  for (const CpuLevel& level : cpu_levels()) {
    if (level.name == name) return level;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", level.name);
  }
  fail(ExitCode::usage, "this build has no such level of instructions",
       {.where = variable, .expected = names, .found = fmt::format("\"{}\"", name), .next = fmt::format("unset {}", variable)});
}

/// Both are held to it: our loops, and the code that oneDNN writes.
const CpuLevel& forced_level(std::string_view name) {
  const CpuLevel& level = level_named(name);
  if (!level.is_here())
    fail(ExitCode::machine, "this processor has not the instructions that are asked for",
         {.where = variable,
          .expected = fmt::format("at most {}", best_level().name),
          .found = level.name,
          .next = fmt::format("unset {}", variable)});
  if (level.onednn != dnnl_cpu_isa_all && dnnl_set_max_cpu_isa(level.onednn) != dnnl_success)
    fail(ExitCode::machine, "this oneDNN cannot be held to fewer instructions than the processor has",
         {.where = variable, .found = level.name, .next = fmt::format("unset {}", variable)});
  return level;
}

/// Chosen at the first call, for oneDNN chooses once too.
const CpuLevel& level_in_use() {
  static const CpuLevel& level = []() -> const CpuLevel& {
    const char* asked = std::getenv(variable);
    return asked && *asked ? forced_level(asked) : best_level();
  }();
  return level;
}

}  // namespace

std::string_view cpu_instructions() {
  return level_in_use().name;
}

std::unique_ptr<Backend> make_cpu_backend(Precision precision) {
  return level_in_use().make(precision);
}

}  // namespace microtome
