// libhdf5 with owners and with errors as Error(ExitCode::data). For the sources of this folder only.
#pragma once

#include "engine/check.h"

#include <hdf5.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome::hdf5 {

/// Before anything else, and before a sandbox is entered: what the library does without memory is not the file's fault.
void start();

/// Owns an identifier of any kind.
class Id {
 public:
  Id() = default;
  explicit Id(hid_t id) : id_(id) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Id();

  operator hid_t() const { return id_; }
  bool valid() const { return id_ >= 0; }

  /// For what was written to: the last of it may be written only now. Throws Error(ExitCode::memory).
  void close();

 private:
  bool close_nothrow();

  hid_t id_ = -1;
};

/// What libhdf5 says went wrong last, its innermost message; clears nothing, prints nothing.
std::string last_message();

/// What helps against it, where that was a system call's failure.
std::string last_remedy(std::string otherwise = {});

/// Opens for reading, in a sandbox: loads no filter plugins, prints no errors, locks nothing.
Id open_untrusted(const std::filesystem::path& file);

/// The object at `path` below `group`, reached through hard links alone; invalid where there is none. Throws for a soft or
/// an external link on the way.
Id open_object(hid_t group, std::string_view path, const std::string& where);

/// A dataset whose values lie in this file: contiguous, compact or chunked, with the filters deflate, shuffle and
/// fletcher32 at most, no larger than the file can hold; invalid where `path` is none. Throws for any other.
Id open_dataset(hid_t group, std::string_view path, const std::string& where);

std::vector<hsize_t> shape_of(hid_t dataset);
/// What lies in the file's root, for messages: "images" uint8 (4, 6, 5, 3), "meta" (a group). Opens what hard links lead to.
std::string contents(hid_t file);
/// "uint8 (523, 96, 96, 3)"
std::string describe(hid_t dataset);
std::string type_text(hid_t type);
std::string shape_text(std::span<const hsize_t> shape);

/// An attribute of strings, fixed-length or variable, whole or split into name0, name1, …; an empty array of any type is an
/// empty list. `there` tells whether it exists.
std::vector<std::string> read_strings(hid_t object, const std::string& name, const std::string& where, bool* there);

/// Around what writes a file: libhdf5's refusals do not know of which, and without memory it crashes.
void writing(const std::filesystem::path& file, const std::function<void()>& body);

/// These throw Error(ExitCode::memory). Groups on the way to `path` are made.
Id create_file(const std::filesystem::path& file);
Id create_file_in_memory();
std::span<const std::byte> image_of(hid_t file);  // of one in memory, as it lies there until the file is closed or written to
/// For new datasets: no time of writing, so that the same content gives the same bytes.
Id without_times();
Id create_group(hid_t parent, const std::string& path);
void write_dataset(hid_t parent, const std::string& path, std::span<const hsize_t> shape, hid_t type, const void* values);
void write_strings(hid_t object, const std::string& name, const std::vector<std::string>& values);
void write_string(hid_t object, const std::string& name, const std::string& value);

}  // namespace microtome::hdf5
