#include "tools/cli/terminal.h"

#include "engine/one_line.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace microtome {

Terminal::Terminal(Verbosity verbosity)
    : verbosity_(verbosity), bar_possible_(verbosity != Verbosity::quiet && isatty(STDERR_FILENO) == 1) {}

void Terminal::line(const std::string& text) {
  clear_progress();
  std::fputs(fmt::format("{}\n", one_line(text)).c_str(), stderr);  // a reader of stderr who has gone is no reason to end a run
}

void Terminal::clear_progress() {
  if (bar_drawn_) std::fputs("\r\033[K", stderr);
  bar_drawn_ = false;
}

void Terminal::progress(std::string_view what, std::int64_t done, std::int64_t of, std::string_view unit) {
  if (!bar_possible_ || of <= 0) return;
  const Clock::time_point now = Clock::now();
  if (what != what_) {
    what_ = what;
    first_ = done;
    begun_ = now;
  } else if (done < of && now - drawn_ < std::chrono::milliseconds(100)) {
    return;
  }
  drawn_ = now;
  if (done >= of) {
    clear_progress();
    what_.clear();
    return;
  }
  constexpr int width = 28;
  const int filled = static_cast<int>(width * done / of);
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double rate = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
  std::string text = fmt::format("{} |{}{}| {}/{} {}", what, std::string(filled, '='), std::string(width - filled, ' '),
                                 with_separators(done), with_separators(of), unit);
  if (rate > 0) text += fmt::format(", {:.0f}/s, {} left", rate, duration(static_cast<double>(of - done) / rate));
  std::fputs(fmt::format("\r{}\033[K", text).c_str(), stderr);
  bar_drawn_ = true;
}

std::string with_separators(std::int64_t number) {
  std::string text = fmt::format("{}", number);
  const std::size_t first = text[0] == '-' ? 1 : 0;
  for (std::size_t i = text.size(); i > first + 3;) {
    i -= 3;
    text.insert(i, 1, ',');
  }
  return text;
}

std::string duration(double seconds) {
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string size_text(std::size_t bytes) {
  constexpr std::array<std::string_view, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  double size = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; size >= 1024 && unit + 1 < units.size(); ++unit) size /= 1024;
  return fmt::format("{:.{}f} {}", size, unit == 0 ? 0 : 1, units[unit]);
}

std::string describe_images(const Images& images) {
  const auto ones = std::count(images.labels.begin(), images.labels.end(), std::uint8_t{1});
  return fmt::format("{} images of {}x{}, {} of class 0 and {} of class 1", with_separators(images.shape.n), images.shape.h,
                     images.shape.w, with_separators(images.shape.n - ones), with_separators(ones));
}

}  // namespace microtome
