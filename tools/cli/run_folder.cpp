#include "tools/cli/run_folder.h"

#include "data/file.h"
#include "engine/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <ctime>

namespace microtome {
namespace {

constexpr std::string_view steps_header = "step,loss\n", lock_name = ".lock";

[[noreturn]] void fail_folder(const std::filesystem::path& folder, int error) {
  fail(code_of(error, ExitCode::usage), "cannot write to the output folder",
       {.where = folder.string(), .found = std::strerror(error), .next = remedy(error, "another --out")});
}

/// False where it is there.
bool make(const std::filesystem::path& folder) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error) fail_folder(folder, error.value());
  return made;
}

[[noreturn]] void fail_write(const std::filesystem::path& file, int error) {
  fail(ExitCode::memory, "cannot write to the run's folder",
       {.where = file.string(),
        .found = std::strerror(error),
        .next = fmt::format("{}; then go on with --resume", remedy(error, "see whether it may be written"))});
}

}  // namespace

std::string utc(const char* format) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm fields = {};
  gmtime_r(&now, &fields);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &fields)};
}

RunFolder::RunFolder(std::filesystem::path folder) : RunFolder(folder, make(folder)) {}

RunFolder::RunFolder(std::filesystem::path folder, bool made)
    : folder_(std::move(folder)), made_(made), lock_(folder_ / lock_name) {
  if (lock_.held()) return;
  if (lock_.error() != 0) fail_folder(folder_, lock_.error());
  fail(ExitCode::in_use, "the output folder is in use by another run",
       {.where = folder_.string(),
        .found = lock_.owner(),
        .next = fmt::format("wait for it to end, or choose another --out{}{}", lock_.remedy().empty() ? "" : "; ",
                            lock_.remedy())});
}

RunFolder RunFolder::make_new(const std::filesystem::path& wanted) {
  if (wanted.has_parent_path()) make(wanted.parent_path());
  std::filesystem::path folder = wanted;
  for (int i = 2; ::mkdir(folder.c_str(), 0777) != 0; ++i) {
    if (errno != EEXIST) fail_folder(folder, errno);
    folder = fmt::format("{}-{}", wanted.string(), i);
  }
  return RunFolder(folder, true);
}

RunFolder::~RunFolder() {
  std::error_code error;
  bool empty = made_ && lock_.held();
  for (std::filesystem::directory_iterator file(folder_, error); empty && !error && file != end(file); file.increment(error))
    empty = file->path().filename().string().starts_with(lock_name);
  if (empty && !error) std::filesystem::remove_all(folder_, error);
}

void RunFolder::require_none_of(std::span<const char* const> files, const std::string& refusal) const {
  for (const char* file : files)
    if (has(file)) fail(ExitCode::usage, refusal, {.where = (folder_ / file).string(), .next = "another --out"});
}

void RunFolder::write(std::string_view name, std::string_view text) const {
  const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
  write_whole(folder_ / name, {&part, 1}, name);
}

void RunFolder::append(std::string_view name, std::string_view text) const {
  const std::filesystem::path file = folder_ / name;
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) fail_write(file, errno);
  const off_t size = lseek(fd, 0, SEEK_END);
  std::size_t done = 0;
  int error = 0;
  while (done < text.size() && error == 0) {
    const ssize_t count = ::write(fd, text.data() + done, text.size() - done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error != 0 && ftruncate(fd, size) != 0) error = errno;
  if (::close(fd) != 0 && error == 0 && errno != EINTR) error = errno;  // as on a network's disk
  if (error != 0) fail_write(file, error);
}

void RunFolder::log(std::string_view event, const Json& facts) const {
  Json line{{"time", utc("%Y-%m-%dT%H:%M:%SZ")}, {"event", event}};
  line.update(facts);
  append("log.jsonl", line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void RunFolder::write_metrics(std::span<const EpochRecord> history) const {
  std::string text = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,seconds,images_per_second\n";
  for (const EpochRecord& r : history) {
    text += fmt::format("{},{:.9g},{:.9g},{:.9g},{:.9g},{:.3f},{:.1f}\n", r.epoch, r.train_loss, r.train_accuracy, r.valid_loss,
                        r.valid_accuracy, r.seconds, r.images_per_second);
  }
  write("metrics.csv", text);
}

void RunFolder::append_steps(std::span<const BatchMetrics> batches, std::uint64_t first_step) const {
  std::string text(first_step == 0 ? steps_header : "");
  std::uint64_t step = first_step;
  for (const BatchMetrics& batch : batches) text += fmt::format("{},{:.9g}\n", ++step, batch.loss);
  append("steps.csv", text);
}

std::uint64_t RunFolder::truncate_steps(std::uint64_t steps) const {
  if (steps == 0) return write("steps.csv", ""), 0;
  const std::string whole = read_text_if_there(folder_ / "steps.csv", ExitCode::data).value_or("");
  std::string text(steps_header);
  std::uint64_t kept = 0;
  for (std::string_view left = whole, line; take_line(left, line);) {
    std::uint64_t step = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
    const bool is_row = error == std::errc() && end + 1 < line.data() + line.size() && *end == ',';
    const bool is_cut = left.empty() && !whole.ends_with('\n');
    if (!is_row || is_cut || step > steps) continue;
    (text += line) += "\n";
    ++kept;
  }
  write("steps.csv", text);
  return kept;
}

void RunFolder::write_roc(std::span<const RocPoint> points) const {
  write("roc.csv", roc_csv(points));
}

std::string roc_csv(std::span<const RocPoint> points) {
  std::string text = "false_positive_rate,true_positive_rate,threshold\n";
  for (const RocPoint& p : points) {
    text += fmt::format("{:.9g},{:.9g},{:.9g}\n", p.false_positive_rate, p.true_positive_rate, p.threshold);
  }
  return text;
}

}  // namespace microtome
