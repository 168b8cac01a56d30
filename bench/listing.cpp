#include "bench/listing.h"

#include "bench/case_name.h"
#include "bench/ops.h"
#include "engine/check.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

namespace microtome::bench {

namespace {

using Json = nlohmann::ordered_json;

struct Count {
  int distinct = 0, passes = 0, rows = 0;
};

std::string name_of(const Problem& problem) {
  return problem.op + (problem.deferred ? "/deferred" : "");
}

/// Rows that run as such: a variant for deferral stands for the same rows again.
std::map<Problem::Where, std::map<std::string, int>> rows_by_network(const Problems& problems) {
  std::map<Problem::Where, std::map<std::string, int>> rows;
  for (const Problem& problem : problems.all)
    for (const auto& [where, count] : problem.uses)
      if (!problem.deferred) rows[where][problem.op] += count;
  return rows;
}

}  // namespace

std::string table(const Problems& problems) {
  std::vector<std::string> order;
  std::map<std::string, Count> counts;
  Count all;
  for (const Problem& problem : problems.all) {
    const std::string name = name_of(problem);
    if (!counts.contains(name)) order.push_back(name);
    const int passes = static_cast<int>(passes_of(problem).size());
    for (Count* count : {&counts[name], &all}) ++count->distinct, count->passes += passes, count->rows += problem.total_uses();
  }
  std::sort(order.begin(), order.end());
  std::string text = fmt::format("{:<28} {:>9} {:>8} {:>8}\n", "op", "distinct", "passes", "rows");
  const auto line = [&](const std::string& name, const Count& count) {
    text += fmt::format("{:<28} {:>9} {:>8} {:>8}\n", name, count.distinct, count.passes, count.rows);
  };
  for (const std::string& name : order) line(name, counts[name]);
  line("all", all);
  text +=
      "/deferred: as asked for where a backend defers batch-norms; the same rows again. A pass is a case at each batch, warm "
      "and\n"
      "cold. Concatenation has none: every producer writes into its slice" +
      std::string(counts.contains("copy") ? " but those that are copied.\n" : ".\n");

  const std::vector<std::string> columns{"conv",     "depthwise_conv", "batch_norm", "activation",
                                         "max_pool", "average_pool",   "add",        "multiply"};
  text += fmt::format("\n{:<28}", "rows of");
  for (const std::string& column : columns) text += fmt::format(" {:>{}}", column, std::max<std::size_t>(column.size(), 6));
  text += "\n";
  for (const auto& [where, rows] : rows_by_network(problems)) {
    text += fmt::format("{:<28}", fmt::format("{}@{}", where.first, where.second));
    for (const std::string& column : columns)
      text += fmt::format(" {:>{}}", rows.contains(column) ? rows.at(column) : 0, std::max<std::size_t>(column.size(), 6));
    text += "\n";
  }
  for (const auto& [net, size] : problems.too_small)
    text += fmt::format("{}@{}: left out, the image is too small for it\n", net, size);
  return text;
}

std::string json(const Problems& problems) {
  Json all = Json::array(), left_out = Json::array();
  for (const Problem& problem : problems.all) {
    Json uses = Json::array(), inputs = Json::array();
    for (const auto& [where, rows] : problem.uses)
      uses.push_back({{"net", where.first}, {"size", where.second}, {"rows", rows}});
    for (const Shape& x : problem.inputs) inputs.push_back({x.h, x.w, x.c});
    const Shape& y = problem.output;
    all.push_back({{"op", problem.op},
                   {"label", problem.label},
                   {"deferred", problem.deferred},
                   {"inputs", inputs},
                   {"output", {y.h, y.w, y.c}},
                   {"passes", passes_of(problem)},
                   {"uses", problem.total_uses()},
                   {"where", uses}});
  }
  for (const auto& [net, size] : problems.too_small) left_out.push_back({{"net", net}, {"size", size}});
  return Json{{"microtome_schema", "1"}, {"problems", all}, {"too_small", left_out}}.dump(2) + "\n";
}

std::vector<Choice> choices(const Problems& problems, const std::vector<int>& batches,
                            const std::function<bool(const std::string&)>& wanted, Backend& backend) {
  std::vector<Choice> found;
  for (const Problem& problem : problems.all) {
    if (!std::holds_alternative<Conv>(problem.kind)) continue;
    for (const int images : batches) {
      const std::string name =
          fmt::format("{}/{}/{}{}", problem.op, problem.label, batch_name(images), problem.deferred ? "/deferred" : "");
      if (!wanted(name)) continue;
      if (const std::shared_ptr<Op> op = op_of(problem, images, backend)) found.push_back({name, op->describe()});
    }
  }
  return found;
}

std::string table(const std::vector<Choice>& choices) {
  std::string text;
  for (const Choice& choice : choices) text += fmt::format("{}: {}\n", choice.name, choice.what);
  return text;
}

std::string json(const std::vector<Choice>& choices) {
  Json all = Json::array();
  for (const Choice& choice : choices) all.push_back({{"case", choice.name}, {"plan", choice.what}});
  return Json{{"microtome_schema", "1"}, {"plans", all}}.dump(2) + "\n";
}

}  // namespace microtome::bench
