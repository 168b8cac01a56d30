#include "data/split.h"

#include "engine/check.h"
#include "engine/random.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

struct Word {
  std::string_view text;
  SplitWord says;
};

constexpr std::size_t training = 0, validation = 1, testing = 2;  // of split_names

constexpr Word split_words[] = {
    {"train", {training}},
    {"training", {training}},
    {"trn", {training}},
    {"trainval", {training}},
    {"tr", {training, false}},
    {"valid", {validation}},
    {"validation", {validation}},
    {"validate", {validation}},
    {"validating", {validation}},
    {"val", {validation}},
    {"vali", {validation}},
    {"vld", {validation}},
    {"dev", {validation}},
    {"devel", {validation}},
    {"development", {validation}},
    {"tune", {validation}},
    {"tuning", {validation}},
    {"va", {validation, false}},
    {"vl", {validation, false}},
    {"test", {testing}},
    {"testing", {testing}},
    {"tests", {testing}},
    {"tst", {testing}},
    {"holdout", {testing}},
    {"heldout", {testing}},
    {"te", {testing, false}},
    {"ts", {testing, false}},
    {"eval", {testing, true, true}},
    {"evaluation", {testing, true, true}},
    {"evaluate", {testing, true, true}},
};

constexpr std::string_view fillers[] = {"set",  "sets",  "data",    "dataset", "datasets", "image", "images", "img",
                                        "imgs", "patch", "patches", "tile",    "tiles",    "split", "splits", "folder",
                                        "dir",  "png",   "pngs",    "sample",  "samples",  "x",     "idc",    "the"};

bool is_filler_word(std::string_view word) {
  return std::ranges::find(fillers, word) != std::end(fillers);
}

/// "01_IDCTrain-set" as 01, idc, train, set.
std::vector<std::string> words_in(std::string_view name) {
  const auto is = [&](std::size_t i, int (*kind)(int)) { return i < name.size() && kind(static_cast<unsigned char>(name[i])); };
  std::vector<std::string> found;
  int before = 0;  // 1 a letter, 2 a digit
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto byte = static_cast<unsigned char>(name[i]);
    const int kind = std::isdigit(byte) ? 2 : std::isalpha(byte) || byte >= 0x80 ? 1 : 0;
    const bool capital = i > 0 && is(i, std::isupper) && (is(i - 1, std::islower) || is(i + 1, std::islower));
    if (kind != 0 && (kind != before || capital)) found.emplace_back();
    if (kind != 0) found.back() += static_cast<char>(std::tolower(byte));
    before = kind;
  }
  return found;
}

bool is_number(const std::string& word) {
  return std::isdigit(static_cast<unsigned char>(word[0])) != 0;
}

/// The 01 in front of a name.
bool is_ordinal(const std::string& word) {
  return is_number(word) && word.size() <= 2;
}

/// "trainset" as "train".
std::string_view without_filler(std::string_view word) {
  for (const std::string_view filler : {"set", "data", "dataset", "images", "patches"}) {
    if (word.size() > filler.size() + 1 && word.ends_with(filler)) word.remove_suffix(filler.size());
  }
  return word;
}

/// "a, b, c and 4 more"
std::string listed(const std::set<std::string>& names) {
  constexpr std::size_t shown = 5;
  std::string text;
  std::size_t i = 0;
  for (const std::string& name : names) {
    if (i++ == shown) break;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  }
  return text + (names.size() > shown ? fmt::format(" and {} more", names.size() - shown) : "");
}

std::string joined(const Parts& parts, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += (i == 0 ? "" : "/") + parts[i];
  return text;
}

/// What stands around a split's word in a folder's name: "idc" and "small" in "01_IDC-train70_small".
using Frame = std::pair<std::string, std::string>;

/// Each way to read a name as a split's word in a frame. An ordinal and a number right behind the word do not count.
std::map<Frame, SplitWord> framed(std::string_view name) {
  std::string text;
  for (const std::string& word : words_in(name)) {
    if (!text.empty() || !is_ordinal(word)) text += word;
  }
  std::map<Frame, SplitWord> found;
  for (const Word& word : split_words) {
    if (!word.says.sure) continue;
    for (std::size_t at = text.find(word.text); at != text.npos; at = text.find(word.text, at + 1)) {
      const std::string_view behind = std::string_view(text).substr(at + word.text.size());
      const std::size_t letter = std::min(behind.find_first_not_of("0123456789"), behind.size());
      found.emplace(Frame(text.substr(0, at), behind.substr(letter)), word.says);
    }
  }
  return found;
}

/// Of folders side by side, those whose names are alike but for a split's word, with two splits or more among them:
/// "train_small", "val_small".
std::map<std::string, SplitWord> alike_but_for_the_split(const std::set<std::string>& names) {
  std::map<Frame, std::map<std::string, SplitWord>> by_frame;
  for (const std::string& name : names) {
    for (const auto& [frame, word] : framed(name)) by_frame[frame].emplace(name, word);
  }
  std::map<std::string, SplitWord> most;
  for (const auto& [frame, members] : by_frame) {
    const std::size_t first = members.begin()->second.split;
    const bool one = std::ranges::all_of(members, [&](const auto& member) { return member.second.split == first; });
    if (!one && members.size() > most.size()) most = members;
  }
  return most;
}

/// What a folder's name says that it may be, where it is not taken for a split's.
struct Hint {
  std::optional<std::size_t> split;  // "8863_test"
  bool fold = false;                 // "fold3"
  bool any = false;                  // these, or letters of them: "idctest"
};

Hint hint_in(std::string_view name) {
  Hint hint;
  for (const std::string& word : words_in(name)) {
    hint.fold |= word == "fold" || word == "folds" || word == "kfold";
    const auto found = std::ranges::find_if(split_words, [&](const Word& each) {
      return each.says.sure && (each.text == word || each.text == without_filler(word));
    });
    if (found != std::end(split_words)) hint.split = found->says.split;
    for (const std::string_view part : {"train", "valid", "test", "fold"}) hint.any |= word.find(part) != word.npos;
  }
  hint.any |= hint.split.has_value();
  return hint;
}

/// Folders side by side, none of which is taken for a split's, may yet be meant to be.
void require_no_hint_of_splits(const std::map<std::string, std::set<std::string>>& beside, const fs::path& root) {
  for (const auto& [parent, names] : beside) {
    std::set<std::size_t> splits;
    std::set<std::string> said, folds;
    for (const std::string& name : names) {
      const Hint hint = hint_in(name);
      if (hint.split) splits.insert(*hint.split), said.insert(name);
      if (hint.fold) folds.insert(name);
    }
    const std::string where = (parent.empty() ? root : root / parent).string();
    constexpr const char* expected = "train, valid and test, or names that agree but for these words; or patients' folders";
    if (folds.size() > 1) {
      fail(ExitCode::data, "folds are no splits: which of them tests is not said",
           {.where = where,
            .expected = expected,
            .found = listed(folds),
            .next = "a folder for each split, with links to the folders of its folds"});
    }
    if (splits.size() > 1) {
      fail(ExitCode::data, "folders' names hold the words of splits, and their other words do not agree",
           {.where = where,
            .expected = expected,
            .found = listed(said),
            .next = "rename them: to the splits' names where they are splits, without these words where they are patients"});
    }
  }
}

/// Says of which folders, patients' or above these, it may be asked whether they are splits.
void note_hints(std::span<const Parts> folders, const SplitFolders& splits,
                const std::function<bool(std::string_view)>& is_class, std::vector<std::string>& notes) {
  std::set<std::string> names;
  for (std::size_t f = 0; f < folders.size(); ++f) {
    const auto& found = splits.found[f];
    for (std::size_t i = found ? found->at + 1 : 0; i < folders[f].size(); ++i) {
      const std::string& part = folders[f][i];
      if (!is_class(part) && !split_word(part) && !(found && part == folders[f][found->at]) && hint_in(part).any)
        names.insert(part);
    }
  }
  if (!names.empty())
    notes.push_back(fmt::format("taken for no splits, though a split's word or \"fold\" is in their names: {}", listed(names)));
}

/// 0 … count - 1 in an order that depends on seed and `stream` alone.
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed, std::uint64_t stream) {
  std::vector<std::pair<std::uint64_t, std::size_t>> keyed(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::array<std::uint32_t, 4> words = philox(seed, stream, i);
    keyed[i] = {(std::uint64_t{words[0]} << 32) | words[1], i};
  }
  std::ranges::sort(keyed);
  std::vector<std::size_t> order(count);
  std::ranges::transform(keyed, order.begin(), &std::pair<std::uint64_t, std::size_t>::second);
  return order;
}

/// Of what is dealt; 0 for splits that are no target.
std::array<double, split_count> shares(std::span<const std::size_t> targets, const LoadOptions& options) {
  const std::array<double, split_count> whole{0, options.valid_share, options.test_share};
  std::array<double, split_count> share{1, 0, 0};
  for (const std::size_t s : targets) {
    if (s == training) continue;
    share[s] = whole[s];
    share[training] -= whole[s];
  }
  require(std::ranges::all_of(targets, [&](std::size_t s) { return share[s] > 0 && share[s] < 1; }),
          "every split needs a share between 0 and 1");
  return share;
}

/// By patient, patches of either class.
using PatientCounts = std::map<std::string, std::array<double, 2>>;

PatientCounts count_patients(std::span<Patch* const> patches, const fs::path& root) {
  PatientCounts counts;
  for (const Patch* patch : patches) {
    if (patch->patient.empty()) {
      fail(ExitCode::data, "patients are not known, so that they cannot be kept apart",
           {.where = (root / patch->path).string(),
            .expected = "the patient as its folder, or in its name: PATIENT_idx5_xX_yY_classC.png",
            .found = "neither",
            .next = "make a folder for every split, or --split-by patch"});
    }
    ++counts[patch->patient][patch->label];
  }
  return counts;
}

/// Patients in random order, each to the split that lacks most of what the patient has, class by class [Sechidis2011]: shares
/// of patches and of classes both come out about right, and no patient is in two splits.
void split_by_patient(std::span<Patch* const> patches, const PatientCounts& counts, std::span<const std::size_t> targets,
                      const LoadOptions& options, const fs::path& root, std::vector<std::string>& notes) {
  if (counts.size() < targets.size()) {
    fail(ExitCode::data, "too few patients to keep them apart",
         {.where = root.string(),
          .expected = fmt::format("{} patients or more", targets.size()),
          .found = fmt::format("{}", counts.size()),
          .next = "add patients, or --split-by patch; to judge weights on all of them: evaluate --split all"});
  }
  std::array<double, 2> total{};
  for (const auto& [name, has] : counts) total[0] += has[0], total[1] += has[1];

  const std::array<double, split_count> share = shares(targets, options);
  std::array<std::array<double, 2>, split_count> lacking{};
  for (const std::size_t s : targets) {
    for (std::size_t c = 0; c < 2; ++c) lacking[s][c] = 1;  // of what it should have
  }
  std::vector<const std::pair<const std::string, std::array<double, 2>>*> patients;
  for (const auto& patient : counts) patients.push_back(&patient);
  std::map<std::string_view, std::size_t> split_of;
  std::array<int, split_count> sizes{};
  for (const std::size_t i : shuffled(patients.size(), options.seed, stream::split)) {
    const auto& [name, has] = *patients[i];
    const auto gain = [&, &has = has](std::size_t s) {
      double sum = 0;
      for (std::size_t c = 0; c < 2; ++c) sum += total[c] > 0 ? has[c] / total[c] * lacking[s][c] : 0;
      return sum;
    };
    const std::size_t best = *std::ranges::max_element(targets, {}, gain);
    for (std::size_t c = 0; c < 2; ++c) lacking[best][c] -= total[c] > 0 ? has[c] / (share[best] * total[c]) : 0;
    split_of[name] = best;
    ++sizes[best];
  }
  for (Patch* patch : patches) patch->split = split_of.at(patch->patient);
  std::string dealt;
  constexpr std::array<const char*, split_count> verbs{"train", "validate", "test"};
  for (const std::size_t s : targets)
    dealt += fmt::format("{}{} {}to {}", dealt.empty() ? "" : ", ", sizes[s], s == training ? "patients " : "", verbs[s]);
  notes.push_back(fmt::format("split by patient with seed {}: {}", options.seed, dealt));
}

void split_by_patch(std::span<Patch* const> patches, std::span<const std::size_t> targets, const LoadOptions& options,
                    std::vector<std::string>& notes) {
  const std::array<double, split_count> share = shares(targets, options);
  for (std::uint64_t label = 0; label < 2; ++label) {
    std::vector<Patch*> members;
    for (Patch* patch : patches) {
      if (patch->label == label) members.push_back(patch);
    }
    const auto part = [&](std::size_t s) -> std::size_t {
      return share[s] > 0 ? std::max<std::size_t>(1, std::llround(share[s] * static_cast<double>(members.size()))) : 0;
    };
    const std::size_t tests = part(testing), tests_and_valids = tests + part(validation);
    const std::vector<std::size_t> order = shuffled(members.size(), options.seed, stream::split + 1 + label);
    for (std::size_t i = 0; i < order.size(); ++i)
      members[order[i]]->split = i < tests ? testing : i < tests_and_valids ? validation : training;
  }
  notes.push_back(fmt::format("split by patch with seed {}: patches of one patient are in several splits", options.seed));
}

}  // namespace

std::optional<SplitWord> split_word(std::string_view folder) {
  const std::vector<std::string> all = words_in(folder);
  std::string rest;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t year = 4;  // digits
    const bool says_nothing = i == 0 ? is_ordinal(all[i]) : is_number(all[i]) && all[i].size() == year;
    if (!says_nothing && !is_filler_word(all[i])) rest += all[i];
  }
  const auto found = std::ranges::find_if(
      split_words, [&](const Word& word) { return word.text == rest || word.text == without_filler(rest); });
  if (found == std::end(split_words)) return {};
  return found->says;
}

std::optional<std::size_t> split_hint(std::string_view folder) {
  return hint_in(folder).split;
}

bool is_filler(std::string_view folder) {
  const std::vector<std::string> all = words_in(folder);
  return std::ranges::all_of(all, is_filler_word);
}

bool SplitFolders::any() const {
  return std::ranges::any_of(names, [](const std::string& name) { return !name.empty(); });
}

SplitFolders find_split_folders(std::span<const Parts> folders, const std::function<bool(std::string_view)>& is_class,
                                const fs::path& root, std::vector<std::string>& notes) {
  struct Candidate {
    std::size_t at;
    SplitWord word;
    std::string parent;  // without classes
  };
  std::map<std::string, std::set<std::string>> beside;  // by parent
  for (const Parts& parts : folders) {
    std::string parent;
    for (const std::string& part : parts) {
      if (is_class(part)) continue;
      beside[parent].insert(part);
      parent += (parent.empty() ? "" : "/") + part;
    }
  }
  std::map<std::string, std::map<std::string, SplitWord>> alike;
  for (const auto& [parent, names] : beside) alike[parent] = alike_but_for_the_split(names);
  std::vector<std::vector<Candidate>> candidates(folders.size());
  std::set<std::size_t> said;
  std::set<std::string> with, without;
  for (std::size_t f = 0; f < folders.size(); ++f) {
    std::string parent;
    for (std::size_t i = 0; i < folders[f].size(); ++i) {
      const std::string& part = folders[f][i];
      std::optional<SplitWord> word = split_word(part);
      if (const auto at = alike[parent].find(part); !word && at != alike[parent].end()) word = at->second;
      if (word) {
        candidates[f].push_back({i, *word, parent});
        if (!word->either) said.insert(word->split);
      }
      if (!is_class(part)) parent += (parent.empty() ? "" : "/") + part;
    }
    if (candidates[f].empty()) without.insert(parent);
  }
  SplitFolders result{.found = std::vector<std::optional<SplitFolders::Found>>(folders.size()), .names = {}};
  bool sure = false;
  for (std::size_t f = 0; f < folders.size(); ++f) {
    for (Candidate& candidate : candidates[f]) {
      if (candidate.word.either && said.contains(testing) && !said.contains(validation)) candidate.word.split = validation;
      sure |= candidate.word.sure;
    }
    if (!candidates[f].empty()) with.insert(joined(folders[f], candidates[f][0].at + 1));
  }
  if (with.empty() || (!without.empty() && !sure)) {
    require_no_hint_of_splits(beside, root);
    if (!with.empty())
      notes.push_back(fmt::format("taken for patients and not for splits, as others beside them are: {}", listed(with)));
    note_hints(folders, result, is_class, notes);
    return result;
  }
  if (!without.empty()) {
    fail(ExitCode::data, "some images lie in split folders and others do not",
         {.where = root.string(),
          .expected = fmt::format("all of them below {}", listed(with)),
          .found = fmt::format("images in {} too", listed(without)),
          .next = "move those into a split's folder or out of the data set; or rename the folder, where it is no split"});
  }

  // Of "test_data/train" and "test_data/test" the inner folder says the split: there are several side by side.
  std::map<std::string, std::set<std::size_t>> side_by_side;
  for (const std::vector<Candidate>& each : candidates) {
    for (const Candidate& candidate : each) side_by_side[candidate.parent].insert(candidate.word.split);
  }
  std::set<std::string> parents;
  for (std::size_t f = 0; f < folders.size(); ++f) {
    std::vector<Candidate>& each = candidates[f];
    const auto alone = [&](const Candidate& c) { return side_by_side[c.parent].size() < 2; };
    if (!std::ranges::all_of(each, alone)) std::erase_if(each, alone);
    if (std::ranges::any_of(each, [&](const Candidate& c) { return c.word.split != each[0].word.split; })) {
      fail(ExitCode::data, "a folder's path says two splits",
           {.where = (root / joined(folders[f], folders[f].size())).string(), .next = "rename one of its folders, or move it"});
    }
    const auto& [at, word, parent] = each[0];
    const std::string& name = folders[f][at];
    std::string& known = result.names[word.split];
    if (known.empty()) known = name;
    if (known != name) {
      fail(ExitCode::data, fmt::format("two folders are for one split, {}", split_names[word.split]),
           {.where = root.string(),
            .expected = "one folder a split",
            .found = fmt::format("{} and {}", known, name),
            .next = "put them together, or take one out of the data set"});
    }
    parents.insert(parent);
    result.found[f] = {at, word.split};
  }
  if (parents.size() > 1) {
    std::set<std::string> places;
    for (const std::string& parent : parents) places.insert(parent.empty() ? "." : parent);
    fail(ExitCode::data, "split folders are in several places",
         {.where = root.string(),
          .expected = "one folder for each split, side by side",
          .found = fmt::format("split folders in {}", listed(places)),
          .next = "name one of these with --data"});
  }
  note_hints(folders, result, is_class, notes);
  return result;
}

bool deal(std::vector<Patch>& patches, std::span<const std::size_t> targets, const LoadOptions& options, const fs::path& root,
          std::vector<std::string>& notes) {
  std::vector<Patch*> dealt;
  for (Patch& patch : patches) {
    if (patch.split == training) dealt.push_back(&patch);
  }
  if (options.split_by == SplitBy::patch) {
    split_by_patch(dealt, targets, options, notes);
    return true;
  }
  const PatientCounts counts = count_patients(dealt, root);
  const std::size_t judged = options.valid ? validation : testing;
  if (counts.size() < targets.size() && targets.size() == split_count && !options.train && options.wanted()[judged]) {
    for (Patch* patch : dealt) patch->split = judged;
    notes.push_back(fmt::format("{} too few to be dealt: all patches are in {}",
                                counts.size() == 1 ? "1 patient is" : fmt::format("{} patients are", counts.size()),
                                split_names[judged]));
    return false;
  }
  split_by_patient(dealt, counts, targets, options, root, notes);
  return true;
}

}  // namespace microtome
