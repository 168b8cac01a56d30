#include "data/pcam.h"

#include "data/checks.h"
#include "data/csv.h"
#include "data/digest.h"
#include "data/file.h"
#include "data/hdf5.h"
#include "data/patient.h"
#include "data/sandbox.h"
#include "data/synthetic.h"
#include "data/tree.h"
#include "engine/check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr hsize_t piece_bytes = 4 << 20;     // read at once, about
constexpr hsize_t largest_piece = 64 << 20;  // where one chunk spans that many images
constexpr std::string_view prefix = "camelyonpatch_level_2_split_";
constexpr const char* wanted_images = "uint8 (N, 96, 96, 3)";

/// The MD5 digests of what PCam's authors offer for download. Their own page prints those of valid beside test, and the other
/// way round.
constexpr std::array<std::pair<const char*, const char*>, 9> published_digests{
    {{"camelyonpatch_level_2_split_train_x.h5.gz", "1571f514728f59376b705fc836ff4b63"},
     {"camelyonpatch_level_2_split_train_y.h5.gz", "35c2d7259d906cfc8143347bb8e05be7"},
     {"camelyonpatch_level_2_split_train_meta.csv", "5a3dd671e465cfd74b5b822125e65b0a"},
     {"camelyonpatch_level_2_split_valid_x.h5.gz", "d5b63470df7cfa627aeec8b9dc0c066e"},
     {"camelyonpatch_level_2_split_valid_y.h5.gz", "2b85f58b927af9964a4c15b8f7e8f179"},
     {"camelyonpatch_level_2_split_valid_meta.csv", "67589e00a4a37ec317f2d1932c7502ca"},
     {"camelyonpatch_level_2_split_test_x.h5.gz", "d8c2d60d490dbd479f8199bdfa0cf6ec"},
     {"camelyonpatch_level_2_split_test_y.h5.gz", "60a7035772fbdb7f34eb86d4420cf66a"},
     {"camelyonpatch_level_2_split_test_meta.csv", "3455fd69135b66734e1008f3af684566"}}};

/// Says what a user can do about a file that is not there or still gzipped.
void require_file(const fs::path& file) {
  const fs::path packed = file.string() + ".gz";
  std::error_code failure, ignored;
  const fs::file_status status = fs::status(file, failure);
  if (!fs::exists(status)) {
    if (fs::exists(packed, ignored)) {
      fail(ExitCode::data, "a file is still gzipped",
           {.where = packed.string(), .expected = file.filename().string(), .next = fmt::format("gunzip {}", packed.string())});
    }
    if (fs::is_symlink(fs::symlink_status(file, ignored))) {
      fail(ExitCode::data, "a symbolic link leads nowhere",
           {.where = file.string(),
            .found = fmt::format("{}: {}", fs::read_symlink(file, ignored).string(), failure.message()),
            .next = "get what it leads to, or link to where that lies"});
    }
    fail(ExitCode::data, "a file is missing",
         {.where = file.string(),
          .found = status.type() == fs::file_type::not_found ? "" : failure.message(),
          .next = "get it from PCam's download page; all six belong into one folder"});
  }
  if (!fs::is_regular_file(status)) fail(ExitCode::data, "a file is no regular file", {.where = file.string()});
  if (first_bytes(file, 2, ExitCode::data) == "\x1f\x8b") {
    fail(ExitCode::data, "a file is still gzipped",
         {.where = file.string(),
          .expected = "an HDF5 file",
          .found = "a gzip file",
          .next = fmt::format("mv {0} {0}.gz && gunzip {0}.gz", file.string())});
  }
}

std::string place(const fs::path& file, std::string_view dataset) {
  return fmt::format("{}, dataset \"{}\"", file.string(), dataset);
}

/// In the child. The dataset, or a refusal that says what the file holds instead.
hdf5::Id open_named(const hdf5::Id& file, const fs::path& path, const char* name) {
  hdf5::Id dataset = hdf5::open_dataset(file, name, path.string());
  if (!dataset.valid()) {
    fail(ExitCode::data, "a dataset is missing",
         {.where = path.string(),
          .expected = fmt::format("a dataset \"{}\"", name),
          .found = hdf5::contents(file),
          .next = fmt::format("save it again under the name {}", name)});
  }
  return dataset;
}

void check_images(hid_t dataset, const std::string& where, std::string_view what) {
  const std::vector<hsize_t> shape = hdf5::shape_of(dataset);
  const hdf5::Id type(H5Dget_type(dataset));
  const bool bytes = hdf5::type_text(type) == "uint8";
  const bool channels_last = shape.size() == 4 && shape[3] == 3;
  const auto refuse = [&](const char* part, const char* next) {
    fail(ExitCode::data, fmt::format("{} have the wrong {}", what, part),
         {.where = where, .expected = wanted_images, .found = hdf5::describe(dataset), .next = next});
  };
  if (shape.size() == 4 && shape[1] == 3 && !channels_last) refuse("shape", "re-save it channels-last");
  if (!channels_last) refuse("shape", "re-save it as images x height x width x RGB");
  if (!bytes) refuse("type", "re-save it as uint8, 0 to 255");
  for (const hsize_t extent : shape) {
    if (extent == 0 || extent > INT_MAX) refuse("shape", "");
  }
}

/// Images a read takes: whole chunks, so that each is decompressed once.
hsize_t images_a_piece(hid_t dataset, const std::vector<hsize_t>& shape) {
  const hsize_t image = shape[1] * shape[2] * shape[3];
  const hsize_t most = std::max<hsize_t>(1, largest_piece / image);
  hsize_t count = std::max<hsize_t>(1, piece_bytes / image);
  const hdf5::Id creation(H5Dget_create_plist(dataset));
  hsize_t chunk[4] = {};
  if (H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, 4, chunk) == 4)
    count = (count + chunk[0] - 1) / chunk[0] * chunk[0];
  return std::min({count, most, shape[0]});
}

/// In the child: extents, then all pixels.
void send_images(const fs::path& path, std::string_view what, Sink& sink) {
  const hdf5::Id file = hdf5::open_untrusted(path);
  const hdf5::Id dataset = open_named(file, path, "x");
  check_images(dataset, place(path, "x"), what);
  const std::vector<hsize_t> shape = hdf5::shape_of(dataset);
  for (int axis = 0; axis < 3; ++axis) sink.put(static_cast<int>(shape[static_cast<std::size_t>(axis)]));

  const hsize_t step = images_a_piece(dataset, shape);
  const hdf5::Id in_file(H5Dget_space(dataset));
  std::vector<std::byte> pixels(step * shape[1] * shape[2] * shape[3]);
  for (hsize_t first = 0; first < shape[0]; first += step) {
    const hsize_t start[4] = {first, 0, 0, 0};
    const hsize_t count[4] = {std::min(step, shape[0] - first), shape[1], shape[2], shape[3]};
    const hdf5::Id in_memory(H5Screate_simple(4, count, nullptr));
    if (H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, nullptr, count, nullptr) < 0 ||
        H5Dread(dataset, H5T_NATIVE_UINT8, in_memory, in_file, H5P_DEFAULT, pixels.data()) < 0) {
      fail(ExitCode::data, fmt::format("{} cannot be read", what),
           {.where = place(path, "x"),
            .found = fmt::format("{}, at images {} to {}", hdf5::last_message(), first, first + count[0] - 1),
            .next =
                hdf5::last_remedy("the file is damaged or cut short: get it again, and compare its digest with the source's")});
    }
    sink.write(std::span(pixels).first(count[0] * shape[1] * shape[2] * shape[3]));
  }
}

/// In the child: how many, then all labels as 64-bit integers.
void send_labels(const fs::path& path, std::string_view what, Sink& sink) {
  const hdf5::Id file = hdf5::open_untrusted(path);
  const hdf5::Id dataset = open_named(file, path, "y");
  const std::string where = place(path, "y");
  const std::vector<hsize_t> shape = hdf5::shape_of(dataset);
  const hdf5::Id type(H5Dget_type(dataset));
  const auto refuse = [&](const char* part) {
    fail(ExitCode::data, fmt::format("{} have the wrong {}", what, part),
         {.where = where, .expected = "an integer type, (N, 1, 1, 1), (N, 1) or (N,)", .found = hdf5::describe(dataset)});
  };
  const bool one_a_row =
      !shape.empty() && std::all_of(shape.begin() + 1, shape.end(), [](hsize_t extent) { return extent == 1; });
  if (!one_a_row || shape.size() > 4 || shape[0] == 0 || shape[0] > INT_MAX) refuse("shape");
  // NumPy's booleans are an enumeration over int8.
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_INTEGER && kind != H5T_ENUM) refuse("type");
  std::vector<std::int64_t> labels(shape[0]);
  if (H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels.data()) < 0) {
    fail(ExitCode::data, fmt::format("{} cannot be read", what),
         {.where = where, .found = hdf5::last_message(), .next = hdf5::last_remedy("get the file again")});
  }
  sink.put(static_cast<int>(shape[0]));
  sink.write(std::as_bytes(std::span(labels)));
}

/// Where the next images' pixels are to go, of a dataset of `all`.
using Room = std::function<std::span<std::uint8_t>(const Shape& all, int first, int count)>;

/// Reads dataset "x" piece by piece; `filled` is called after each, with the images done.
Shape pour_images(const fs::path& path, std::string_view what, const Room& room,
                  const std::function<void(int done, int of)>& filled) {
  Shape shape;
  hdf5::start();
  read_in_child(
      {.where = path.string()}, [&](Sink& sink) { send_images(path, what, sink); },
      [&](Source& source) {
        shape.n = source.take<int>();
        shape.h = source.take<int>();
        shape.w = source.take<int>();
        shape.c = 3;
        const std::size_t image = static_cast<std::size_t>(shape.count() / shape.n);
        const int piece = static_cast<int>(std::max<std::size_t>(1, piece_bytes / image));
        for (int first = 0; first < shape.n; first += piece) {
          const int count = std::min(piece, shape.n - first);
          source.read(std::as_writable_bytes(room(shape, first, count)));
          if (filled) filled(first + count, shape.n);
        }
      });
  return shape;
}

Images read_images(const fs::path& path, std::string_view what, std::string_view doing, const Progress& progress) {
  Images images;
  const auto room = [&](const Shape& all, int first, int count) {
    if (first == 0) {
      require_memory(all.count(), path.string());
      images.pixels.resize(static_cast<std::size_t>(all.count()));
    }
    const std::size_t image = images.pixels.size() / static_cast<std::size_t>(all.n);
    return std::span(images.pixels).subspan(static_cast<std::size_t>(first) * image, static_cast<std::size_t>(count) * image);
  };
  images.shape = pour_images(path, what, room, [&](int done, int of) {
    if (progress) progress(doing, done, of);
  });
  return images;
}

void require_as_many(const Shape& images, std::size_t labels, std::string_view split, const fs::path& file) {
  if (static_cast<std::size_t>(images.n) == labels) return;
  fail(ExitCode::data, fmt::format("{} images and labels differ in number", adjective(split)),
       {.where = fmt::format("{} and {}", file.string(), pcam_file_name(split, 'y')),
        .expected = fmt::format("{} labels, one an image", images.n),
        .found = fmt::format("{} labels", labels),
        .next = "get both files again from the same source"});
}

}  // namespace

std::string pcam_file_name(std::string_view split, char what) {
  return fmt::format("{}{}_{}.h5", prefix, split, what);
}

std::string pcam_meta_name(std::string_view split) {
  return fmt::format("{}{}_meta.csv", prefix, split);
}

std::vector<std::uint8_t> read_labels(const fs::path& path, std::string_view split) {
  const std::string what = fmt::format("{} labels", adjective(split));
  std::vector<std::uint8_t> labels;
  hdf5::start();
  read_in_child(
      {.where = path.string()}, [&](Sink& sink) { send_labels(path, what, sink); },
      [&](Source& source) {
        std::vector<std::int64_t> values(static_cast<std::size_t>(source.take<int>()));
        source.read(std::as_writable_bytes(std::span(values)));
        const auto wrong = std::ranges::find_if(values, [](std::int64_t value) { return value != 0 && value != 1; });
        if (wrong != values.end()) {
          fail(ExitCode::data, fmt::format("{} are not all 0 or 1", what),
               {.where = fmt::format("{}, index {}", place(path, "y"), wrong - values.begin()),
                .expected = "0 or 1",
                .found = fmt::format("{}", *wrong)});
        }
        labels.assign(values.begin(), values.end());
      });
  return labels;
}

std::vector<std::string> read_slides(const fs::path& path, std::span<const std::uint8_t> labels,
                                     std::vector<std::string>& notes) {
  constexpr std::size_t largest_meta = 256 << 20;  // bytes; the published training split's is 17 MB
  const std::vector<std::byte> bytes = read_whole(path, ExitCode::data, largest_meta);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto next_line = [&text, at = std::size_t{0}]() mutable {
    const std::size_t begin = at, end = std::min(text.find('\n', begin), text.size());
    at = std::min(end + 1, text.size());
    return text.substr(begin, end - begin);
  };
  const std::string_view header = next_line();
  const std::vector<std::string> columns = csv_fields(header);
  const auto column = [&](std::initializer_list<std::string_view> names) {
    return static_cast<std::size_t>(std::ranges::find_first_of(columns, names) - columns.begin());
  };
  const std::size_t wsi = column({"wsi"}), center = column({"center_tumor_patch"}), index = column({"", "index", "Unnamed: 0"});
  const auto refuse = [&](const char* what, const std::string& where, const std::string& expected, std::string_view found) {
    fail(ExitCode::data, what,
         {.where = where,
          .expected = expected,
          .found = std::string(found.substr(0, 200)),
          .next = "get it again from PCam's download page, or take it out of the folder: slides are then not known"});
  };
  if (wsi == columns.size()) refuse("the patches' origins lack a column", path.string() + ", line 1", "a column wsi", header);
  std::vector<std::string> slides;
  std::int64_t others_labels = 0, others_places = 0;
  for (std::string_view line = next_line(); !line.empty(); line = next_line()) {
    const std::vector<std::string> fields = csv_fields(line);
    if (fields.size() != columns.size() || is_unknown(fields[wsi])) {
      refuse("a line of the patches' origins cannot be used", fmt::format("{}, line {}", path.string(), slides.size() + 2),
             fmt::format("{} fields, and a slide's name under wsi", columns.size()), line);
    }
    const std::size_t row = slides.size();
    if (center < columns.size() && row < labels.size())
      others_labels += (fields[center] == "True" || fields[center] == "1") != (labels[row] == 1);
    others_places += index < columns.size() && fields[index] != fmt::format("{}", row);
    slides.push_back(fields[wsi]);
  }
  if (slides.size() != labels.size()) {
    refuse("the patches' origins and the labels differ in number", path.string(),
           fmt::format("{} lines, one a label", labels.size()), fmt::format("{} lines", slides.size()));
  }
  const std::string file = path.filename().string();
  if (others_labels > 0)
    notes.push_back(fmt::format("{}: in {} of {} lines center_tumor_patch is not the label: slides may be other patches'", file,
                                others_labels, labels.size()));
  if (others_places > 0)
    notes.push_back(
        fmt::format("{}: its first column does not count the lines from 0 on; they are taken in the order in which "
                    "they stand, and slides may be other patches'",
                    file));
  return slides;
}

std::string published_pcam_name(std::string_view md5) {
  const auto found = std::ranges::find(published_digests, md5, [](const auto& pair) { return pair.second; });
  return found == published_digests.end() ? "" : found->first;
}

namespace {

/// Packed or unpacked.
bool recognise(const fs::path& folder) {
  return std::ranges::any_of(names_in(folder), [](const std::string& name) { return name.starts_with(prefix); });
}

/// One split's labels and, where they are known, slides; no image. Errors as load(), but for a missing class.
Images load_labels(const fs::path& folder, std::string_view split, std::vector<std::string>& notes) {
  require_file(folder / pcam_file_name(split, 'x'));
  require_file(folder / pcam_file_name(split, 'y'));
  Images images;
  images.labels = read_labels(folder / pcam_file_name(split, 'y'), split);
  const fs::path meta = folder / pcam_meta_name(split);
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(meta, ignored))) {
    require_file(meta);
    images.groups = read_slides(meta, images.labels, notes);
  }
  return images;
}

using VisitImage = std::function<void(int index, Extent size, std::span<const std::uint8_t> pixels)>;

/// Hands over one split's images in their order, H W 3 each, without holding more than a few; there must be `labels` of them.
void visit_images(const fs::path& folder, std::string_view split, std::size_t labels, const Progress& progress,
                  const VisitImage& visit) {
  const fs::path file = folder / pcam_file_name(split, 'x');
  std::vector<std::uint8_t> piece;
  Extent size = 0;
  const auto room = [&](const Shape& all, int first, int count) {
    if (first == 0) require_as_many(all, labels, split, file);
    size = {all.h, all.w};
    piece.resize(static_cast<std::size_t>(all.count() / all.n * count));
    return std::span(piece);
  };
  const std::string doing = fmt::format("reading {}", split);
  pour_images(file, fmt::format("{} images", adjective(split)), room, [&](int done, int of) {
    const std::size_t image = static_cast<std::size_t>(size.h * size.w * 3);
    const int count = static_cast<int>(piece.size() / image);
    for (int i = 0; i < count; ++i)
      visit(done - count + i, size, std::span(piece).subspan(static_cast<std::size_t>(i) * image, image));
    if (progress) progress(doing, done, of);
  });
}

void require_two_classes(const Images& images, std::string_view split, const fs::path& folder) {
  require_both_classes(images.labels, fmt::format("the {} split", adjective(split)),
                       (folder / pcam_file_name(split, 'y')).string(), "put images of both classes into every split");
}

void require_same_size(const Shape& first, std::string_view first_split, const Shape& images, const fs::path& file) {
  if (first.h == images.h && first.w == images.w) return;
  fail(ExitCode::data, "the splits' images differ in size",
       {.where = place(file, "x"),
        .expected = fmt::format("{} x {}, as in {}", first.h, first.w, first_split),
        .found = fmt::format("{} x {}", images.h, images.w)});
}

Extent image_size(const fs::path& folder, const LoadOptions&);

Dataset load(const fs::path& folder, const LoadOptions& options) {
  Dataset data{.split_by = "files"};
  struct Part {
    std::string_view name;
    bool wanted;
    Images& images;
  };
  const Part parts[] = {
      {"train", options.train, data.train}, {"valid", options.valid, data.valid}, {"test", options.test, data.test}};
  // Labels first: what is wrong with them should not wait for gigabytes.
  for (const Part& part : parts) {
    if (!part.wanted) continue;
    part.images = load_labels(folder, part.name, data.notes);
    require_two_classes(part.images, part.name, folder);
  }
  std::int64_t images = 0;
  for (const Part& part : parts) images += static_cast<std::int64_t>(part.images.labels.size());
  if (options.train) {
    const Extent size = image_size(folder, options);
    require_memory(images * size.h * size.w * 3, folder.string());
  }
  const Part* first = nullptr;
  for (const Part& part : parts) {
    if (!part.wanted) continue;
    const fs::path file = folder / pcam_file_name(part.name, 'x');
    Images read = read_images(file, fmt::format("{} images", adjective(part.name)), fmt::format("reading {}", part.name),
                              options.progress);
    require_as_many(read.shape, part.images.labels.size(), part.name, file);
    part.images.shape = read.shape;
    part.images.pixels = std::move(read.pixels);
    if (first == nullptr) first = &part;
    require_same_size(first->images.shape, first->name, part.images.shape, file);
  }
  return data;
}

Dataset verify(const fs::path& folder, const LoadOptions& options, std::vector<Error>& problems) {
  Dataset data;
  const std::array<Images*, split_count> splits{&data.train, &data.valid, &data.test};
  std::optional<std::size_t> first;  // split that could be read
  for (std::size_t s = 0; s < split_count; ++s) {
    if (!options.wanted()[s]) continue;
    const std::string_view split = split_names[s];
    const fs::path x = folder / pcam_file_name(split, 'x'), y = folder / pcam_file_name(split, 'y'),
                   meta = folder / pcam_meta_name(split);
    Images& images = *splits[s];
    const bool labelled = succeeds(problems, [&] {
      require_file(y);
      images.labels = read_labels(y, split);
    });
    std::error_code ignored;
    if (labelled && fs::exists(fs::symlink_status(meta, ignored))) {
      succeeds(problems, [&] {
        require_file(meta);
        images.groups = read_slides(meta, images.labels, data.notes);
      });
    }
    const bool read = succeeds(problems, [&] {
      require_file(x);
      std::vector<std::uint8_t> piece;
      const auto room = [&](const Shape& all, int, int count) {
        piece.resize(static_cast<std::size_t>(all.count() / all.n * count));
        return std::span(piece);
      };
      images.shape = pour_images(x, fmt::format("{} images", adjective(split)), room, [&](int done, int of) {
        if (options.progress) options.progress(fmt::format("reading {}", split), done, of);
      });
    });
    if (labelled) succeeds(problems, [&] { require_two_classes(images, split, folder); });
    if (labelled && read) succeeds(problems, [&] { require_as_many(images.shape, images.labels.size(), split, x); });
    if (!read) continue;
    if (!first) first = s;
    succeeds(problems, [&] { require_same_size(splits[*first]->shape, split_names[*first], images.shape, x); });
  }
  return data;
}

/// As the training split's header says it.
Extent image_size(const fs::path& folder, const LoadOptions&) {
  const fs::path path = folder / pcam_file_name("train", 'x');
  require_file(path);
  Extent size = 0;
  hdf5::start();
  read_in_child(
      {.where = path.string()},
      [&](Sink& sink) {
        const hdf5::Id file = hdf5::open_untrusted(path);
        const hdf5::Id dataset = open_named(file, path, "x");
        check_images(dataset, place(path, "x"), "training images");
        const std::vector<hsize_t> shape = hdf5::shape_of(dataset);
        sink.put(static_cast<int>(shape[1]));
        sink.put(static_cast<int>(shape[2]));
      },
      [&](Source& source) {
        size.h = source.take<int>();
        size.w = source.take<int>();
      });
  return size;
}

std::array<std::int64_t, split_count> count(const fs::path& folder, const LoadOptions& options) {
  std::array<std::int64_t, split_count> images{};
  for (std::size_t s = 0; s < split_count; ++s) {
    if (!options.wanted()[s]) continue;
    const fs::path file = folder / pcam_file_name(split_names[s], 'y');
    require_file(file);
    images[s] = static_cast<std::int64_t>(read_labels(file, split_names[s]).size());
  }
  return images;
}

std::vector<PublishedDigest> compare_digests(const fs::path& folder) {
  std::vector<PublishedDigest> files;
  for (const auto& [name, unused] : published_digests) {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) continue;
    const std::string digest = md5(folder / name);
    files.push_back({.name = name, .md5 = digest, .published_as = published_pcam_name(digest)});
  }
  return files;
}

bool any_unpacked(const fs::path& folder) {
  return std::ranges::any_of(split_names, [&](const char* split) {
    std::error_code ignored;
    return fs::exists(folder / pcam_file_name(split, 'x'), ignored) || fs::exists(folder / pcam_file_name(split, 'y'), ignored);
  });
}

Inspection inspect(const fs::path& folder, const LoadOptions& options) {
  Inspection found{.images = {}, .files = compare_digests(folder), .notes = {}};
  if (!found.files.empty() && !any_unpacked(folder)) return found;
  std::array<std::size_t, 3> begin{}, count{};
  for (std::size_t s = 0; s < split_names.size(); ++s) {
    const Images known = load_labels(folder, split_names[s], found.notes);
    begin[s] = found.images.size(), count[s] = known.labels.size();
    for (std::size_t i = 0; i < known.labels.size(); ++i) {
      found.images.push_back({.split = s,
                              .label = known.labels[i],
                              .id = fmt::format("{}", i),
                              .group = known.groups.empty() ? "" : known.groups[i]});
    }
  }
  for (std::size_t s = 0; s < split_names.size(); ++s) {
    visit_images(folder, split_names[s], count[s], options.progress,
                 [&](int i, Extent size, std::span<const std::uint8_t> rgb) {
                   found.images[begin[s] + static_cast<std::size_t>(i)].look_at(size, rgb);
                 });
  }
  return found;
}

}  // namespace

namespace format {

extern const Format pcam{.name = "pcam",
                         .layout = "PCam's six files (camelyonpatch_level_2_split_train_x.h5, …)",
                         .groups = "slides",
                         .groups_unknown = "the file _meta.csv is not in the folder",
                         .files_remark =
                             "by what is offered for download: PCam's own page prints the digests of valid and test "
                             "in each other's place",
                         .synthetic = "PCam's six HDF5 files of 96x96 patches",
                         .recognise = recognise,
                         .image_size = image_size,
                         .count = count,
                         .load = load,
                         .verify = verify,
                         .inspect = inspect,
                         .synthesize = synthesize_pcam};

}  // namespace format

Images load_hdf5_images(const fs::path& file, const LoadOptions& options) {
  require_file(file);
  return read_images(file, "images", "reading images", options.progress);
}

struct PcamWriter::Impl {
  fs::path folder;
  std::string split;
  Shape shape;
  hdf5::Id file, dataset;
  hsize_t done = 0;
  std::vector<std::uint8_t> labels;
  bool finished = false;

  ~Impl() {
    dataset = hdf5::Id();
    file = hdf5::Id();
    if (finished) return;
    std::error_code ignored;
    fs::remove(unfinished('x'), ignored);
    fs::remove(unfinished('y'), ignored);
  }

  fs::path name(char what) const { return folder / pcam_file_name(split, what); }
  fs::path unfinished(char what) const { return folder / fmt::format(".{}.part", pcam_file_name(split, what)); }
};

namespace {

[[noreturn]] void refuse_write(const fs::path& file, const std::string& found, int error = ENOSPC) {
  fail(ExitCode::memory, "an HDF5 file could not be written",
       {.where = file.string(), .found = found, .next = remedy(error, "name another folder")});
}

void publish(const fs::path& from, const fs::path& to) {
  const int fd = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!synced) refuse_write(to, std::system_category().message(error), error);
  std::error_code failure;
  fs::rename(from, to, failure);
  if (failure) refuse_write(to, failure.message(), failure.value());
}

}  // namespace

PcamWriter::PcamWriter(const fs::path& folder, std::string_view split, const Shape& shape)
    : impl_(new Impl{.folder = folder, .split = std::string(split), .shape = shape}) {
  require(shape.n > 0 && shape.c == 3, "pcam: cannot write ", to_string(shape));
  Impl& my = *impl_;
  const hsize_t extents[4] = {static_cast<hsize_t>(shape.n), static_cast<hsize_t>(shape.h), static_cast<hsize_t>(shape.w), 3};
  hdf5::writing(my.name('x'), [&] {
    my.file = hdf5::create_file(my.unfinished('x'));
    const hdf5::Id space(H5Screate_simple(4, extents, nullptr));
    my.dataset = hdf5::Id(H5Dcreate2(my.file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, hdf5::without_times(), H5P_DEFAULT));
    if (!my.dataset.valid()) refuse_write(my.name('x'), hdf5::last_message());
  });
}

PcamWriter::~PcamWriter() = default;

void PcamWriter::append(std::span<const std::uint8_t> pixels, std::span<const std::uint8_t> labels) {
  Impl& my = *impl_;
  const Shape& s = my.shape;
  const hsize_t count[4] = {labels.size(), static_cast<hsize_t>(s.h), static_cast<hsize_t>(s.w), 3};
  require(pixels.size() == count[0] * count[1] * count[2] * count[3] && my.done + count[0] <= static_cast<hsize_t>(s.n),
          "pcam: a piece of ", labels.size(), " images does not fit into ", to_string(s));
  const hsize_t start[4] = {my.done, 0, 0, 0};
  hdf5::writing(my.name('x'), [&] {
    const hdf5::Id in_file(H5Dget_space(my.dataset)), in_memory(H5Screate_simple(4, count, nullptr));
    if (H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, nullptr, count, nullptr) < 0 ||
        H5Dwrite(my.dataset, H5T_NATIVE_UINT8, in_memory, in_file, H5P_DEFAULT, pixels.data()) < 0) {
      refuse_write(my.name('x'), hdf5::last_message());
    }
  });
  my.labels.insert(my.labels.end(), labels.begin(), labels.end());
  my.done += count[0];
}

void PcamWriter::finish() {
  Impl& my = *impl_;
  require(my.done == static_cast<hsize_t>(my.shape.n), "pcam: ", my.done, " of ", my.shape.n, " images were written");
  hdf5::writing(my.name('x'), [&] {
    if (H5Fflush(my.file, H5F_SCOPE_GLOBAL) < 0) refuse_write(my.name('x'), hdf5::last_message());
  });
  hdf5::writing(my.name('y'), [&] {
    hdf5::Id file = hdf5::create_file(my.unfinished('y'));
    hdf5::write_dataset(file, "y", std::vector<hsize_t>{my.done, 1, 1, 1}, H5T_STD_U8LE, my.labels.data());
    if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) refuse_write(my.name('y'), hdf5::last_message());
    file.close();
  });
  hdf5::writing(my.name('x'), [&] {
    my.dataset.close();
    my.file.close();
  });
  publish(my.unfinished('x'), my.name('x'));
  publish(my.unfinished('y'), my.name('y'));
  my.finished = true;
}

}  // namespace microtome
