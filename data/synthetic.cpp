#include "data/synthetic.h"

#include "data/file.h"
#include "data/lock.h"
#include "data/parallel.h"
#include "data/pcam.h"
#include "data/png.h"
#include "data/tree.h"
#include "engine/check.h"
#include "engine/random.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <numbers>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr int pcam_side = 96, idc_side = 50;

/// What numbers are drawn for; each has its own stream.
enum class Use : std::uint64_t { pcam_patch, idc_patch, slide, label, patient };

/// Numbers one after another for one subject: a patch, a slide, a patient.
class Draws {
 public:
  Draws(std::uint64_t seed, Use use, std::uint64_t subject)
      : seed_(seed), stream_(stream::synthetic + static_cast<std::uint64_t>(use)), index_(subject << 24) {}

  float uniform() { return unit_float(word()); }
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  int integer(int count) { return static_cast<int>(uniform() * static_cast<float>(count)); }
  bool chance(float probability) { return uniform() < probability; }
  /// Near enough to normal for tissue, and free of outliers: the sum of four bytes.
  float normal(float mean, float deviation) {
    constexpr float middle = 510, spread = 147.8f;  // 4 * 255 / 2; sqrt(4 * (256^2 - 1) / 12)
    const std::uint32_t w = word();
    return mean + deviation * (static_cast<float>((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24)) - middle) / spread;
  }

 private:
  std::uint32_t word() {
    if (left_ == 0) words_ = philox(seed_, stream_, index_++), left_ = 4;
    return words_[--left_];
  }

  std::uint64_t seed_, stream_, index_;
  std::array<std::uint32_t, 4> words_{};
  int left_ = 0;
};

class Field {
 public:
  explicit Field(int side, float value = 0)
      : side_(side), values_(static_cast<std::size_t>(side) * static_cast<std::size_t>(side), value) {}
  float& at(int y, int x) {
    return values_[static_cast<std::size_t>(y) * static_cast<std::size_t>(side_) + static_cast<std::size_t>(x)];
  }
  float at(int y, int x) const { return const_cast<Field*>(this)->at(y, x); }
  int side() const { return side_; }

 private:
  int side_;
  std::vector<float> values_;
};

/// Value noise in about [-1, 1]: octaves from `cell` pixels down, each half as strong, stretched along a direction.
Field noise(Draws& draws, int side, float cell, int octaves, float stretch = 1) {
  Field out(side);
  const float angle = draws.uniform(0, std::numbers::pi_v<float>), c = std::cos(angle), s = std::sin(angle);
  float strength = 1;
  for (int octave = 0; octave < octaves; ++octave, cell /= 2, strength /= 2) {
    // Turned by any angle, the patch stays within 1.5 sides of the lattice's middle.
    const int lattice_side = static_cast<int>(1.5f * static_cast<float>(side) / cell) + 4;
    Field lattice(lattice_side);
    for (int y = 0; y < lattice_side; ++y) {
      for (int x = 0; x < lattice_side; ++x) lattice.at(y, x) = draws.uniform(-1, 1);
    }
    const float middle = static_cast<float>(side) / 2, lattice_middle = static_cast<float>(lattice_side) / 2 - 0.5f;
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        const float dy = static_cast<float>(y) - middle, dx = static_cast<float>(x) - middle;
        const float v = std::clamp((c * dy - s * dx) / cell + lattice_middle, 0.0f, static_cast<float>(lattice_side) - 1.001f);
        const float u =
            std::clamp((s * dy + c * dx) / (cell * stretch) + lattice_middle, 0.0f, static_cast<float>(lattice_side) - 1.001f);
        const int iv = static_cast<int>(v), iu = static_cast<int>(u);
        float fv = v - static_cast<float>(iv), fu = u - static_cast<float>(iu);
        fv *= fv * (3 - 2 * fv), fu *= fu * (3 - 2 * fu);
        const float top = std::lerp(lattice.at(iv, iu), lattice.at(iv, iu + 1), fu);
        const float bottom = std::lerp(lattice.at(iv + 1, iu), lattice.at(iv + 1, iu + 1), fu);
        out.at(y, x) += strength * std::lerp(top, bottom, fv);
      }
    }
  }
  return out;
}

/// Optical densities of the two dyes in R G B [Ruifrok2001], different a little on every slide.
struct Stain {
  std::array<float, 3> haematoxylin, eosin;
  float light;
};

Stain stain_of(std::uint64_t seed, std::uint64_t slide) {
  Draws draws(seed, Use::slide, slide);
  const float blue = draws.uniform(0.75f, 1.4f), pink = draws.uniform(0.6f, 1.3f);
  const auto jitter = [&] { return draws.uniform(0.9f, 1.1f); };
  return {.haematoxylin = {0.65f * blue * jitter(), 0.70f * blue * jitter(), 0.29f * blue * jitter()},
          .eosin = {0.09f * pink * jitter(), 0.80f * pink * jitter(), 0.25f * pink * jitter()},
          .light = draws.uniform(236, 250)};
}

struct Nucleus {
  float y, x, radius;
  float aspect, angle, density, pallor;
  std::array<float, 3> even, odd;  // of the outline: cosines and sines of 2, 3 and 4 times the direction

  /// In radii, in the direction whose cosine and sine are given.
  float outline(float c, float s) const {
    float r = 1, ck = c, sk = s;
    for (std::size_t k = 0; k < even.size(); ++k) {
      const float next = ck * c - sk * s;
      sk = sk * c + ck * s;
      ck = next;
      r += even[k] * ck + odd[k] * sk;
    }
    return r;
  }
};

struct Box {
  float top, left, bottom, right;
  float area() const { return (bottom - top) * (right - left); }
  /// 0 inside.
  float distance(float y, float x) const {
    const float dy = std::max({top - y, 0.0f, y - bottom}), dx = std::max({left - x, 0.0f, x - right});
    return std::hypot(dy, dx);
  }
};

struct Sizes {
  float normal_radius, normal_spread, tumour_radius, tumour_spread;  // pixels
};

Nucleus nucleus(Draws& draws, const Sizes& sizes, bool tumour, float y, float x) {
  Nucleus n{.y = y, .x = x};
  const float mean = tumour ? sizes.tumour_radius : sizes.normal_radius,
              spread = tumour ? sizes.tumour_spread : sizes.normal_spread;
  n.radius = std::max(0.5f * mean, draws.normal(mean, spread));
  const bool spindle = !tumour && draws.chance(0.25f);  // of connective tissue
  n.aspect = spindle ? draws.uniform(1.6f, 2.4f) : draws.uniform(1, 1.35f);
  n.angle = draws.uniform(0, std::numbers::pi_v<float>);
  n.density = draws.uniform(0.8f, 1.2f);
  n.pallor = draws.uniform(0, 0.5f);
  const float irregular = tumour ? 0.13f : 0.04f;
  for (std::size_t k = 0; k < n.even.size(); ++k) {
    const float strength = draws.uniform(0, irregular), phase = draws.uniform(0, 2 * std::numbers::pi_v<float>);
    n.even[k] = strength * std::cos(phase);
    n.odd[k] = strength * std::sin(phase);
  }
  return n;
}

constexpr float crowding = 0.85f;  // nearest distance of two nuclei, in sums of their radii

bool is_free(const std::vector<Nucleus>& nuclei, const Nucleus& n) {
  return std::ranges::none_of(nuclei, [&](const Nucleus& other) {
    const float dy = other.y - n.y, dx = other.x - n.x, nearest = crowding * (other.radius + n.radius);
    return dy * dy + dx * dx < nearest * nearest;
  });
}

/// Fills `box` with nuclei until they cover `area`, the last one cut to what is left: how much is covered tells nothing of what
/// covers it. `is_tumour(y, x)` decides the kind, `may_be(nucleus)` the place.
template <class Kind, class Place>
void populate(Draws& draws, const Sizes& sizes, const Box& box, float area, Kind is_tumour, Place may_be,
              std::vector<Nucleus>& nuclei) {
  constexpr int tries = 400;
  for (int i = 0; i < tries && area > 1; ++i) {
    const float y = draws.uniform(box.top, box.bottom), x = draws.uniform(box.left, box.right);
    Nucleus n = nucleus(draws, sizes, is_tumour(y, x), y, x);
    const float covers = std::numbers::pi_v<float> * n.radius * n.radius;
    if (covers > area) n.radius *= std::sqrt(area / covers);
    if (!may_be(n) || !is_free(nuclei, n)) continue;
    area -= std::min(area, covers);
    nuclei.push_back(n);
  }
}

/// How much haematoxylin lies at each pixel: 1 in a nucleus of mean density. All is in proportion to the nucleus' size, its
/// soft outline too: as many nuclei as cover the same area give the same colours, whatever their sizes.
Field nuclear_density(Draws& draws, int side, const std::vector<Nucleus>& nuclei) {
  constexpr float softness = 0.35f;  // width of an outline, in radii
  constexpr float farthest = 1.6f;   // no outline reaches farther out, in radii
  Field out(side);
  const Field chromatin = noise(draws, side, 3, 2);
  for (const Nucleus& n : nuclei) {
    const float c = std::cos(n.angle), s = std::sin(n.angle), stretch = std::sqrt(n.aspect);
    const float reach = n.radius * farthest * stretch, soft = softness * n.radius;
    const int top = std::max(0, static_cast<int>(n.y - reach)), bottom = std::min(side - 1, static_cast<int>(n.y + reach) + 1);
    const int left = std::max(0, static_cast<int>(n.x - reach)), right = std::min(side - 1, static_cast<int>(n.x + reach) + 1);
    for (int y = top; y <= bottom; ++y) {
      for (int x = left; x <= right; ++x) {
        const float dy = static_cast<float>(y) - n.y, dx = static_cast<float>(x) - n.x;
        const float v = (c * dy - s * dx) * stretch, u = (s * dy + c * dx) / stretch;
        const float distance = std::max(1e-6f, std::sqrt(v * v + u * u));
        if (distance > farthest * n.radius) continue;
        const float edge = n.radius * n.outline(u / distance, v / distance);
        const float cover = std::clamp((edge - distance) / soft + 0.5f, 0.0f, 1.0f);
        if (cover <= 0) continue;
        const float out_of_middle = std::min(1.0f, distance / edge);
        const float shade = 1 + n.pallor * (out_of_middle * out_of_middle - 0.5f);
        const float amount = cover * n.density * (shade + 0.25f * chromatin.at(y, x));
        out.at(y, x) = std::max(out.at(y, x), amount);
      }
    }
  }
  return out;
}

/// Tissue around the nuclei, dyes to colours, the microscope's blur and the camera's noise.
void render(Draws& draws, const Stain& stain, int side, const std::vector<Nucleus>& nuclei, std::uint8_t* pixels) {
  const float scale = static_cast<float>(side) / 4;
  const Field tissue = noise(draws, side, scale, 4), fibres = noise(draws, side, scale / 4, 2, 5),
              gaps = noise(draws, side, scale * 1.3f, 2);
  const float fibrous = draws.uniform(0.05f, 0.3f), gap_level = draws.uniform(0.35f, 2),
              eosin_level = draws.uniform(0.3f, 0.55f);
  const Field nuclear = nuclear_density(draws, side, nuclei);
  const float haze = draws.uniform(0.05f, 0.15f), depth = draws.uniform(0.9f, 1.3f);

  std::array<Field, 3> colour{Field(side), Field(side), Field(side)};
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const float gap = std::clamp((gaps.at(y, x) - gap_level) * 6, 0.0f, 1.0f);
      const float h = haze * (1 - gap) + depth * nuclear.at(y, x);
      const float around = std::max(0.05f, eosin_level + 0.15f * tissue.at(y, x) + fibrous * fibres.at(y, x));
      const float e = around * (1 - 0.9f * gap) * (1 - 0.5f * std::min(1.0f, nuclear.at(y, x)));
      for (std::size_t c = 0; c < 3; ++c)
        colour[c].at(y, x) = stain.light * std::exp(-(h * stain.haematoxylin[c] + e * stain.eosin[c]));
    }
  }

  const float blur = draws.uniform(0.02f, 0.1f), camera = draws.uniform(2, 5);
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const int up = std::max(0, y - 1), down = std::min(side - 1, y + 1), left = std::max(0, x - 1),
                right = std::min(side - 1, x + 1);
      const float luma = camera * draws.normal(0, 1);
      for (std::size_t c = 0; c < 3; ++c) {
        const Field& f = colour[c];
        const float sharp = f.at(y, x), around = f.at(up, x) + f.at(down, x) + f.at(y, left) + f.at(y, right);
        const float value = (1 - 4 * blur) * sharp + blur * around + luma;
        *pixels++ = static_cast<std::uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f));
      }
    }
  }
}

/// Class 0 or 1 such that any 2k neighbours from an even index hold k of each.
bool balanced_label(std::uint64_t seed, std::uint64_t index) {
  const bool first = Draws(seed, Use::label, index / 2).chance(0.5f);
  return index % 2 == 0 ? first : !first;
}

/// Marks a folder as one whose data set is not whole, until finish(). The mark says what is being made: the same made again
/// writes the same files over those that are there.
class Claim {
 public:
  Claim(const fs::path& folder, std::string_view format, const SynthesizeOptions& options)
      : mark_(made(folder) / unfinished_name), lock_(mark_) {
    if (lock_.error() != 0) refuse_mark(lock_.error());
    if (!lock_.held())
      fail(ExitCode::in_use, "a data set is being written there already",
           {.where = folder.string(), .found = lock_.owner(), .next = lock_.remedy()});
    const std::string wanted = fmt::format("{} --train {} --valid {} --test {} --seed {}\n", format, options.train,
                                           options.valid, options.test, options.seed);
    const std::vector<std::string> names = names_in(folder);
    const bool alone = std::ranges::all_of(names, [](const std::string& name) { return name.starts_with(unfinished_name); });
    const std::string begun = alone ? "" : read_text(mark_, ExitCode::memory);
    if (begun == wanted) return;
    if (alone) {
      write(wanted);
      return;
    }
    if (begun.empty()) {
      std::error_code ignored;
      fs::remove(mark_, ignored);  // there was none
    }
    fail(ExitCode::in_use, "a data set is written into an empty folder only",
         {.where = folder.string(),
          .found = begun.empty() ? "files in it" : "one that was begun with: synthesize " + begun.substr(0, begun.find('\n')),
          .next = begun.empty() ? "name another folder, or empty this one"
                                : "the same options make it whole; for others name another folder, or empty this one"});
  }

  void finish() const {
    std::error_code failure;
    fs::remove(mark_, failure);
    if (failure) fail(ExitCode::memory, "a file cannot be removed", {.where = mark_.string(), .found = failure.message()});
  }

 private:
  static const fs::path& made(const fs::path& folder) {
    std::error_code failure;
    fs::create_directories(folder, failure);
    if (failure) {
      fail(ExitCode::memory, "a folder cannot be made",
           {.where = folder.string(),
            .found = failure.message(),
            .next = remedy(failure.value(), "name a folder that may be written")});
    }
    return folder;
  }

  /// Where it lies: it is locked, and another in its place would not be.
  void write(const std::string& text) const {
    FileOperations& call = file_operations();
    const int fd = call.open(mark_.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC, 0);
    if (fd < 0) refuse_mark(errno);
    errno = EIO;  // of a write that is cut short without one
    const bool synced = call.write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && call.fsync(fd) == 0;
    const int error = errno;
    if (call.close(fd) != 0 && synced) refuse_mark(errno);
    if (!synced) refuse_mark(error);
  }

  [[noreturn]] void refuse_mark(int error) const {
    fail(ExitCode::memory, "the mark of an unfinished data set could not be written",
         {.where = mark_.string(),
          .found = std::system_category().message(error),
          .next = remedy(error, "name a folder that may be written")});
  }

  fs::path mark_;
  FileLock lock_;
};

}  // namespace

void draw_pcam_patch(std::uint64_t seed, std::uint64_t index, std::uint64_t slide, bool tumour, std::uint8_t* pixels) {
  constexpr Sizes sizes{.normal_radius = 3.1f, .normal_spread = 0.5f, .tumour_radius = 5.0f, .tumour_spread = 0.8f};
  constexpr float side = pcam_side;
  constexpr Box whole{0, 0, side, side}, centre{32, 32, 64, 64};
  Draws draws(seed, Use::pcam_patch, index);
  std::vector<Nucleus> nuclei;

  const float share = draws.uniform(0.18f, 0.4f), in_tumour = draws.uniform(0.6f, 1);
  populate(
      draws, sizes, centre, share * centre.area() * in_tumour, [&](float, float) { return tumour; },
      [](const Nucleus&) { return true; }, nuclei);
  populate(
      draws, sizes, centre, share * centre.area() * (1 - in_tumour), [](float, float) { return false; },
      [](const Nucleus&) { return true; }, nuclei);

  // Around the centre: islands of tumour or none, whatever the label.
  struct Island {
    float y, x, radius;
  };
  std::vector<Island> islands(static_cast<std::size_t>(draws.integer(4)));
  for (Island& island : islands) island = {draws.uniform(0, side), draws.uniform(0, side), draws.uniform(10, 25)};
  const auto in_island = [&](float y, float x) {
    return std::ranges::any_of(islands, [&](const Island& i) { return std::hypot(y - i.y, x - i.x) < i.radius; });
  };
  const auto off_centre = [&](const Nucleus& n) { return centre.distance(n.y, n.x) > 1.6f * n.radius; };
  populate(draws, sizes, whole, draws.uniform(0.1f, 0.35f) * (whole.area() - centre.area()), in_island, off_centre, nuclei);
  render(draws, stain_of(seed, slide), pcam_side, nuclei, pixels);
}

void draw_idc_patch(std::uint64_t seed, std::uint64_t index, std::uint64_t slide, bool tumour, std::uint8_t* pixels) {
  constexpr Sizes sizes{.normal_radius = 2.5f, .normal_spread = 0.4f, .tumour_radius = 3.6f, .tumour_spread = 0.6f};
  constexpr Box whole{0, 0, idc_side, idc_side};
  Draws draws(seed, Use::idc_patch, index);
  std::vector<Nucleus> nuclei;
  const float area = draws.uniform(0.12f, 0.38f) * whole.area();
  const float share = tumour ? draws.uniform(0.5f, 1) : draws.uniform(0, 0.2f);
  const auto anywhere = [](const Nucleus&) { return true; };
  populate(
      draws, sizes, whole, area * share, [](float, float) { return true; }, anywhere, nuclei);
  populate(
      draws, sizes, whole, area * (1 - share), [](float, float) { return false; }, anywhere, nuclei);
  render(draws, stain_of(seed, slide), idc_side, nuclei, pixels);
}

void synthesize_pcam(const fs::path& folder, const SynthesizeOptions& options) {
  constexpr std::int64_t slide_patches = 64, piece = 1024;
  const Claim claim(folder, "pcam", options);
  std::uint64_t first = 0, first_slide = 0;  // of the split: no patch and no slide is in two
  const std::pair<std::string_view, std::int64_t> splits[] = {
      {"train", options.train}, {"valid", options.valid}, {"test", options.test}};
  for (const auto& [split, count] : splits) {
    if (count < 2 || count > INT32_MAX) {
      fail(ExitCode::usage, "every split needs both classes",
           {.where = fmt::format("split {}", split), .expected = "2 to 2147483647 patches", .found = fmt::format("{}", count)});
    }
    PcamWriter writer(folder, split, {static_cast<int>(count), pcam_side, pcam_side, 3});
    constexpr std::size_t patch = std::size_t{pcam_side} * pcam_side * 3;
    std::vector<std::uint8_t> pixels, labels;
    for (std::int64_t begin = 0; begin < count; begin += piece) {
      const std::int64_t now = std::min(piece, count - begin);
      pixels.resize(static_cast<std::size_t>(now) * patch);
      labels.resize(static_cast<std::size_t>(now));
      const auto draw = [&](std::int64_t i) {
        const std::uint64_t index = first + static_cast<std::uint64_t>(begin + i);
        const std::uint64_t slide = first_slide + static_cast<std::uint64_t>((begin + i) / slide_patches);
        const bool tumour = balanced_label(options.seed, index);
        labels[static_cast<std::size_t>(i)] = tumour;
        draw_pcam_patch(options.seed, index, slide, tumour, pixels.data() + static_cast<std::size_t>(i) * patch);
      };
      for_each_index(now, options.threads, draw, [&](std::int64_t done) {
        if (options.progress) options.progress(fmt::format("drawing {}", split), begin + done, count);
      });
      writer.append(pixels, labels);
    }
    writer.finish();
    first += static_cast<std::uint64_t>(count + count % 2);  // an even first index: the pairs of balanced_label
    first_slide += static_cast<std::uint64_t>((count + slide_patches - 1) / slide_patches);
  }
  claim.finish();
}

void synthesize_idc(const fs::path& folder, const SynthesizeOptions& options) {
  // [Janowczyk2016]: 279 patients.
  constexpr std::int64_t most_patients = 279, fewest_patients = 10, patches_a_patient = 60, fewest_patches = 4;
  constexpr int first_patient = 10001, columns = 40;
  constexpr float small_share = 0.01f;
  const std::int64_t total = options.train + options.valid + options.test;
  const std::int64_t patients = std::clamp(total / patches_a_patient, fewest_patients, most_patients);
  if (total < patients * fewest_patches) {
    fail(ExitCode::usage, "too few patches for patients to be kept apart",
         {.expected = fmt::format("{} or more in all", patients * fewest_patches), .found = fmt::format("{}", total)});
  }
  const Claim claim(folder, "idc", options);

  struct Patient {
    std::string name;
    std::int64_t first = 0, count = 0;
    float tumour_share = 0;
  };
  std::vector<Patient> all(static_cast<std::size_t>(patients));
  for (std::size_t p = 0; p < all.size(); ++p) {
    const std::int64_t begin = total * static_cast<std::int64_t>(p) / patients,
                       end = total * static_cast<std::int64_t>(p + 1) / patients;
    all[p] = {.name = fmt::format("{}", first_patient + p),
              .first = begin,
              .count = end - begin,
              .tumour_share = Draws(options.seed, Use::patient, p).uniform(0.1f, 0.5f)};
    for (const char* label : {"0", "1"}) fs::create_directories(folder / all[p].name / label);
  }

  const auto draw = [&](std::int64_t i) {
    const auto p = static_cast<std::size_t>(std::ranges::upper_bound(all, i, {}, &Patient::first) - all.begin() - 1);
    const Patient& patient = all[p];
    const std::int64_t within = i - patient.first;
    // Evenly through the patient, at least one of each class.
    const std::int64_t ones =
        std::clamp<std::int64_t>(std::lround(patient.tumour_share * static_cast<float>(patient.count)), 1, patient.count - 1);
    const bool tumour = (within + 1) * ones / patient.count > within * ones / patient.count;
    std::array<std::uint8_t, std::size_t{idc_side} * idc_side * 3> pixels;
    const auto index = static_cast<std::uint64_t>(i);
    draw_idc_patch(options.seed, index, p, tumour, pixels.data());

    Extent size = idc_side;
    Draws draws(options.seed, Use::label, index);
    if (draws.chance(small_share)) (draws.chance(0.5f) ? size.h : size.w) = 15 + draws.integer(idc_side - 15);
    std::vector<std::uint8_t> cut;
    for (int y = 0; y < size.h; ++y) {
      const auto row = pixels.begin() + y * idc_side * 3;
      cut.insert(cut.end(), row, row + size.w * 3);
    }
    const std::string name = fmt::format("{}_idx5_x{}_y{}_class{}.png", patient.name, 1 + idc_side * (within % columns + 1),
                                         1 + idc_side * (within / columns + 1), tumour ? 1 : 0);
    write_png(folder / patient.name / (tumour ? "1" : "0") / name, size, cut.data());
  };
  for_each_index(total, options.threads, draw, [&](std::int64_t done) {
    if (options.progress) options.progress("drawing patches", done, total);
  });
  claim.finish();
}

}  // namespace microtome
