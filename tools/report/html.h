// Pages of one file that need no network: one look, drawings by gnuplot as SVG in the page.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace microtome {

std::string escape(std::string_view text);

/// The whole document.
std::string page(std::string_view title, std::string_view lead, std::string_view body);

using Facts = std::span<const std::pair<std::string, std::string>>;  // what, and what of it
std::string figures_row(Facts figures);                              // large, at the top
std::string facts_section(std::string_view heading, Facts facts);

/// What gnuplot draws, or a sentence that it is missing.
std::string drawing(const std::string& script);
/// Under a heading, and `more` below it.
std::string plot_section(std::string_view heading, const std::string& script, std::string_view more = "");

/// A script's first lines, behind its `set terminal svg …`.
inline constexpr std::string_view plot_look = R"(set encoding utf8
set border 3 linecolor rgb '#98a2b3'
set tics nomirror out scale 0.6 textcolor rgb '#475467'
set grid linecolor rgb '#e4e7ec' linetype 1 linewidth 1
set key textcolor rgb '#1d2433' samplen 2.2 spacing 1.15
)";

/// What gnuplot prints for `script`; nothing where there is no gnuplot or it fails.
std::optional<std::string> run_gnuplot(std::string_view script);

}  // namespace microtome
