#include "tools/options/augment.h"

#include "engine/check.h"
#include "engine/nearest.h"
#include "tools/cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

namespace microtome {
namespace {

struct Word {
  std::string_view name, unit;  // no unit, no value
  double highest;
  void (*apply)(Augment&, double);
};

constexpr std::array words{
    Word{"none", "", 0, [](Augment&, double) {}},
    Word{"flip", "", 0, [](Augment& a, double) { a.flip = true; }},
    Word{"rotate90", "", 0, [](Augment& a, double) { a.rotate90 = true; }},
    Word{"d4", "", 0, [](Augment& a, double) { a.flip = a.rotate90 = true; }},
    Word{"shift", "PIXELS", 4096, [](Augment& a, double value) { a.shift = static_cast<int>(value); }},
    Word{"zoom", "FRACTION", 0.9, [](Augment& a, double value) { a.zoom = static_cast<float>(value); }},
    Word{"rotate", "DEGREES", 180, [](Augment& a, double value) { a.rotate = static_cast<float>(value); }},
    Word{"brightness", "FRACTION", 1, [](Augment& a, double value) { a.brightness = static_cast<float>(value); }},
};

std::string form(const Word& word) {
  return word.unit.empty() ? std::string(word.name) : fmt::format("{}={}", word.name, word.unit);
}

const Word& find(std::string_view name) {
  std::vector<std::string> names;
  for (const Word& word : words) {
    if (word.name == name) return word;
    names.emplace_back(word.name);
  }
  const std::string near = nearest(name, names);
  fail(ExitCode::usage, fmt::format("unknown augmentation \"{}\"", name),
       {.expected = augment_words(), .next = near.empty() ? "train --help" : fmt::format("did you mean {}?", near)});
}

double value_of(const Word& word, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = word.unit != "PIXELS" || value == std::floor(value);
  if (error == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= word.highest && whole) return value;
  fail(ExitCode::usage, fmt::format("--augment {} takes a {}number", word.name, word.unit == "PIXELS" ? "whole " : ""),
       {.expected = fmt::format("{}, 0 to {}", form(word), word.highest),
        .found = fmt::format("{}={}", word.name, text),
        .next = "train --help"});
}

}  // namespace

Augment parse_augment(std::string_view text) {
  Augment augment;
  for (const std::string& entry : words_of("augment", text)) {
    const std::string_view part = entry;
    const std::size_t equals = std::min(part.find('='), part.size());
    const Word& word = find(part.substr(0, equals));
    if (word.unit.empty() && equals < part.size())
      fail(ExitCode::usage, fmt::format("--augment {} takes no number", word.name), {.found = entry});
    word.apply(augment, word.unit.empty() ? 0 : value_of(word, part.substr(std::min(equals + 1, part.size()))));
  }
  return augment;
}

std::string augment_words() {
  std::string text;
  for (const Word& word : words) text += (text.empty() ? "" : ", ") + form(word);
  return text;
}

}  // namespace microtome
