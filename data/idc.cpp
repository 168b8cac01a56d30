// IDC [Janowczyk2016]: PATIENT/{0,1}/PATIENT_idx5_xX_yY_classC.png, RGB, 50 x 50, smaller at a slide's edge. The archive on
// Kaggle holds the tree twice: a second copy of a file, of the same patient, class and name, is left out. Tutorials deal them
// into SPLIT/{0,1}/, the patient in the name alone: folders that say a split are believed, whoever is in several. Palette,
// grey, alpha (over white) and 16 bits become 8-bit RGB and are counted.
#include "data/checks.h"
#include "data/decode.h"
#include "data/file.h"
#include "data/format.h"
#include "data/parallel.h"
#include "data/patient.h"
#include "data/png.h"
#include "data/split.h"
#include "data/synthetic.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr Extent idc_image = 50;

std::optional<std::uint8_t> class_of(std::string_view folder) {
  if (folder == "0") return std::uint8_t{0};
  if (folder == "1") return std::uint8_t{1};
  return {};
}

/// Where the class stands in the path of a folder of images: last, or before the patient where a split's folder is there too.
std::optional<std::size_t> class_at(const Parts& parts) {
  const bool in_split = std::ranges::any_of(parts, [](const std::string& part) { return split_word(part).has_value(); });
  if (!in_split) return parts.size() > 1 && class_of(parts.back()) ? std::optional(parts.size() - 1) : std::nullopt;
  int others = 0;
  for (std::size_t i = parts.size(); i-- > 0;) {
    if (split_word(parts[i])) continue;
    if (class_of(parts[i])) return i;
    if (++others > 1) break;
  }
  return {};
}

Parts parts_of(const fs::path& folder) {
  Parts parts;
  for (const fs::path& part : folder) parts.push_back(part.string());
  return parts;
}

bool recognise(const fs::path& folder) {
  return any_file(folder, [](const fs::path& path) { return is_png_name(path) && class_at(parts_of(path.parent_path())); });
}

/// What the path of a folder of images says of them all.
struct Place {
  Parts parts;
  std::uint8_t label = 0;
  std::size_t split = 0;
  std::string patient;
};

struct PngFile {
  const fs::path* path;
  std::size_t place;
};

struct Listing {
  std::vector<Place> places;   // with a class
  std::vector<PngFile> files;  // in these, in the order of paths
  std::int64_t unlabelled = 0, others = 0;
};

Listing list(const Tree& tree) {
  constexpr std::size_t none = -1;
  Listing listing;
  std::map<fs::path, std::size_t> known;
  auto last = known.end();
  for (const fs::path& path : tree.files) {
    if (!is_png_name(path)) {
      ++listing.others;
      continue;
    }
    fs::path folder = path.parent_path();
    if (last == known.end() || last->first != folder) {
      const auto [place, is_new] = known.emplace(std::move(folder), none);
      last = place;
      if (is_new) {
        Parts parts = parts_of(place->first);
        if (const auto at = class_at(parts)) {
          place->second = listing.places.size();
          const std::uint8_t label = *class_of(parts[*at]);
          listing.places.push_back({.parts = std::move(parts), .label = label, .patient = {}});
        }
      }
    }
    if (last->second == none) {
      ++listing.unlabelled;
    } else {
      listing.files.push_back({&path, last->second});
    }
  }
  return listing;
}

/// Links to folders that are read under another name could hide that two splits are one.
void require_splits_apart(const Tree& tree, const fs::path& root) {
  const auto split_in = [](const fs::path& path) -> std::optional<std::size_t> {
    for (const std::string& part : parts_of(path)) {
      if (const auto split = split_hint(part)) return split;
    }
    return {};
  };
  for (const auto& [link, listed_as] : tree.repeated) {
    const auto split = split_in(link);
    if (!split || split == split_in(listed_as)) continue;
    fail(ExitCode::data, "a split's folder is a link to what is read under another name",
         {.where = (root / link).string(),
          .expected = "images of its own",
          .found = fmt::format("those of {}", listed_as.string()),
          .next = "take the link out of the folder, or name the folder of links alone with --data"});
  }
}

/// Sets splits, and patients where folders below these are theirs.
void read_splits(std::vector<Place>& places, const SplitFolders& splits) {
  for (std::size_t i = 0; i < places.size(); ++i) {
    Place& place = places[i];
    const SplitFolders::Found& found = *splits.found[i];
    const std::size_t label_at = *class_at(place.parts);
    place.split = found.split;
    for (std::size_t part = found.at + 1; part < place.parts.size(); ++part) {
      const std::string& name = place.parts[part];
      const bool again = split_word(name) || name == place.parts[found.at];  // unpacked into a folder of its own name
      if (part != label_at && !again && !is_filler(name)) place.patient = name;
    }
  }
}

/// Sets patients by the folders above the classes'. True where file names say that these are no patients': one holds several,
/// or several hold one.
bool read_patients(Listing& listing, std::vector<std::string>& notes) {
  for (Place& place : listing.places) place.patient = place.parts[place.parts.size() - 2];
  std::map<std::string, std::string> named_in, folder_of;
  for (const PngFile& file : listing.files) {
    const std::string named = patient_in_name(file.path->filename().string());
    if (named.empty()) continue;
    const std::string& folder = listing.places[file.place].patient;
    const std::string& other = named_in.emplace(folder, named).first->second;
    const std::string& elsewhere = folder_of.emplace(named, folder).first->second;
    if (other == named && elsewhere == folder) continue;
    notes.push_back("patients as file names say, not folders: " +
                    (other != named ? fmt::format("{} holds {} and {}", folder, other, named)
                                    : fmt::format("{} is in {} and {}", named, elsewhere, folder)));
    return true;
  }
  std::set<std::string> patients;
  for (const PngFile& file : listing.files) patients.insert(listing.places[file.place].patient);
  constexpr std::size_t few = 5;
  if (!named_in.empty() || patients.size() > few) return false;
  std::string names;
  for (const std::string& patient : patients) names += (names.empty() ? "" : ", ") + patient;
  notes.push_back(
      fmt::format("taken for patients, though no file's name says one: {}; were these folders splits, they would be "
                  "called train, valid and test",
                  names));
  return false;
}

/// Splits without a folder of their own are dealt from training's; without one for training, there are no such.
void deal_the_rest(std::vector<Patch>& patches, const SplitFolders& splits, const LoadOptions& options, const fs::path& root,
                   std::vector<std::string>& notes) {
  std::vector<std::size_t> targets;
  std::string as_said, missing;
  bool wanted = false;
  for (std::size_t s = 0; s < split_count; ++s) {
    if (splits.has(s)) as_said += fmt::format("{}{} to {}", as_said.empty() ? "" : ", ", splits.names[s], split_names[s]);
    if (splits.has(s) && s != 0) continue;
    targets.push_back(s);
    wanted |= options.wanted()[s];
    if (s != 0) missing += fmt::format("{}{}", missing.empty() ? "" : " and ", split_names[s]);
  }
  const bool dealt = options.deal && splits.has(0) && targets.size() > 1;
  notes.push_back(fmt::format("splits as folders say: {}; {}", as_said,
                              dealt ? fmt::format("none says {}, dealt from {}", missing, splits.names[0])
                                    : "--split-by and --split-seed change nothing"));
  if (dealt && wanted) deal(patches, targets, options, root, notes);
}

/// What folders that say splits, and file names, leave open.
void note_patients(const std::vector<Patch>& patches, std::vector<std::string>& notes) {
  std::map<std::string_view, std::set<std::size_t>> splits_of;
  std::int64_t unknown = 0;
  for (const Patch& patch : patches) {
    if (patch.patient.empty()) {
      ++unknown;
    } else {
      splits_of[patch.patient].insert(patch.split);
    }
  }
  add_note(notes, unknown, "patch is", "patches are",
           "of patients unknown: file names of another form, and no folder a patient");
  add_note(notes, std::ranges::count_if(splits_of, [](const auto& pair) { return pair.second.size() > 1; }), "patient is",
           "patients are", "in several splits: `data audit` names them");
}

bool same_bytes(const fs::path& a, const fs::path& b) {
  std::error_code failure;
  const std::uintmax_t size = fs::file_size(a, failure);
  if (failure || fs::file_size(b, failure) != size || failure) return false;
  try {
    return read_whole(a, ExitCode::data, size) == read_whole(b, ExitCode::data, size);
  } catch (const Error&) {
    return false;  // who reads it as an image says what is wrong with it
  }
}

/// Takes out copies: `alike` are the places of patches of the same patient, class and name.
void leave_out_copies(std::vector<Patch>& patches, const std::vector<std::vector<std::size_t>>& alike, const fs::path& folder,
                      const LoadOptions& options, std::vector<std::string>& notes) {
  if (alike.empty()) return;
  const std::int64_t count = std::ssize(alike);
  std::vector<char> copies(patches.size());
  for_each_index(
      count, options.threads,
      [&](std::int64_t i) {
        const std::vector<std::size_t>& places = alike[static_cast<std::size_t>(i)];
        for (auto place = places.begin() + 1; place != places.end(); ++place)
          copies[*place] = std::any_of(places.begin(), place, [&](std::size_t earlier) {
            return same_bytes(folder / patches[earlier].path, folder / patches[*place].path);
          });
      },
      [&](std::int64_t done) {
        if (options.progress) options.progress("comparing files of one name", done, count);
      });
  std::int64_t others = -count;
  for (const std::vector<std::size_t>& places : alike)
    others += std::ranges::count_if(places, [&](std::size_t place) { return !copies[place]; });
  std::vector<Patch> kept;
  for (std::size_t i = 0; i < patches.size(); ++i)
    if (!copies[i]) kept.push_back(std::move(patches[i]));
  add_note(notes, std::ssize(patches) - std::ssize(kept), "file", "files",
           "left out: of the same patient, class and name as another, byte for byte (Kaggle's archive holds the tree twice)");
  add_note(notes, others, "file is", "files are",
           "of the same patient, class and name as another and yet not the same: read too");
  patches = std::move(kept);
}

struct Found {
  std::vector<Patch> patches;
  SplitFolders splits;
  std::string split_by;  // as Dataset has it
};

/// Every patch below the folder, each once, in the order of paths, with the split that folders say; of those that are alike by
/// name, the files are compared. What is wrong with a single one is thrown, or added to `problems` where there are any to be
/// added to.
Found find_patches(const fs::path& folder, const LoadOptions& options, std::vector<std::string>& notes,
                   std::vector<Error>* problems = nullptr) {
  const Tree tree = walk(folder, problems);
  Listing listing = list(tree);
  std::vector<Parts> parts;
  for (const Place& place : listing.places) parts.push_back(place.parts);
  const auto is_class = [](std::string_view part) { return class_of(part).has_value(); };
  const SplitFolders splits = find_split_folders(parts, is_class, folder, notes);
  bool names_count = true;
  require_splits_apart(tree, folder);
  if (splits.any()) {
    read_splits(listing.places, splits);
  } else {
    listing.unlabelled += static_cast<std::int64_t>(
        std::erase_if(listing.files, [&](const PngFile& file) { return !class_of(listing.places[file.place].parts.back()); }));
    names_count = read_patients(listing, notes);
  }

  Found found{.patches = {}, .splits = splits, .split_by = {}};
  std::map<std::tuple<std::size_t, std::string, std::uint8_t, std::string>, std::vector<std::size_t>> places_of;
  std::int64_t odd_names = 0;
  for (const PngFile& file : listing.files) {
    const Place& place = listing.places[file.place];
    std::string name = file.path->filename().string();
    const std::optional<std::uint8_t> named = class_in_name(name);
    const auto require_agreement = [&] {
      if (!named || *named == place.label) return;
      fail(ExitCode::data, "a patch's name and folder disagree on its class",
           {.where = (folder / *file.path).string(),
            .expected = fmt::format("class {}, as its folder says", place.label),
            .found = fmt::format("class {} in its name", *named),
            .next = "move it to the folder of its class, or rename it"});
    };
    if (problems == nullptr)
      require_agreement();
    else
      succeeds(*problems, require_agreement);
    odd_names += !named;
    std::string patient = names_count ? patient_in_name(name) : "";
    if (patient.empty()) patient = place.patient;
    // Of unknown patients, equal names tell nothing.
    if (!patient.empty()) places_of[{place.split, patient, place.label, std::move(name)}].push_back(found.patches.size());
    found.patches.push_back(
        {.path = file.path->string(), .patient = std::move(patient), .label = place.label, .split = place.split});
  }
  std::vector<std::vector<std::size_t>> alike;
  for (auto& [key, places] : places_of)
    if (places.size() > 1) alike.push_back(std::move(places));
  leave_out_copies(found.patches, alike, folder, options, notes);
  add_note(notes, listing.unlabelled, "PNG file", "PNG files",
           fmt::format("left out: not in a folder {0}/0 or {0}/1", splits.any() ? "SPLIT" : "PATIENT"));
  add_note(notes, odd_names, "file name is", "file names are",
           "not of the form PATIENT_idx5_xX_yY_classC.png; the folder's class counts");
  add_note(notes, listing.others + tree.others, "other file", "other files", "left out");
  add_notes(tree, notes);
  return found;
}

/// The patches to the splits that no folder says, unless options say that these are not asked for.
void deal_out(Found& found, const LoadOptions& options, const fs::path& root, std::vector<std::string>& notes) {
  if (found.splits.any()) {
    found.split_by = "folders";
    deal_the_rest(found.patches, found.splits, options, root, notes);
    note_patients(found.patches, notes);
  } else if (options.deal && deal(found.patches, std::array<std::size_t, split_count>{0, 1, 2}, options, root, notes)) {
    found.split_by = options.split_by == SplitBy::patch ? "patch" : "patient";
  }
}

Extent image_size(const fs::path&, const LoadOptions& options) {
  return options.image.value_or(idc_image);
}

std::array<Images*, split_count> splits_of(Dataset& data) {
  return {&data.train, &data.valid, &data.test};
}

/// Labels, patients and, as ids, the paths of the splits that are wanted.
void assign(const Found& found, const LoadOptions& options, Dataset& data) {
  for (const Patch& patch : found.patches) {
    if (!options.wanted()[patch.split]) continue;
    Images& images = *splits_of(data)[patch.split];
    images.ids.push_back(patch.path);
    images.labels.push_back(patch.label);
    images.groups.push_back(patch.patient);
  }
  for (Images* images : splits_of(data)) {
    std::vector<std::string>& groups = images->groups;
    if (std::ranges::find(groups, "") != groups.end()) groups.clear();  // known of all images, or not known
  }
}

void require_two_classes(const Images& images, std::size_t split, const Found& found, const fs::path& folder) {
  require_both_classes(
      images.labels, fmt::format("the {} split", adjective(split_names[split])), folder.string(),
      found.splits.any() ? "put images of both classes into the folder of every split"
                         : "add patients with both classes, or deal them otherwise: another --split-seed, or --split-by patch");
}

/// Of all splits that are wanted, or where nothing is dealt of all of them together.
void require_classes(Dataset& data, const Found& found, const LoadOptions& options, const fs::path& folder) {
  std::vector<std::uint8_t> all;
  for (std::size_t s = 0; s < split_count; ++s) {
    const Images& images = *splits_of(data)[s];
    if (options.deal && options.wanted()[s]) require_two_classes(images, s, found, folder);
    all.insert(all.end(), images.labels.begin(), images.labels.end());
  }
  if (!options.deal) require_both_classes(all, "the data set", folder.string(), "add images of the other class");
}

std::array<std::int64_t, split_count> count(const fs::path& folder, const LoadOptions& options) {
  std::vector<std::string> unsaid;
  std::array<std::int64_t, split_count> images{};
  Found found = find_patches(folder, options, unsaid);
  deal_out(found, options, folder, unsaid);
  for (const Patch& patch : found.patches) images[patch.split] += options.wanted()[patch.split];
  return images;
}

Dataset load(const fs::path& folder, const LoadOptions& options) {
  Dataset data;
  Found found = find_patches(folder, options, data.notes);
  deal_out(found, options, folder, data.notes);
  data.split_by = found.split_by;
  const Extent canvas = image_size(folder, options);
  Oddities oddities;
  // All labels before any pixel: what is wrong with them should not wait for the decoding.
  assign(found, options, data);
  require_classes(data, found, options, folder);
  std::int64_t wanted = 0;
  for (const Images* images : splits_of(data)) wanted += std::ssize(images->ids);
  require_memory(wanted * canvas.h * canvas.w * 3, folder.string());
  PngReaders readers(wanted, options);
  for (std::size_t s = 0; s < split_count; ++s) {
    if (!options.wanted()[s]) continue;
    Images& images = *splits_of(data)[s];
    Images decoded = decode(readers, folder, images.ids, canvas, 1, fmt::format("reading {}", split_names[s]), oddities);
    images.shape = decoded.shape;
    images.pixels = std::move(decoded.pixels);
  }
  add_notes(oddities, canvas, data.notes);
  return data;
}

Dataset verify(const fs::path& folder, const LoadOptions& options, std::vector<Error>& problems) {
  Dataset data;
  Found found = find_patches(folder, options, data.notes, &problems);
  // Where patches are missing, for a folder cannot be listed say, that too few can be dealt may be no fault of its own.
  std::vector<Error> consequences;
  std::vector<Error>& of_splits = problems.empty() ? problems : consequences;
  const bool dealt = succeeds(of_splits, [&] { deal_out(found, options, folder, data.notes); });
  const Extent canvas = image_size(folder, options);
  Oddities oddities;
  assign(found, options, data);
  PngReaders readers(std::ssize(found.patches), options);
  for (std::size_t s = 0; s < split_count; ++s) {
    if (!options.wanted()[s]) continue;
    Images& images = *splits_of(data)[s];
    if (dealt) succeeds(of_splits, [&] { require_two_classes(images, s, found, folder); });
    images.shape = {static_cast<int>(images.ids.size()), canvas.h, canvas.w, 3};
    std::mutex mutex;
    std::map<std::size_t, Error> broken;
    readers.read(
        folder, images.ids, canvas, fmt::format("reading {}", split_names[s]),
        [&](std::size_t, const PngImage& png) { oddities.count(png, canvas); },
        [&](std::size_t i, const Error& error) {
          const std::lock_guard lock(mutex);
          broken.emplace(i, error);
        });
    for (const auto& [i, error] : broken) problems.push_back(error);
  }
  add_notes(oddities, canvas, data.notes);
  return data;
}

Inspection inspect(const fs::path& folder, const LoadOptions& options) {
  Inspection found;
  Found all = find_patches(folder, options, found.notes);
  std::vector<Error> not_dealt;
  if (!succeeds(not_dealt, [&] { deal_out(all, options, folder, found.notes); }))
    found.notes.push_back(
        fmt::format("nothing could be dealt ({}): what no folder puts into a split is in train", not_dealt[0].what()));
  std::vector<std::string> paths;
  for (const Patch& patch : all.patches) {
    found.images.push_back({.split = patch.split, .label = patch.label, .id = patch.path, .group = patch.patient});
    paths.push_back(patch.path);
  }
  PngReaders readers(std::ssize(paths), options);
  readers.read(folder, paths, largest_image, "reading patches",
               [&](std::size_t i, const PngImage& png) { found.images[i].look_at(png.size, png.pixels); });
  return found;
}

}  // namespace

namespace format {

extern const Format idc{.name = "idc",
                        .layout = "IDC's tree (PATIENT/0/*.png, PATIENT/1/*.png; also SPLIT/0/*.png, SPLIT/1/*.png)",
                        .groups = "patients",
                        .groups_unknown = "neither folders nor file names say them",
                        .files_remark = "",
                        .synthetic = "IDC's tree of 50x50 PNG files",
                        .recognise = recognise,
                        .image_size = image_size,
                        .count = count,
                        .load = load,
                        .verify = verify,
                        .inspect = inspect,
                        .synthesize = synthesize_idc};

}  // namespace format

}  // namespace microtome
