#include "data/hdf5.h"

#include "data/file.h"
#include "engine/host_memory.h"
#include "engine/vendor_call.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <system_error>

namespace microtome::hdf5 {

namespace {

constexpr std::size_t longest_attribute = 64512;  // HDF5_OBJECT_HEADER_LIMIT of Keras; an object header holds 64 KiB
constexpr hsize_t most_strings = 1 << 20;
constexpr std::size_t longest_strings = 64 << 20;
constexpr hsize_t best_compression = 1032;  // deflate's largest ratio

[[noreturn]] void refuse(const std::string& what, Report report) {
  fail(ExitCode::data, what, std::move(report));
}

void written(bool ok) {
  if (!ok) fail(ExitCode::memory, "an HDF5 file could not be written", {.found = last_message(), .next = last_remedy()});
}

Id written(hid_t id) {
  written(id >= 0);
  return Id(id);
}

std::string class_text(H5T_class_t type) {
  switch (type) {
    case H5T_STRING: return "strings";
    case H5T_COMPOUND: return "compound values";
    case H5T_ENUM: return "enumeration";
    case H5T_REFERENCE: return "references";
    case H5T_VLEN: return "variable-length values";
    case H5T_OPAQUE: return "opaque values";
    case H5T_ARRAY: return "arrays";
    default: return "values of an unknown type";
  }
}

void check_filters(hid_t creation, const std::string& where) {
  const int filters = H5Pget_nfilters(creation);
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0;
    size_t values = 0;
    char name[64] = {};
    const H5Z_filter_t filter =
        H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr, sizeof name - 1, name, nullptr);
    if (filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32) continue;
    refuse("a dataset is compressed in a way that is not read here",
           {.where = where,
            .expected = "gzip, shuffle, fletcher32 or none",
            .found = fmt::format("filter {} {}", static_cast<int>(filter), name),
            .next = "re-save it with gzip or uncompressed"});
  }
}

/// Many file systems lock nothing, and what somebody else has open can be read all the same. The variable
/// HDF5_USE_FILE_LOCKING has the last word.
Id without_locks() {
  Id access = written(H5Pcreate(H5P_FILE_ACCESS));
  written(H5Pset_file_locking(access, false, true) >= 0);
  return access;
}

/// A file can declare any shape; only what lies in it counts.
void check_storage(hid_t dataset, hid_t creation, const std::string& where) {
  const std::vector<hsize_t> shape = shape_of(dataset);
  const Id type(H5Dget_type(dataset));
  unsigned __int128 bytes = H5Tget_size(type);
  for (const hsize_t extent : shape) {
    bytes *= extent;
    if (bytes > std::numeric_limits<std::int64_t>::max())
      refuse("a dataset declares an impossible size", {.where = where, .found = describe(dataset)});
  }
  if (bytes == 0) return;
  const hsize_t stored = H5Dget_storage_size(dataset);
  const hsize_t most = H5Pget_layout(creation) == H5D_CHUNKED ? stored * best_compression : stored;
  bool whole = stored > 0 && bytes <= most;
  if (whole && H5Pget_layout(creation) == H5D_CHUNKED) {
    std::vector<hsize_t> chunk(shape.size());
    if (H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data()) < 0)
      refuse("a dataset cannot be read", {.where = where, .found = last_message(), .next = last_remedy()});
    hsize_t expected = 1, found = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) expected *= (shape[i] + chunk[i] - 1) / chunk[i];
    const Id space(H5Dget_space(dataset));
    whole = H5Dget_num_chunks(dataset, space, &found) >= 0 && found == expected;
  }
  if (!whole) {
    refuse("a dataset declares more than the file holds",
           {.where = where,
            .expected = describe(dataset),
            .found = fmt::format("{} bytes of data", stored),
            .next = "the file is cut short or was never finished: get it again, or write it again"});
  }
}

}  // namespace

/// No messages of the library's own, and nothing done when the program ends. Files are closed by then; one that could not be
/// written for want of room would be written again, and the library crash.
void start() {
  [[maybe_unused]] static const bool started = [] {
    const VendorCall call("libhdf5");
    H5dont_atexit();
    // Its driver of files is asked for too: a start that lacks memory goes on without.
    if (H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) < 0 || H5Iget_type(H5Pget_driver(H5P_FILE_ACCESS_DEFAULT)) != H5I_VFL)
      fail_memory("libhdf5 does not start", {.found = to_text(host_memory()), .next = "more memory"});
    return true;
  }();
}

Id::~Id() {
  close_nothrow();
}

bool Id::close_nothrow() {
  if (id_ < 0) return true;
  const hid_t id = std::exchange(id_, -1);
  switch (H5Iget_type(id)) {
    case H5I_FILE: return H5Fclose(id) >= 0;
    case H5I_GROUP: return H5Gclose(id) >= 0;
    case H5I_DATASET: return H5Dclose(id) >= 0;
    case H5I_DATASPACE: return H5Sclose(id) >= 0;
    case H5I_DATATYPE: return H5Tclose(id) >= 0;
    case H5I_ATTR: return H5Aclose(id) >= 0;
    case H5I_GENPROP_LST: return H5Pclose(id) >= 0;
    default: return true;
  }
}

void Id::close() {
  written(close_nothrow());
}

namespace {

/// As libhdf5 puts it; empty: it gives no reason. Throws std::bad_alloc where it lacked memory: the file need not be damaged.
std::string whole_message() {
  struct Reason {
    std::string text;
    bool memory = false;
  } reason;
  const auto keep_first = [](unsigned, const H5E_error2_t* error, void* to) -> herr_t {
    auto& [text, memory] = *static_cast<Reason*>(to);
    const std::string_view found = error->desc != nullptr ? error->desc : "";
    if (text.empty()) text = found;
    const bool no_space = error->min_num == H5E_NOSPACE_g || error->min_num == H5E_CANTALLOC_g;
    if ((error->maj_num == H5E_RESOURCE_g && no_space) || found.find("alloc") != found.npos) memory = true;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  if (reason.memory) throw std::bad_alloc();
  return reason.text;
}

/// The errno of the system call that failed, of which libhdf5 tells time, addresses and all; 0 where it was none.
int last_errno(const std::string& message) {
  constexpr std::string_view key = "errno = ";
  const std::size_t at = message.find(key);
  return at == message.npos ? 0 : std::max(0, std::atoi(message.c_str() + at + key.size()));
}

/// What could not be looked for is not missing.
bool exists(htri_t answer, const std::string& where) {
  if (answer < 0)
    refuse("an HDF5 file cannot be read",
           {.where = where, .found = last_message(), .next = last_remedy("where memory suffices, get the file again")});
  return answer > 0;
}

}  // namespace

std::string last_message() {
  const std::string message = whole_message();
  if (message.empty()) return "libhdf5 gives no reason";
  const int error = last_errno(message);
  return error != 0 ? std::system_category().message(error) : message;
}

std::string last_remedy(std::string otherwise) {
  return remedy(last_errno(whole_message()), std::move(otherwise));
}

std::string contents(hid_t file) {
  constexpr hsize_t shown = 6;
  H5G_info_t group;
  if (H5Gget_info(file, &group) < 0) return last_message();
  if (group.nlinks == 0) return "an HDF5 file with nothing in it";
  std::string text;
  for (hsize_t i = 0; i < std::min(group.nlinks, shown); ++i) {
    char name[128] = {};
    if (H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0) continue;
    H5L_info_t link;
    const bool hard = H5Lget_info(file, name, &link, H5P_DEFAULT) >= 0 && link.type == H5L_TYPE_HARD;
    const Id object(hard ? H5Oopen(file, name, H5P_DEFAULT) : H5I_INVALID_HID);
    const bool dataset = object.valid() && H5Iget_type(object) == H5I_DATASET;
    const bool is_group = object.valid() && H5Iget_type(object) == H5I_GROUP;
    text += fmt::format("{}\"{}\"{}", text.empty() ? "" : ", ", name,
                        dataset    ? fmt::format(" {}", describe(object))
                        : is_group ? " (a group)"
                                   : "");
  }
  if (group.nlinks > shown) text += fmt::format(" and {} more", group.nlinks - shown);
  return text;
}

Id open_untrusted(const std::filesystem::path& file) {
  start();
  H5PLset_loading_state(0);
  const Id access = without_locks();  // closed later: that would clear away why a file does not open
  Id id(H5Fopen(file.c_str(), H5F_ACC_RDONLY, access));
  if (!id.valid() && whole_message().find("unable to lock file") != std::string::npos) {
    refuse("an HDF5 file cannot be locked", {.where = file.string(),
                                             .found = fmt::format("{}; HDF5_USE_FILE_LOCKING asks for it", last_message()),
                                             .next = "HDF5_USE_FILE_LOCKING=FALSE: reading needs no lock"});
  }
  if (!id.valid()) {
    if (::access(file.c_str(), R_OK) != 0)
      refuse("a file cannot be read", {.where = file.string(), .found = std::system_category().message(errno)});
    if (const int error = last_errno(whole_message()); error != 0)
      refuse("a file cannot be read",
             {.where = file.string(), .found = std::system_category().message(error), .next = remedy(error)});
    constexpr std::string_view wanted = "an HDF5 file";
    const std::string kind = kind_of_file(file);
    const bool other = kind == "JSON" || kind.ends_with(" image");
    refuse(
        "a file is no HDF5 file, or is damaged or cut short",
        {.where = file.string(),
         .expected = std::string(wanted),
         .found = kind.empty() || kind == wanted ? last_message() : kind,
         .next = other ? "name the file that was meant" : "get it again, and compare its size and digest with the source's"});
  }
  return id;
}

Id open_object(hid_t group, std::string_view path, const std::string& where) {
  Id object;
  std::string so_far;
  for (std::size_t at = 0, end; at < path.size(); at = end + 1) {
    end = std::min(path.find('/', at), path.size());
    if (end == at) continue;
    if (object.valid() && H5Iget_type(object) != H5I_GROUP) return Id();
    const hid_t parent = object.valid() ? hid_t{object} : group;
    const std::string name(path.substr(at, end - at));
    so_far.append(so_far.empty() ? "" : "/").append(name);
    const std::string place = fmt::format("{}, \"{}\"", where, so_far);
    if (!exists(H5Lexists(parent, name.c_str(), H5P_DEFAULT), place)) return Id();
    H5L_info_t link;
    if (H5Lget_info(parent, name.c_str(), &link, H5P_DEFAULT) < 0)
      refuse("a link cannot be read", {.where = where, .found = last_message(), .next = last_remedy()});
    if (link.type != H5L_TYPE_HARD) {
      refuse("an HDF5 file points elsewhere", {.where = place,
                                               .expected = "the data itself",
                                               .found = link.type == H5L_TYPE_SOFT ? "a soft link" : "a link to another file",
                                               .next = "copy the data into the file, as h5repack or h5py do"});
    }
    Id next(H5Oopen(parent, name.c_str(), H5P_DEFAULT));
    if (!next.valid())
      refuse("an object of an HDF5 file cannot be opened", {.where = place, .found = last_message(), .next = last_remedy()});
    object = std::move(next);
  }
  return object;
}

Id open_dataset(hid_t group, std::string_view path, const std::string& where) {
  Id dataset = open_object(group, path, where);
  if (!dataset.valid() || H5Iget_type(dataset) != H5I_DATASET) return Id();
  const std::string place = fmt::format("{}, dataset \"{}\"", where, path);
  const Id creation(H5Dget_create_plist(dataset));
  if (!creation.valid()) refuse("a dataset cannot be read", {.where = place, .found = last_message(), .next = last_remedy()});
  const H5D_layout_t layout = H5Pget_layout(creation);
  const char* elsewhere = nullptr;
  if (layout == H5D_VIRTUAL)
    elsewhere = "a virtual dataset";
  else if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
    elsewhere = "an unknown layout";
  else if (H5Pget_external_count(creation) != 0)
    elsewhere = "external storage";
  if (elsewhere) {
    refuse("an HDF5 file keeps its data elsewhere", {.where = place,
                                                     .expected = "the data itself",
                                                     .found = elsewhere,
                                                     .next = "copy the data into the file, as h5repack or h5py do"});
  }
  check_filters(creation, place);
  check_storage(dataset, creation, place);
  return dataset;
}

std::vector<hsize_t> shape_of(hid_t dataset) {
  const Id space(H5Dget_space(dataset));
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> shape(rank > 0 ? static_cast<std::size_t>(rank) : 0);
  if (rank > 0) H5Sget_simple_extent_dims(space, shape.data(), nullptr);
  return shape;
}

std::string type_text(hid_t type) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t bits = 8 * H5Tget_size(type);
  if (kind == H5T_INTEGER) return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
  if (kind == H5T_FLOAT) return fmt::format("float{}", bits);
  return class_text(kind);
}

std::string shape_text(std::span<const hsize_t> shape) {
  std::string text;
  for (const hsize_t extent : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", extent);
  return fmt::format("({}{})", text, shape.size() == 1 ? "," : "");
}

std::string describe(hid_t dataset) {
  const Id type(H5Dget_type(dataset));
  return fmt::format("{} {}", type_text(type), shape_text(shape_of(dataset)));
}

namespace {

std::vector<std::string> read_one(hid_t object, const std::string& name, const std::string& where) {
  const auto give_up = [&](const std::string& found) {
    refuse("an attribute of an HDF5 file cannot be read",
           {.where = fmt::format("{}, attribute \"{}\"", where, name), .expected = "strings", .found = found});
  };
  const Id attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  if (!attribute.valid()) give_up(last_message());
  const Id space(H5Aget_space(attribute)), type(H5Aget_type(attribute));
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count < 0 || H5Sget_simple_extent_ndims(space) > 1) give_up("an array of rank 2 or more");
  if (count == 0) return {};
  if (H5Tget_class(type) != H5T_STRING) give_up(type_text(type));
  if (static_cast<hsize_t>(count) > most_strings) give_up(fmt::format("{} of them", count));

  std::vector<std::string> strings;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
    const Id memory(H5Tcopy(H5T_C_S1));
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(type));
    if (H5Aread(attribute, memory, pointers.data()) < 0) give_up(last_message());
    for (const char* text : pointers) strings.emplace_back(text == nullptr ? "" : text);
    H5Dvlen_reclaim(memory, space, H5P_DEFAULT, pointers.data());
  } else {
    const std::size_t width = H5Tget_size(type);
    if (width == 0 || width > longest_strings / static_cast<std::size_t>(count))
      give_up(fmt::format("{} strings of {} bytes", count, width));
    std::vector<char> text(width * static_cast<std::size_t>(count));
    if (H5Aread(attribute, type, text.data()) < 0) give_up(last_message());
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const char* begin = text.data() + i * width;
      strings.emplace_back(begin, ::strnlen(begin, width));
    }
  }
  return strings;
}

}  // namespace

std::vector<std::string> read_strings(hid_t object, const std::string& name, const std::string& where, bool* there) {
  *there = exists(H5Aexists(object, name.c_str()), where);
  if (*there) return read_one(object, name, where);
  std::vector<std::string> all;
  for (int part = 0; exists(H5Aexists(object, fmt::format("{}{}", name, part).c_str()), where); ++part) {
    *there = true;
    for (std::string& text : read_one(object, fmt::format("{}{}", name, part), where)) all.push_back(std::move(text));
  }
  return all;
}

void writing(const std::filesystem::path& file, const std::function<void()>& body) {
  const VendorCall call("libhdf5");
  try {
    body();
  } catch (Error& error) {
    if (error.report().where.empty()) error.within(file.string());
    throw;
  }
}

Id create_file(const std::filesystem::path& file) {
  start();
  const Id access = without_locks();
  return written(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access));
}

Id create_file_in_memory() {
  start();
  constexpr std::size_t growth = 1 << 20;
  const Id access = written(H5Pcreate(H5P_FILE_ACCESS));
  written(H5Pset_fapl_core(access, growth, false) >= 0);
  return written(H5Fcreate("in memory", H5F_ACC_TRUNC, H5P_DEFAULT, access));
}

std::span<const std::byte> image_of(hid_t file) {
  written(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0);
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  void* memory = nullptr;  // the core driver's handle is where its memory's address stands
  written(size > 0 && H5Fget_vfd_handle(file, H5P_DEFAULT, &memory) >= 0 && memory);
  return {*static_cast<const std::byte* const*>(memory), static_cast<std::size_t>(size)};
}

Id without_times() {
  Id creation = written(H5Pcreate(H5P_DATASET_CREATE));
  written(H5Pset_obj_track_times(creation, false) >= 0);
  return creation;
}

Id create_group(hid_t parent, const std::string& path) {
  const Id links = written(H5Pcreate(H5P_LINK_CREATE));
  written(H5Pset_create_intermediate_group(links, 1) >= 0);
  return written(H5Gcreate2(parent, path.c_str(), links, H5P_DEFAULT, H5P_DEFAULT));
}

void write_dataset(hid_t parent, const std::string& path, std::span<const hsize_t> shape, hid_t type, const void* values) {
  const Id links = written(H5Pcreate(H5P_LINK_CREATE));
  written(H5Pset_create_intermediate_group(links, 1) >= 0);
  const Id space = written(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
  Id dataset = written(H5Dcreate2(parent, path.c_str(), type, space, links, without_times(), H5P_DEFAULT));
  written(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  dataset.close();
}

void write_strings(hid_t object, const std::string& name, const std::vector<std::string>& values) {
  // As h5py does: an empty list has no strings to take a type from.
  const hsize_t none = 0;
  if (values.empty()) {
    const Id space = written(H5Screate_simple(1, &none, nullptr));
    written(H5Acreate2(object, name.c_str(), H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT));
    return;
  }
  const std::size_t width = std::max<std::size_t>(1, std::ranges::max(values, {}, &std::string::size).size());
  const std::size_t most = std::max<std::size_t>(1, longest_attribute / width);
  const bool split = values.size() > most;
  for (std::size_t begin = 0, part = 0; begin < values.size(); begin += most, ++part) {
    const hsize_t count = std::min(most, values.size() - begin);
    std::vector<char> text(count * width, '\0');
    for (hsize_t i = 0; i < count; ++i) std::ranges::copy(values[begin + i], text.data() + i * width);
    const Id space = written(H5Screate_simple(1, &count, nullptr)), type = written(H5Tcopy(H5T_C_S1));
    written(H5Tset_size(type, width) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0);
    const std::string full = split ? fmt::format("{}{}", name, part) : name;
    const Id attribute = written(H5Acreate2(object, full.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
    written(H5Awrite(attribute, type, text.data()) >= 0);
  }
}

void write_string(hid_t object, const std::string& name, const std::string& value) {
  const Id space = written(H5Screate(H5S_SCALAR)), type = written(H5Tcopy(H5T_C_S1));
  written(H5Tset_size(type, H5T_VARIABLE) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0);
  const Id attribute = written(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  const char* text = value.c_str();
  written(H5Awrite(attribute, type, &text) >= 0);
}

}  // namespace microtome::hdf5
