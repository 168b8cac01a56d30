#include "tools/report/html.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdio>
#include <memory>

extern char** environ;

namespace microtome {
namespace {

constexpr std::string_view style = R"(
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --blue: #2563a8; --pink: #b83280; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f5f8; color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 12px; }
p.lead { color: var(--soft); margin: 0 0 28px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; margin: 0 0 20px; overflow-x: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 16px; margin: 0 0 20px; }
.figures div { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.figures b { display: block; font-size: 27px; font-weight: 650; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 14px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 20px; }
.pair section { margin: 0; } .pair { margin: 0 0 20px; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
td:first-child, th:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.best td { color: var(--pink); font-weight: 600; }
table.confusion td { text-align: center; border: 3px solid #fff; border-radius: 8px; padding: 14px 22px; min-width: 130px; }
table.confusion td b { display: block; font-size: 21px; }
table.confusion td:first-child, table.confusion th { text-align: center; border-bottom: 0; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; } table.facts td:first-child { color: var(--soft); white-space: nowrap; }
pre { margin: 0; font: 14px/1.55 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 14px; }
)";

/// gnuplot's own header lines stay out: the page is HTML, and the SVG is inline.
std::string inline_svg(const std::string& svg) {
  const auto begin = svg.find("<svg");
  return begin == std::string::npos ? std::string() : svg.substr(begin);
}

}  // namespace

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

std::string drawing(const std::string& script) {
  const std::optional<std::string> svg = run_gnuplot(script);
  return svg ? inline_svg(*svg) : "<p>No drawing: gnuplot was not found when this page was written.</p>";
}

std::string plot_section(std::string_view heading, const std::string& script, std::string_view more) {
  return fmt::format("<section><h2>{}</h2>{}{}</section>\n", heading, drawing(script), more);
}

std::optional<std::string> run_gnuplot(std::string_view script) {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> in(std::tmpfile()), out(std::tmpfile());
  if (!in || !out || std::fwrite(script.data(), 1, script.size(), in.get()) != script.size()) return std::nullopt;
  std::rewind(in.get());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(in.get()), 0);
  posix_spawn_file_actions_adddup2(&actions, fileno(out.get()), 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);  // 1: O_WRONLY
  char name[] = "gnuplot";
  char* arguments[] = {name, nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || waitpid(child, &status, 0) != child || status != 0) return std::nullopt;

  std::rewind(out.get());
  std::string text;
  char block[4096];
  for (std::size_t count; (count = std::fread(block, 1, sizeof block, out.get())) > 0;) text.append(block, count);
  return text;
}

std::string figures_row(Facts figures) {
  std::string html = "<div class=\"figures\">";
  for (const auto& [name, value] : figures)
    html += fmt::format("<div><b>{}</b><span>{}</span></div>", escape(value), escape(name));
  return html + "</div>\n";
}

std::string facts_section(std::string_view heading, Facts facts) {
  std::string html = fmt::format("<section><h2>{}</h2><table class=\"facts\">", escape(heading));
  for (const auto& [name, value] : facts) html += fmt::format("<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
  return html + "</table></section>";
}

std::string page(std::string_view title, std::string_view lead, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n"
      "<h1>{0}</h1>\n<p class=\"lead\">{2}</p>\n{3}</main>\n</body>\n</html>\n",
      escape(title), style, escape(lead), body);
}

}  // namespace microtome
