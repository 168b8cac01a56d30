// Options that several programs share, declared alike everywhere, and what they open.
#pragma once

#include "data/loader.h"
#include "engine/backend.h"
#include "engine/fit.h"
#include "kernels/backend.h"
#include "nets/nets.h"
#include "tools/cli/arguments.h"
#include "tools/cli/terminal.h"

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace microtome {

constexpr int study_dense_units = 256;  // [Bonnet2021]

struct Settings {
  std::string net, data, weights;
  std::string preprocess = "paper", split_by = "patient";
  std::uint64_t split_seed = 0;
  std::optional<Preprocessing> pixels = {};  // in the place of what `preprocess` names
  std::string device = "auto", precision = "f32";
  bool deterministic = false, autotune = true, defer = true;
  int streams = 5;
  int dense_units = study_dense_units;
  int batch_size = 32;  // [Bonnet2021]
  bool quiet = false, verbose = false;

  Verbosity verbosity() const;
};

enum class Named { always, unless_weights_say };  // files of weights that we wrote do: take_over()
void add_network(Arguments& arguments, Settings& settings, Named named = Named::always);
void add_preprocess(Arguments& arguments, Settings& settings, Named named = Named::always);
void add_data(Arguments& arguments, Settings& settings, Named named = Named::always);
void add_split(Arguments& arguments, Settings& settings, Named named = Named::always);  // as add_data, but for the folder
void add_judged_batch(Arguments& arguments, Settings& settings);                        // of what learns nothing
void add_machine(Arguments& arguments, Settings& settings);
void add_verbosity(Arguments& arguments, Settings& settings);

/// --tta, for programs that judge or score.
void add_tta(Arguments& arguments, std::string& tta, Option::Kept kept = Option::Kept::never);

/// "b2|b6|…", for help texts.
std::string network_names();

/// Where what --autotune on has timed is kept from run to run: MICROTOME_PLAN_CACHE; without it, in XDG_CACHE_HOME or ~/.cache.
/// Empty, which is nowhere, where the variable is or there is no home.
std::filesystem::path plan_cache_file();

/// How a GPU is to be used.
BackendOptions backend_options(const Settings& settings);

/// On `device`; says on `terminal` what it is.
std::unique_ptr<Backend> open_backend(const Settings& settings, Terminal& terminal);

/// The splits asked for, with a progress bar; says on `terminal` what was read, and the loader's notes.
struct Splits {
  bool train = false, valid = false, test = false;
  bool deal = true;  // off: images that no folder puts into a split are in train
};
Dataset open_data(const Settings& settings, Splits splits, Terminal& terminal);
LoadOptions load_options(const Settings& settings, Terminal& terminal);
LoadOptions split_options(const Settings& settings);  // the same without progress

/// What --preprocess names: "paper", "native".
Preprocessing preprocessing_of(const Network& network, std::string_view name);

/// Batch size, and how pixels become numbers.
FitOptions fit_options(const Settings& settings, const Network& network);

}  // namespace microtome
