// The options of a program: declared once, then read from the command line and from a run's config.toml, shown by --help,
// and written back to config.toml. The command line wins over --config, --config over the defaults.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// What --help says of an option, and what becomes of its value.
struct Option {
  std::string name;         // "batch-size"
  char letter = 0;          // 'b' for -b
  std::string placeholder;  // "DIR"; empty: made from the type
  std::string help;
  std::string unit;    // "images"
  std::string preset;  // the default in words, where it is not the value's own: "what the weights were trained on"
  bool required = false;
  enum class Kept {
    fixed,  // in config.toml and in the checkpoint: a resumed run must have the same value
    free,   // in config.toml; may change when a run is resumed
    never   // of this call only
  };
  Kept kept = Kept::never;
  std::string formerly;  // its name in a config.toml of before; empty: the same
};

template <class T>
struct Bounds {
  T lowest = std::numeric_limits<T>::lowest(), highest = std::numeric_limits<T>::max();
};

/// The words of an option's value "a, b,c". Throws Error(ExitCode::usage) where one is empty or comes twice.
std::vector<std::string> words_of(std::string_view option, std::string_view list);

class Arguments {
 public:
  /// `usage` is what stands behind the program's name: "pcam|idc --out DIR [options]".
  Arguments(std::string program, std::string summary, std::string usage, std::vector<std::string> examples);

  /// The options declared next stand under this heading in --help.
  void heading(std::string text) { heading_ = std::move(text); }
  /// Where this one is given, the program asks for none of the required ones; --help says so.
  void required_unless(std::string name) { instead_ = std::move(name); }

  void add(Option option, std::string& value, std::vector<std::string> choices = {});
  void add(Option option, std::array<std::string, 2>& values);  // --floor A B; never kept
  void add(Option option, int& value, Bounds<int> bounds);
  void add(Option option, std::uint64_t& value);
  void add(Option option, double& value, Bounds<double> bounds);
  void add_flag(Option option, bool& value);    // --json
  void add_switch(Option option, bool& value);  // --shuffle on|off
  /// A word without a name before it. Missing is an error only where `required`.
  void add_positional(Option option, std::string& value, std::vector<std::string> choices = {});

  /// False when --help or --version was asked for and printed. Throws Error(ExitCode::usage) for whatever cannot be understood.
  /// --config is read here; call `require_all` when every source of values has been read.
  bool parse(int argc, const char* const* argv);

  /// --config may hold settings of other programs: what `train` wrote serves `evaluate` too.
  void ignore_foreign_settings() { ignores_foreign_ = true; }

  /// Values for options that nobody has given yet, from a file in config.toml's form, in which each stands once.
  void read_config(const std::filesystem::path& file);
  void require_all() const;

  /// From whatever source; on the command line.
  bool given(std::string_view name) const;
  bool typed(std::string_view name) const;
  /// Every option that is kept, as TOML; those alone that a resumed run must share.
  std::string config() const;
  std::string fixed_config() const;
  /// Throws Error(ExitCode::usage) where a fixed option is another than in `config`, which began what is to go on: "a search".
  void require_same(const std::filesystem::path& config, std::string_view what) const;
  std::string help() const;

 private:
  struct Entry {
    Option option;
    std::string heading;
    std::string range;   // "1 to 65536", "full|transfer"
    std::string preset;  // the value's default, as text
    int words = 1;       // of a value
    bool takes_value = true, positional = false, quoted = true;
    bool given = false, typed = false;
    std::function<void(const std::string&)> set;
    std::function<std::string()> show;
  };

  static std::string line_of(const Entry& entry);
  std::string requirement(const Entry& entry) const;
  Entry& declare(Option option);
  std::string did_you_mean(std::string_view name, const std::vector<std::string>& names) const;
  std::optional<std::size_t> find(std::string_view name) const;  // in entries_
  void assign(Entry& entry, const std::string& text);
  [[noreturn]] void fail_usage(const std::string& what, const std::string& expected, const std::string& found) const;
  struct Setting {
    std::size_t entry;  // of entries_
    std::string text;
    int line;
  };
  std::vector<Setting> settings_of(const std::filesystem::path& file) const;

  std::string program_, summary_, usage_, heading_ = "Options", instead_;
  std::vector<std::string> examples_;
  std::vector<Entry> entries_;
  std::string config_file_;
  bool help_ = false, version_ = false, ignores_foreign_ = false;
};

}  // namespace microtome
