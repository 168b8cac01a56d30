// What people see: messages and progress on stderr, results on stdout.
#pragma once

#include "engine/dataset.h"

#include <fmt/core.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace microtome {

/// quiet: errors alone. normal: messages and progress. verbose: more messages.
enum class Verbosity { quiet, normal, verbose };

class Terminal {
 public:
  explicit Terminal(Verbosity verbosity);

  /// One line on stderr, unless quiet.
  template <class... Parts>
  void say(fmt::format_string<Parts...> format, Parts&&... parts) {
    if (verbosity_ != Verbosity::quiet) line(fmt::format(format, std::forward<Parts>(parts)...));
  }
  /// One line on stderr: what went wrong and stops nothing.
  template <class... Parts>
  void complain(fmt::format_string<Parts...> format, Parts&&... parts) {
    line(fmt::format(format, std::forward<Parts>(parts)...));
  }
  template <class... Parts>
  void say_more(fmt::format_string<Parts...> format, Parts&&... parts) {
    if (verbosity_ == Verbosity::verbose) line(fmt::format(format, std::forward<Parts>(parts)...));
  }

  /// A bar on the terminal's last line; nothing where stderr is not a terminal. Goes when `done` reaches `of`, or when a line
  /// is said. Cheap enough to be called after every batch.
  void progress(std::string_view what, std::int64_t done, std::int64_t of, std::string_view unit = "images");
  void clear_progress();

 private:
  using Clock = std::chrono::steady_clock;
  void line(const std::string& text);

  Verbosity verbosity_;
  bool bar_possible_;
  bool bar_drawn_ = false;
  std::string what_;
  std::int64_t first_ = 0;
  Clock::time_point begun_, drawn_;
};

std::string with_separators(std::int64_t number);  // "262,144"
std::string duration(double seconds);              // "0.8 s", "12 s", "3:05", "2:03:05"
std::string size_text(std::size_t bytes);          // "1.5 MiB"

/// "523 images of 96x96, 262 of class 0 and 261 of class 1"
std::string describe_images(const Images& images);

}  // namespace microtome
