#include "data/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

/// Linux writes at most this much at once.
constexpr std::size_t largest_write = 0x7ffff000;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) file_operations().close(fd_);
  }

  int operator*() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// Closing can report a write that failed late, as on a network's disk.
  int close() { return file_operations().close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

template <class Call>
auto repeat_when_interrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

bool write_all(int fd, Bytes bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), largest_write);
    const ssize_t written = repeat_when_interrupted([&] { return file_operations().write(fd, bytes.data(), count); });
    if (written < 0) return false;
    if (written == 0) {
      errno = EIO;
      return false;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

FileOperations& file_operations() {
  static FileOperations operations{
      .open = [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); },
      .write = ::write,
      .fsync = ::fsync,
      .close = ::close,
      .rename = [](const char* from, const char* to) { return ::rename(from, to); },
      .unlink = ::unlink,
      .read = ::read,
      .flock = ::flock,
  };
  return operations;
}

fs::path temporary_name(const fs::path& file) {
  return file.parent_path() / fmt::format(".{}.part", file.filename().string());
}

void write_whole(const fs::path& file, std::span<const Bytes> parts, std::string_view what) {
  write_whole(
      file,
      [parts](const Put& put) {
        for (const Bytes part : parts) put(part);
      },
      what);
}

namespace {

/// A pipe, a terminal or a device: there, and nothing that a file could take the place of.
bool is_stream(const fs::path& file) {
  struct stat status;
  return ::stat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

/// What a chain of links leads to, whether it is there or not.
fs::path behind_links(fs::path file) {
  constexpr int most = 40;  // as the kernel has it
  std::error_code no_link;
  for (int i = 0; i < most; ++i) {
    const fs::path target = fs::read_symlink(file, no_link);
    if (no_link) break;
    file = file.parent_path() / target;  // or `target` alone where it is absolute
  }
  return file;
}

[[noreturn]] void fail_write(const fs::path& file, std::string_view what, const char* step, int error) {
  fail(ExitCode::memory, fmt::format("{} could not be written", what),
       {.where = file.string(),
        .found = fmt::format("{}: {}", step, std::system_category().message(error)),
        .next = remedy(error, "see whether the folder is there and may be written")});
}

void write_stream(const fs::path& file, const std::function<void(const Put&)>& produce, std::string_view what) {
  FileOperations& call = file_operations();
  Descriptor out(repeat_when_interrupted([&] { return call.open(file.c_str(), O_WRONLY | O_CLOEXEC, 0); }));
  if (!out) fail_write(file, what, "opening", errno);
  produce([&](Bytes part) {
    if (!write_all(*out, part)) fail_write(file, what, "writing", errno);
  });
  if (out.close() < 0 && errno != EINTR) fail_write(file, what, "closing", errno);
}

}  // namespace

void write_whole(const fs::path& named, const std::function<void(const Put&)>& produce, std::string_view what) {
  if (is_stream(named)) return write_stream(named, produce, what);
  FileOperations& call = file_operations();
  const fs::path file = behind_links(named);
  const fs::path temporary = temporary_name(file);
  const fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  const auto refuse = [&](const char* step) {
    const int error = errno;
    call.unlink(temporary.c_str());
    fail_write(named, what, step, error);
  };

  // Opened first: after the rename nothing may fail that could have failed before.
  Descriptor directory(
      repeat_when_interrupted([&] { return call.open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); }));
  if (!directory) refuse("opening the folder");
  {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    Descriptor out(repeat_when_interrupted([&] { return call.open(temporary.c_str(), flags, 0666); }));
    if (!out) refuse("opening");
    try {
      produce([&](Bytes part) {
        if (!write_all(*out, part)) refuse("writing");
      });
    } catch (...) {
      call.unlink(temporary.c_str());
      throw;
    }
    if (repeat_when_interrupted([&] { return call.fsync(*out); }) < 0) refuse("syncing");
    // After EINTR Linux has closed it all the same.
    if (out.close() < 0 && errno != EINTR) refuse("closing");
  }
  if (repeat_when_interrupted([&] { return call.rename(temporary.c_str(), file.c_str()); }) < 0) refuse("renaming");
  // Some file systems cannot sync a folder and need not: EINVAL.
  if (repeat_when_interrupted([&] { return call.fsync(*directory); }) < 0 && errno != EINVAL) refuse("syncing the folder");
}

void require_apart(std::string_view option, const fs::path& output, std::span<const InputFile> inputs) {
  if (output.empty() || is_stream(output)) return;
  std::error_code ignored;
  const fs::path written = fs::weakly_canonical(output, ignored);
  for (const InputFile& input : inputs) {
    if (input.path.empty()) continue;
    const fs::path read = fs::weakly_canonical(input.path, ignored);
    const bool same = written == read || fs::equivalent(output, input.path, ignored);
    const bool within = fs::exists(output, ignored) && fs::is_directory(read, ignored) &&
                        std::ranges::mismatch(read, written).in1 == read.end();
    if (same || within)
      fail(ExitCode::usage, fmt::format("{} would overwrite what {} names", option, input.option),
           {.where = output.string(), .next = fmt::format("another file for {}", option)});
  }
}

std::string kind_of_file(const fs::path& file) {
  constexpr std::size_t enough = 512;
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!in) return {};
  char bytes[enough];
  const ssize_t count = repeat_when_interrupted([&] { return ::read(*in, bytes, sizeof bytes); });
  if (count < 0) return errno == EISDIR ? "a folder" : "";
  if (count == 0) return "an empty file";
  const std::string_view begin(bytes, static_cast<std::size_t>(count));
  using namespace std::string_view_literals;
  constexpr std::pair<std::string_view, const char*> signatures[] = {
      {"\x1f\x8b"sv, "a gzip file"},
      {"PK\3\4"sv, "a zip file"},
      {"\x89PNG\r\n"sv, "a PNG image"},
      {"\xff\xd8\xff"sv, "a JPEG image"},
      {"II*\0"sv, "a TIFF image"},
      {"MM\0*"sv, "a TIFF image"},
      {"\x89HDF\r\n"sv, "an HDF5 file"},
      {"version https://git-lfs"sv, "a pointer of Git LFS, not yet the file itself: git lfs pull fetches it"}};
  for (const auto& [signature, kind] : signatures)
    if (begin.starts_with(signature)) return kind;
  std::string text;
  for (const char c : begin.substr(begin.starts_with("\xef\xbb\xbf") ? 3 : 0)) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (!text.empty() || (c != ' ' && c != '\n' && c != '\r' && c != '\t'))
      text += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head"))
    return "an HTML page, as a server sends it in the place of a file";
  if (text.starts_with("<?xml")) return "an XML document, as a server sends it in the place of a file";
  if (text.starts_with("{") || text.starts_with("[{")) return "JSON";
  const bool all_zero = begin.find_first_not_of('\0') == begin.npos;
  return all_zero ? "zeros, at least at first: a download that was never finished" : "";
}

namespace {

/// O_NONBLOCK: opening a pipe must not wait for its writer.
int open_to_read(const fs::path& file) {
  return ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/// How many bytes there were, fewer than asked for at the file's end alone; nothing, with errno, where reading fails.
std::optional<std::size_t> read_up_to(int fd, std::span<std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        repeat_when_interrupted([&] { return file_operations().read(fd, bytes.data() + done, bytes.size() - done); });
    if (count < 0) return std::nullopt;
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

}  // namespace

std::string first_bytes(const fs::path& file, std::size_t count, ExitCode code) {
  const auto refuse = [&]() {
    const int error = errno;
    fail(code, "a file cannot be read",
         {.where = file.string(), .found = std::system_category().message(error), .next = remedy(error)});
  };
  const Descriptor in(open_to_read(file));
  if (!in) refuse();
  std::string bytes(count, '\0');
  const std::optional<std::size_t> done = read_up_to(*in, std::as_writable_bytes(std::span(bytes)));
  if (!done) refuse();
  bytes.resize(*done);
  return bytes;
}

std::vector<std::byte> read_whole(const fs::path& file, ExitCode code, std::size_t limit) {
  const auto refuse = [&](std::string found, std::string next = {}) {
    fail(code, "a file cannot be read", {.where = file.string(), .found = std::move(found), .next = std::move(next)});
  };
  const auto refuse_call = [&](int error) { refuse(std::system_category().message(error), remedy(error)); };
  const Descriptor in(open_to_read(file));
  if (!in) refuse_call(errno);
  struct stat status;
  if (::fstat(*in, &status) < 0) refuse_call(errno);
  if (!S_ISREG(status.st_mode)) refuse("no regular file");
  if (static_cast<std::size_t>(status.st_size) > limit) {
    refuse(fmt::format("{} bytes, more than the {} that such a file may have", status.st_size, limit));
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  const std::optional<std::size_t> done = read_up_to(*in, bytes);
  if (!done) refuse_call(errno);
  if (*done < bytes.size()) refuse("it became shorter while being read");
  return bytes;
}

std::string read_text(const fs::path& file, ExitCode code) {
  constexpr std::size_t largest_text = std::size_t{1} << 30;
  const std::vector<std::byte> bytes = read_whole(file, code, largest_text);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<std::string> read_text_if_there(const fs::path& file, ExitCode code) {
  struct stat status;
  if (::stat(file.c_str(), &status) < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  return read_text(file, code);
}

std::string remedy(int error, std::string otherwise) {
  switch (error) {
    case EACCES:
    case EPERM: return "see whose it is, and who may use it (ls -l, chmod)";
    case EMFILE:
    case ENFILE: return "a higher limit of open files: ulimit -n";
    case ENOMEM: return "more memory";
    case EAGAIN: return "a higher limit of processes: ulimit -u";
    case EIO: return "see whether the disk is sound, or the network (dmesg)";
    case EFBIG: return "a higher limit of file sizes (ulimit -f), or a file system that takes larger files";
    case ENOSPC:
    case EDQUOT: return "make room on the disk, or name another folder";
    default: return otherwise;
  }
}

ExitCode code_of(int error, ExitCode otherwise) {
  for (const int lack : {ENOSPC, EDQUOT, EFBIG, ENOMEM, EMFILE, ENFILE, EAGAIN, EIO})
    if (error == lack) return ExitCode::memory;
  return otherwise;
}

bool take_line(std::string_view& left, std::string_view& line) {
  if (left.empty()) return false;
  const std::size_t end = std::min(left.find('\n'), left.size());
  line = left.substr(0, end);
  left.remove_prefix(std::min(end + 1, left.size()));
  return true;
}

}  // namespace microtome
