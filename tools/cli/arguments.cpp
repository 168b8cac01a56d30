#include "tools/cli/arguments.h"

#include "data/file.h"
#include "engine/check.h"
#include "engine/nearest.h"
#include "tools/cli/program.h"

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iostream>
#include <optional>

namespace microtome {
namespace {

/// Numbers without regard to the locale; false unless all of `text` is one number.
template <class T>
bool parse_number(std::string_view text, T& value) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string text_of(const std::filesystem::path& config) {
  try {
    return read_text(config, ExitCode::usage);
  } catch (const Error& error) {
    fail(ExitCode::usage, "cannot read the configuration", error.report());
  }
}

std::string quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string utf8(std::uint32_t code) {
  const auto more = [&](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), more(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | code >> 12), more(6), more(0)};
  return {static_cast<char>(0xf0 | code >> 18), more(12), more(6), more(0)};
}

/// What the backslash at `at` and the letters behind it stand for; `at` is then their last. Nothing where TOML knows no such.
std::optional<std::string> unescape(std::string_view text, std::size_t& at) {
  constexpr std::string_view letters = "\"\\bfnrt", meant = "\"\\\b\f\n\r\t";
  if (++at == text.size()) return std::nullopt;
  if (const std::size_t known = letters.find(text[at]); known != letters.npos) return std::string(1, meant[known]);
  const std::size_t digits = text[at] == 'u' ? 4 : text[at] == 'U' ? 8 : 0;
  const std::string_view number = text.substr(at + 1, digits);
  std::uint32_t code = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), code, 16);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (digits == 0 || number.size() < digits || error != std::errc() || end != number.data() + digits || code > 0x10ffff ||
      surrogate)
    return std::nullopt;
  at += digits;
  return utf8(code);
}

/// The value of a TOML line: a basic or literal string, or a bare word; behind it a comment at most. False where it is not
/// that.
bool unquote(std::string_view text, std::string& value) {
  value.clear();
  std::size_t i = 0;
  if (!text.empty() && (text[0] == '"' || text[0] == '\'')) {
    const char end = text[0];
    for (i = 1; i < text.size() && text[i] != end; ++i) {
      if (end == '"' && text[i] == '\\') {
        const std::optional<std::string> meant = unescape(text, i);
        if (!meant) return false;
        value += *meant;
      } else {
        value += text[i];
      }
    }
    if (i >= text.size()) return false;
    ++i;
  } else {
    i = std::min(text.find('#'), text.size());
    value = trim(text.substr(0, i));
    if (value.empty() || value[0] == '[' || value[0] == '{') return false;
  }
  const std::string_view rest = trim(text.substr(i));
  return rest.empty() || rest.front() == '#';
}

std::string join(const std::vector<std::string>& words, std::string_view between) {
  std::string text;
  for (const std::string& word : words) text.append(text.empty() ? "" : between).append(word);
  return text;
}

/// Breaks lines between words so that none is longer than `columns`; those after the first are indented.
std::string wrap(std::string_view text, std::size_t columns, std::size_t indent) {
  std::string wrapped;
  while (text.size() > columns) {
    std::size_t space = text.rfind(' ', columns);
    if (space == std::string_view::npos) break;
    wrapped.append(text.substr(0, space)).append("\n").append(indent, ' ');
    text.remove_prefix(space + 1);
  }
  return wrapped.append(text);
}

constexpr std::size_t help_columns = 100;

}  // namespace

std::vector<std::string> words_of(std::string_view option, std::string_view list) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view word = trim(list.substr(begin, end - begin));
    if (word.empty())
      fail(ExitCode::usage, fmt::format("--{} has an empty entry", option),
           {.expected = "words, commas between", .found = std::string(list)});
    if (std::ranges::find(words, word) != words.end())
      fail(ExitCode::usage, fmt::format("--{} names the same twice", option), {.found = std::string(word)});
    words.emplace_back(word);
    begin = end + 1;
  }
  return words;
}

Arguments::Arguments(std::string program, std::string summary, std::string usage, std::vector<std::string> examples)
    : program_(std::move(program)), summary_(std::move(summary)), usage_(std::move(usage)), examples_(std::move(examples)) {}

Arguments::Entry& Arguments::declare(Option option) {
  Entry& entry = entries_.emplace_back();
  entry.option = std::move(option);
  entry.heading = heading_;
  return entry;
}

void Arguments::add(Option option, std::string& value, std::vector<std::string> choices) {
  Entry& entry = declare(std::move(option));
  if (entry.option.placeholder.empty()) entry.option.placeholder = choices.empty() ? "TEXT" : join(choices, "|");
  entry.preset = value;
  entry.set = [this, name = entry.option.name, choices, &value](const std::string& text) {
    if (!choices.empty() && std::find(choices.begin(), choices.end(), text) == choices.end()) {
      fail_usage(fmt::format("unknown value of --{}", name), join(choices, ", "), text);
    }
    value = text;
  };
  entry.show = [&value] { return value; };
}

void Arguments::add(Option option, std::array<std::string, 2>& values) {
  Entry& entry = declare(std::move(option));
  entry.words = 2;
  entry.set = [&values, next = 0u](const std::string& text) mutable { values[next++ % 2] = text; };
  entry.show = [&values] { return join({values[0], values[1]}, " "); };
}

void Arguments::add(Option option, int& value, Bounds<int> bounds) {
  Entry& entry = declare(std::move(option));
  if (entry.option.placeholder.empty()) entry.option.placeholder = "N";
  entry.preset = fmt::format("{}", value);
  entry.range = bounds.highest == std::numeric_limits<int>::max() ? fmt::format("at least {}", bounds.lowest)
                                                                  : fmt::format("{} to {}", bounds.lowest, bounds.highest);
  entry.quoted = false;
  entry.set = [this, name = entry.option.name, range = entry.range, bounds, &value](const std::string& text) {
    int number = 0;
    if (!parse_number(text, number) || number < bounds.lowest || number > bounds.highest) {
      fail_usage(fmt::format("--{} takes a whole number", name), range, text);
    }
    value = number;
  };
  entry.show = [&value] { return fmt::format("{}", value); };
}

void Arguments::add(Option option, std::uint64_t& value) {
  Entry& entry = declare(std::move(option));
  if (entry.option.placeholder.empty()) entry.option.placeholder = "N";
  entry.preset = fmt::format("{}", value);
  entry.range = "0 to 2^64 - 1";
  entry.quoted = false;
  entry.set = [this, name = entry.option.name, &value](const std::string& text) {
    std::uint64_t number = 0;
    if (!parse_number(text, number)) fail_usage(fmt::format("--{} takes a whole number", name), "0 to 2^64 - 1", text);
    value = number;
  };
  entry.show = [&value] { return fmt::format("{}", value); };
}

void Arguments::add(Option option, double& value, Bounds<double> bounds) {
  Entry& entry = declare(std::move(option));
  if (entry.option.placeholder.empty()) entry.option.placeholder = "X";
  entry.preset = fmt::format("{}", value);
  entry.range = bounds.highest == std::numeric_limits<double>::max() ? fmt::format("at least {}", bounds.lowest)
                                                                     : fmt::format("{} to {}", bounds.lowest, bounds.highest);
  entry.quoted = false;
  entry.set = [this, name = entry.option.name, range = entry.range, bounds, &value](const std::string& text) {
    double number = 0;
    if (!parse_number(text, number) || !(number >= bounds.lowest && number <= bounds.highest)) {
      fail_usage(fmt::format("--{} takes a number", name), range, text);
    }
    value = number;
  };
  entry.show = [&value] { return fmt::format("{}", value); };
}

void Arguments::add_flag(Option option, bool& value) {
  Entry& entry = declare(std::move(option));
  entry.takes_value = false;
  entry.quoted = false;
  entry.set = [this, name = entry.option.name, &value](const std::string& text) {
    if (text != "true" && text != "false") fail_usage(fmt::format("--{} is on or off", name), "true or false", text);
    value = text == "true";
  };
  entry.show = [&value] { return value ? "true" : "false"; };
}

void Arguments::add_switch(Option option, bool& value) {
  Entry& entry = declare(std::move(option));
  entry.option.placeholder = "on|off";
  entry.preset = value ? "on" : "off";
  entry.set = [this, name = entry.option.name, &value](const std::string& text) {
    if (text != "on" && text != "off") fail_usage(fmt::format("unknown value of --{}", name), "on, off", text);
    value = text == "on";
  };
  entry.show = [&value] { return value ? "on" : "off"; };
}

void Arguments::add_positional(Option option, std::string& value, std::vector<std::string> choices) {
  add(std::move(option), value, std::move(choices));
  entries_.back().positional = true;
}

void Arguments::fail_usage(const std::string& what, const std::string& expected, const std::string& found) const {
  fail(ExitCode::usage, what, {.expected = expected, .found = found, .next = program_ + " --help"});
}

std::string Arguments::did_you_mean(std::string_view name, const std::vector<std::string>& names) const {
  const std::string near = nearest(name, names);
  return near.empty() ? program_ + " --help" : fmt::format("did you mean {}?", near);
}

std::optional<std::size_t> Arguments::find(std::string_view name) const {
  for (std::size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].option.name == name || (!name.empty() && entries_[i].option.formerly == name)) return i;
  return {};
}

bool Arguments::given(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(), [name](const Entry& e) { return e.option.name == name && e.given; });
}

bool Arguments::typed(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(), [name](const Entry& e) { return e.option.name == name && e.typed; });
}

void Arguments::assign(Entry& entry, const std::string& text) {
  entry.set(text);
  entry.given = true;
}

bool Arguments::parse(int argc, const char* const* argv) {
  const bool has_config =
      std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.option.kept != Option::Kept::never; });
  heading("Help");
  if (has_config) {
    add({.name = "config",
         .letter = 'c',
         .placeholder = "FILE",
         .help = "read options from a config.toml; the command line wins"},
        config_file_);
  }
  add_flag({.name = "help", .letter = 'h', .help = "print this and exit"}, help_);
  add_flag({.name = "version", .help = "print the version, and what would compute here, and exit"}, version_);

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  for (Entry& entry : entries_) {
    std::string names = entry.positional ? entry.option.name : "--" + entry.option.name;
    if (entry.option.letter != 0) names = fmt::format("-{},{}", entry.option.letter, names);
    if (entry.words > 1) {
      const auto each = [this, &entry](const std::vector<std::string>& words) {
        for (const std::string& word : words) assign(entry, word);
      };
      app.add_option_function<std::vector<std::string>>(names, each)->expected(entry.words)->allow_extra_args(false);
    } else if (entry.takes_value) {
      const auto take = [this, &entry](const std::string& text) {
        if (text.empty() && !entry.positional)  // of a shell's variable that is not set
          fail_usage(fmt::format("--{} is empty", entry.option.name), "a value", "\"\"");
        assign(entry, text);
      };
      app.add_option_function<std::string>(names, take)->take_last();
    } else {
      app.add_flag_callback(names, [this, &entry] { assign(entry, "true"); });
    }
  }
  const auto asks_for = [&](std::string_view option) { return std::find(argv + 1, argv + argc, option) != argv + argc; };
  if (asks_for("--help") || asks_for("-h")) {
    fmt::print("{}", help());
    return false;
  }
  if (asks_for("--version")) {
    fmt::print("{}", version_of(program_));
    return false;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string_view what = error.what();  // "--net: 1 required TEXT missing"
    const std::string_view name = what.substr(0, what.find(':'));
    const std::optional<std::size_t> entry = find(name.substr(name.find_first_not_of('-')));
    const int words = entry ? entries_[*entry].words : 1;
    fail_usage(fmt::format("{} needs {}", name, words == 1 ? "a value" : fmt::format("{} values", words)), "", "");
  } catch (const CLI::ParseError& error) {
    fail_usage(fmt::format("cannot read the command line: {}", error.what()), "", "");
  }
  if (!app.remaining().empty()) {
    const std::string word = app.remaining().front();
    if (word.rfind("-", 0) != 0) fail_usage(fmt::format("do not know what to do with \"{}\"", word), "", "");
    std::vector<std::string> names;
    for (const Entry& entry : entries_) {
      if (!entry.positional) names.push_back("--" + entry.option.name);
    }
    const std::string name = word.substr(0, word.find('='));
    const auto shown = std::ranges::find_if(
        examples_, [&](const std::string& example) { return (example + " ").find(" " + name + " ") != std::string::npos; });
    fail(ExitCode::usage, fmt::format("unknown option {}{}", name, shown == examples_.end() ? "" : " here"),
         {.next = shown == examples_.end() ? did_you_mean(name, names) : *shown});
  }
  for (Entry& entry : entries_) entry.typed = entry.given;
  if (!config_file_.empty()) read_config(config_file_);
  return true;
}

std::vector<Arguments::Setting> Arguments::settings_of(const std::filesystem::path& file) const {
  const std::string whole = text_of(file);
  std::vector<Setting> settings;
  std::string_view left = whole, line;
  for (int number = 1; take_line(left, line); ++number) {
    if (number == 1 && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);  // with which some editors begin a file
    const std::string_view text = trim(line);
    if (text.empty() || text.front() == '#') continue;
    const auto equals = text.find('=');
    std::string name(trim(text.substr(0, equals)));
    const std::string where = fmt::format("{}, line {}", file.string(), number);
    std::string value;
    if (name.starts_with('"') && unquote(name, value)) name = value;
    if (equals == std::string_view::npos || !unquote(trim(text.substr(equals + 1)), value)) {
      fail(ExitCode::usage, "cannot read the configuration",
           {.where = where, .expected = "name = value, or name = \"text\"", .found = std::string(text)});
    }
    const std::optional<std::size_t> entry = find(name);
    if (!entry || entries_[*entry].option.kept == Option::Kept::never) {
      if (ignores_foreign_) continue;
      std::vector<std::string> names;
      for (const Entry& e : entries_) {
        if (e.option.kept != Option::Kept::never) names.push_back(e.option.name);
      }
      fail(ExitCode::usage, fmt::format("unknown setting {}", name), {.where = where, .next = did_you_mean(name, names)});
    }
    const auto earlier = std::ranges::find(settings, *entry, &Setting::entry);
    if (earlier != settings.end() && earlier->text != value)
      fail(ExitCode::usage, fmt::format("{} is set twice", name),
           {.where = where,
            .expected = fmt::format("{}, as in line {}, or that line alone changed", quote(earlier->text), earlier->line),
            .found = quote(value),
            .next = "take one of the two lines out"});
    settings.push_back({*entry, std::move(value), number});
  }
  return settings;
}

void Arguments::read_config(const std::filesystem::path& file) {
  for (const Setting& setting : settings_of(file)) {
    Entry& entry = entries_[setting.entry];
    if (entry.given) continue;
    try {
      assign(entry, setting.text);
    } catch (Error& error) {
      error.within(fmt::format("{}, line {}", file.string(), setting.line));
      throw;
    }
  }
}

std::string Arguments::line_of(const Entry& entry) {
  const std::string value = entry.show();
  return fmt::format("{} = {}\n", entry.option.name, entry.quoted ? quote(value) : value);
}

void Arguments::require_all() const {
  for (const Entry& entry : entries_) {
    if (!entry.option.required || entry.given) continue;
    const std::string name = entry.positional ? entry.option.placeholder : "--" + entry.option.name;
    fail(ExitCode::usage, fmt::format("{} is missing", name),
         {.expected = entry.option.help, .next = examples_.empty() ? program_ + " --help" : examples_.front()});
  }
}

std::string Arguments::config() const {
  std::string text;
  for (const Entry& entry : entries_) {
    if (entry.option.kept != Option::Kept::never) text += line_of(entry);
  }
  return text;
}

std::string Arguments::fixed_config() const {
  std::string text;
  for (const Entry& entry : entries_) {
    if (entry.option.kept == Option::Kept::fixed) text += line_of(entry);
  }
  return text;
}

void Arguments::require_same(const std::filesystem::path& config, std::string_view what) const {
  const std::vector<Setting> begun = settings_of(config);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].option.kept != Option::Kept::fixed) continue;
    const std::string &name = entries_[i].option.name, now = entries_[i].show();
    const auto was = std::ranges::find(begun, i, &Setting::entry);
    if (was != begun.end() && was->text == now) continue;
    fail(ExitCode::usage, fmt::format("--{} cannot change when {} is resumed", name, what),
         {.where = config.string(),
          .expected = was == begun.end() ? "" : fmt::format("{} = {}", name, quote(was->text)),
          .found = fmt::format("{} = {}", name, quote(now)),
          .next = fmt::format("leave --{} as it was, or begin anew in another --out", name)});
  }
}

/// "required without --resume or --config"
std::string Arguments::requirement(const Entry& entry) const {
  std::vector<std::string> others;
  if (!instead_.empty()) others.push_back("--" + instead_);
  if (entry.option.kept != Option::Kept::never) others.emplace_back("--config");
  return others.empty() ? "required" : fmt::format("required without {}", join(others, " or "));
}

std::string Arguments::help() const {
  std::string text = fmt::format("{}\n\nExamples\n", summary_);
  for (const std::string& example : examples_) text += fmt::format("  {}\n", example);
  text += fmt::format("\nUsage\n  {} {}\n", program_, usage_);

  std::vector<std::string> left;
  std::size_t width = 0;
  for (const Entry& entry : entries_) {
    std::string names = entry.option.letter != 0 ? fmt::format("-{}, ", entry.option.letter) : "    ";
    if (!entry.positional) names += "--" + entry.option.name;
    if (entry.takes_value) names += (entry.positional ? "" : " ") + entry.option.placeholder;
    width = std::max(width, names.size());
    left.push_back(std::move(names));
  }
  std::string heading;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.heading != heading) {
      heading = entry.heading;
      text += fmt::format("\n{}\n", heading);
    }
    std::vector<std::string> facts;
    if (entry.option.required) facts.push_back(requirement(entry));
    if (!entry.option.preset.empty()) facts.push_back("default: " + entry.option.preset);
    if (entry.option.preset.empty() && entry.takes_value && !entry.preset.empty()) {
      facts.push_back(fmt::format("default {}{}{}", entry.preset, entry.option.unit.empty() ? "" : " ", entry.option.unit));
    } else if (!entry.option.unit.empty()) {
      facts.push_back(entry.option.unit);
    }
    if (!entry.range.empty()) facts.push_back(entry.range);
    left[i].resize(width, ' ');
    const std::string right = entry.option.help + (facts.empty() ? "" : " [" + join(facts, "; ") + "]");
    text += fmt::format("  {}  {}\n", left[i], wrap(right, help_columns - 4 - width, 4 + width));
  }
  return text;
}

}  // namespace microtome
