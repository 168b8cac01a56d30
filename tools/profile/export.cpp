#include "tools/profile/export.h"

#include "data/csv.h"
#include "tools/profile/text.h"

#include <fmt/format.h>

namespace microtome {
namespace {

Json json_of(const LayerLine& l, const Profile& p) {
  const auto number = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  Json counted = Json::object();
  for (std::size_t i = 0; i < l.counted.size(); ++i)
    counted[p.counters[i].name] = l.counted[i] ? Json(*l.counted[i] / p.counters[i].scale) : Json(nullptr);
  return {{"row", l.row},
          {"kind", l.kind},
          {"pass", name(l.pass)},
          {"ns_per_step", l.ns},
          {"ns_per_step_ci95", {number(l.low_ns), number(l.high_ns)}},
          {"seconds_per_epoch", p.seconds(l.ns)},
          {"share_of_epoch", p.seconds(l.ns) / p.epoch_seconds},
          {"calls_per_step", number(l.calls)},
          {"pieces_per_step", l.pieces},
          {"analytic_flop", number(l.cost.flop)},
          {"analytic_bytes", number(l.cost.bytes)},
          {"bound", l.bound_ns > 0 ? Json(l.compute_bound ? "product" : "copy") : Json(nullptr)},
          {"bound_ns_per_step", number(l.bound_ns)},
          {"save_seconds_per_epoch", l.bound_ns > 0 ? Json(p.seconds(l.saving_ns())) : Json(nullptr)},
          {"counters", counted},
          {"traced_samples_ns", l.samples_ns}};
}

}  // namespace

Json to_json(const Profile& p) {
  Json json{{"schema", profile_schema}, {"run", p.run}, {"device", p.device}};
  json["method"] = {{"steps", p.sampling.steps},    {"warm_up", p.sampling.warm_up},      {"burst", p.sampling.burst},
                    {"scaled_to", "untraced"},      {"epoch_steps", p.epoch.steps},       {"epoch_images", p.epoch.images},
                    {"dropped_records", p.dropped}, {"unfinished_records", p.unfinished}, {"note", p.note}};
  json["roofs"] = {{"flop_per_second", p.roofs.flop_per_second}, {"bytes_per_second", p.roofs.bytes_per_second}};
  json["distortion"] = {{"untraced_ns_per_step", p.untraced_ns},
                        {"traced_ns_per_step", p.traced_ns},
                        {"share", p.traced_ns / p.untraced_ns - 1},
                        {"named_ns_per_step", p.layers_ns},
                        {"named_share", p.attributed},
                        {"overlap_share", p.overlap},
                        {"untraced_samples_ns", p.untraced_samples_ns}};
  json["epoch_seconds"] = p.epoch_seconds;
  json["ledger"] = Json::array();
  for (const LedgerLine& l : p.ledger)
    json["ledger"].push_back({{"name", l.name},
                              {"seconds", l.seconds},
                              {"share", l.seconds / p.epoch_seconds},
                              {"us_per_image", l.seconds / p.epoch.images * 1e6}});
  json["counters"] = Json::array();
  for (const Counter& c : p.counters) json["counters"].push_back({{"name", c.name}, {"metric", c.metric}});
  json["layers"] = Json::array();
  for (const LayerLine& l : p.layers) json["layers"].push_back(json_of(l, p));
  json["kernels"] = Json::array();
  for (const KernelLine& k : p.kernels)
    json["kernels"].push_back({{"name", k.name},
                               {"ns_per_step", k.ns},
                               {"seconds_per_epoch", p.seconds(k.ns)},
                               {"pieces_per_step", k.pieces},
                               {"registers", k.launch.registers},
                               {"shared_bytes", k.launch.shared_bytes},
                               {"local_bytes", k.launch.local_bytes},
                               {"grid", k.launch.grid},
                               {"block", k.launch.block},
                               {"scopes", k.scopes}});
  json["plans"] = Json::array();
  for (const PlannedKernel& k : p.plans)
    json["plans"].push_back({{"row", p.rows[static_cast<std::size_t>(k.row)]}, {"implementation", k.implementation}});
  json["memory"] = Json::array();
  for (const ProgramMemory::Life& l : p.memory.lives)
    json["memory"].push_back({{"row", p.rows[static_cast<std::size_t>(l.row)]},
                              {"what", l.gradient ? "gradient" : "activation"},
                              {"first", l.first},
                              {"last", l.last},
                              {"bytes", l.bytes}});
  json["advice"] = Json::array();
  for (const Advice& a : p.advice)
    json["advice"].push_back({{"seconds_per_epoch", a.seconds}, {"what", a.what}, {"evidence", a.evidence}, {"next", a.next}});
  return json;
}

std::string layers_csv(const Profile& p) {
  std::string csv =
      "row,kind,pass,ns_per_step,low_ns,high_ns,seconds_per_epoch,calls_per_step,pieces_per_step,analytic_flop,analytic_bytes,"
      "bound,save_seconds_per_epoch";
  for (const Counter& c : p.counters) csv += "," + c.metric;
  csv += "\n";
  const auto exact = [](double value) { return value > 0 ? fmt::format("{:.9g}", value) : ""; };
  for (const LayerLine& l : p.layers) {
    csv += fmt::format("{},{},{},{:.9g},{},{},{:.9g},{},{:.9g},{},{},{},{}", l.row, l.kind, name(l.pass), l.ns, exact(l.low_ns),
                       exact(l.high_ns), p.seconds(l.ns), known(l.calls, 0), l.pieces, known(l.cost.flop, 0),
                       known(l.cost.bytes, 0), l.bound_ns > 0 ? (l.compute_bound ? "product" : "copy") : "",
                       l.bound_ns > 0 ? fmt::format("{:.9g}", p.seconds(l.saving_ns())) : "");
    for (std::size_t i = 0; i < p.counters.size(); ++i)
      csv += l.counted[i] ? fmt::format(",{:.9g}", *l.counted[i] / p.counters[i].scale) : ",";
    csv += "\n";
  }
  return csv;
}

std::string kernels_csv(const Profile& p) {
  std::string csv = "kernel,ns_per_step,seconds_per_epoch,pieces_per_step,registers,shared_bytes,local_bytes,scopes\n";
  for (const KernelLine& k : p.kernels) {
    std::string scopes;
    for (const std::string& scope : k.scopes) scopes += (scopes.empty() ? "" : "; ") + scope;
    csv += fmt::format("{},{:.9g},{:.9g},{:.9g},{},{},{},{}\n", csv_field(k.name), k.ns, p.seconds(k.ns), k.pieces,
                       k.launch.registers, k.launch.shared_bytes, k.launch.local_bytes, csv_field(scopes));
  }
  return csv;
}

}  // namespace microtome
