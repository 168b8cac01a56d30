#include "tools/cli/run_folder.h"

#include "data/file.h"
#include "engine/check.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>

namespace microtome {
namespace {

constexpr std::string_view steps_header = "step,loss\n";

[[noreturn]] void fail_write(const std::filesystem::path& file, int error) {
  fail(ExitCode::memory, "cannot write to the run's folder",
       {.where = file.string(), .found = std::strerror(error), .next = "free space, then go on with --resume"});
}

}  // namespace

std::string utc(const char* format) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm fields = {};
  gmtime_r(&now, &fields);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &fields)};
}

RunFolder::RunFolder(std::filesystem::path folder) : folder_(std::move(folder)) {
  const auto cannot = [this](int error) {
    const bool full = error == ENOSPC || error == EDQUOT;
    fail(full ? ExitCode::memory : ExitCode::usage, "cannot write to the output folder",
         {.where = folder_.string(), .found = std::strerror(error), .next = "another --out"});
  };
  std::error_code error;
  made_ = std::filesystem::create_directories(folder_, error);
  if (error) cannot(error.value());
  const std::string lock = (folder_ / ".lock").string();
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) cannot(errno);
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    ::close(lock_);
    if (reason != EWOULDBLOCK) cannot(reason);
    fail(ExitCode::in_use, "the output folder is in use by another run",
         {.where = folder_.string(), .next = "wait for it to end, or choose another --out"});
  }
}

RunFolder::~RunFolder() {
  std::error_code error;
  bool empty = made_;
  for (std::filesystem::directory_iterator file(folder_, error); empty && !error && file != end(file); file.increment(error))
    empty = file->path().filename() == ".lock";
  if (empty && !error) std::filesystem::remove_all(folder_, error);
  ::close(lock_);
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
  ::close(fd);
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

void RunFolder::truncate_steps(std::uint64_t steps) const {
  std::ifstream file(folder_ / "steps.csv");
  std::string text;
  std::uint64_t lines = 0;
  for (std::string line; lines < steps + 1 && std::getline(file, line); ++lines) text += line + "\n";
  write("steps.csv", steps == 0 ? "" : text);
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
