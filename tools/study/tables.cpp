#include "tools/study/tables.h"

#include "engine/check.h"
#include "tools/cli/terminal.h"
#include "tools/report/scores.h"
#include "tools/statistics/auc_inference.h"
#include "tools/study/layer_counts.h"
#include "tools/study/published_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace microtome {
namespace {

std::string mode_title(std::string_view mode) {
  return mode == "transfer" ? "Transfer learning" : "Full training";
}

/// The paper's rows of one mode first and in its order, then other networks in ours.
std::vector<std::string> nets_in_order(const Study& study, std::string_view data, std::string_view mode) {
  std::vector<std::string> nets;
  for (const PaperScore& score : paper_scores(data))
    if (score.mode == mode) nets.emplace_back(score.net);
  for (const Arm& arm : study.arms())
    if (arm.data == data && arm.mode == mode && paper_network(arm.net) && std::ranges::find(nets, arm.net) == nets.end())
      nets.push_back(arm.net);
  return nets;
}

/// Why there are no figures.
std::string absence(const Arm* arm) {
  if (!arm) return "–";
  const auto has = [&](CellStatus status) {
    return std::ranges::any_of(arm->cells, [&](const CellState* o) { return o->status == status; });
  };
  if (has(CellStatus::done)) return "no test images";
  if (has(CellStatus::running)) return "running";
  if (has(CellStatus::stopped)) return "stopped";
  return has(CellStatus::failed) ? "failed" : "waiting";
}

Table::Line score_line(const Arm* arm, const PaperScore* paper, std::string group, std::string name) {
  Table::Line line{std::move(group), {name}};
  const auto printed = [&](double PaperScore::*figure) {
    return number(paper ? std::optional(paper->*figure) : std::nullopt, 2);
  };
  if (!arm || arm->runs.empty()) {
    line.values.insert(line.values.end(), {absence(arm),
                                           {},
                                           printed(&PaperScore::loss),
                                           {},
                                           printed(&PaperScore::accuracy),
                                           {},
                                           {},
                                           {},
                                           {},
                                           {},
                                           printed(&PaperScore::auc)});
  } else {
    const Estimate& e = arm->estimate;
    std::optional<double> low, high;
    if (e.auc_ci95) low = e.auc_ci95->first, high = e.auc_ci95->second;
    const Value seeds =
        arm->cells.size() > arm->runs.size() ? Value(fmt::format("{} of {}", e.runs, arm->cells.size())) : number(e.runs, 0);
    line.values.insert(
        line.values.end(),
        {seeds, number(e.loss, 3), printed(&PaperScore::loss), number(e.accuracy, 3), printed(&PaperScore::accuracy),
         number(e.auc, 3), number(e.deviation, 3), number(low, 3), number(high, 3),
         e.groups > 0 ? Value(fmt::format("{} groups{}", e.groups, e.auc_ci95 ? "" : ": too few"))
         : e.auc_ci95 ? Value("images")
                      : Value(),
         printed(&PaperScore::auc)});
  }
  return line;
}

Json said(const CellState& state, const char* key) {
  return state.result.is_object() && state.result.contains(key) ? state.result[key] : Json();
}

std::string text_of(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_integer() ? with_separators(value.get<std::int64_t>()) : value.dump();
}

/// What the cells say, each thing once, in their order.
template <class Get>
std::string each_once(const Study& study, Get get) {
  std::vector<std::string> all;
  for (const CellState& state : study.states()) {
    std::string text = get(state);
    if (!text.empty() && std::ranges::find(all, text) == all.end()) all.push_back(std::move(text));
  }
  return joined(all, "; ");
}

/// A file by its name and its folder's: what comes before belongs to the machine.
std::string file_name(const std::string& path) {
  const std::filesystem::path file(path);
  return file.has_parent_path() ? (file.parent_path().filename() / file.filename()).string() : path;
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

std::string epochs(int count) {
  return fmt::format("{} {}", count, count == 1 ? "epoch" : "epochs");
}

std::string status_text(const CellState& state) {
  switch (state.status) {
    case CellStatus::waiting: return state.why.empty() ? "waiting" : "waits: " + state.why;
    case CellStatus::running: return fmt::format("running, {} done", epochs(state.epochs_done));
    case CellStatus::stopped: return fmt::format("stopped after {}", epochs(state.epochs_done));
    case CellStatus::failed: return state.why.empty() ? "failed" : "failed: " + state.why;
    case CellStatus::done: return "done";
  }
  return "";
}

}  // namespace

Value number(std::optional<double> value, int digits) {
  return value ? Value(Number{*value, digits}) : Value();
}

Value significant(std::optional<double> value, int digits) {
  return value ? Value(Number{*value, digits, true}) : Value();
}

std::string to_text(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  const auto* n = std::get_if<Number>(&value);
  if (!n) return "";
  if (n->significant) return fmt::format("{:.{}g}", n->value, n->digits);
  const std::string text = fmt::format("{:.{}f}", n->value, n->digits);
  return n->digits == 0 ? with_separators(static_cast<std::int64_t>(n->value + (n->value < 0 ? -0.5 : 0.5))) : text;
}

std::string label_of(std::string_view net) {
  const auto found = std::ranges::find(networks(), net, &Network::name);
  if (found == networks().end()) return std::string(net);
  std::string label(found->short_name);
  std::ranges::transform(label, label.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return label;
}

std::string title_of_data(std::string_view data) {
  return data == "pcam" ? "PCam" : data == "idc" ? "IDC" : std::string(data);
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string all;
  for (const std::string& part : parts) all.append(all.empty() ? "" : between).append(part);
  return all;
}

std::vector<std::string> learned_notes(std::span<const CellState> states) {
  std::vector<std::string> notes;
  for (const CellState& state : states)
    if (const std::string text = learned_text(said(state, "test_learned")); !text.empty())
      notes.push_back(fmt::format("{}: {}", state.cell.name(), text));
  return notes;
}

Section table_1(const Study& study) {
  const std::vector<std::string> data = study.data_sets();
  const int side = data.size() == 1 && data[0] == "idc" ? 50 : 96;
  Table table{
      .key = "table1",
      .heading = "Table 1, corrected: the networks",
      .columns = {{"network", "network", ""},
                  {"weight_layers", "with weights", "layers as trained"},
                  {"keras_layers", "all, as Keras counts", "layers as trained"},
                  {"paper_depth", "printed", "paper's depth"},
                  {"paper_rule", "which is", "paper's depth"},
                  {"parameters", "full", "parameters as trained"},
                  {"parameters_transfer", "transfer", "parameters as trained"},
                  {"paper_parameters_millions", "printed, M", "paper's parameters"},
                  {"imagenet_parameters_millions", "1000 classes, M", "paper's parameters"}},
      .lines = {},
      .notes = {
          fmt::format("Parameters as trained: at {0}x{0}, with the study's head; under transfer the head's alone are.", side),
          "The paper printed the parameters of the published models with 1000 classes, which it did not train."}};
  for (const Network& network : networks()) {
    const bool run = std::ranges::any_of(study.arms(), [&](const Arm& a) { return a.net == network.name; });
    const PaperNetwork* paper = paper_network(network.name);
    if (!paper && !run) continue;
    Table::Line line{"", {label_of(network.name)}};
    std::optional<double> weights, layers, parameters, head, published;
    std::string rule;
    try {
      Graph graph = network.build(side);
      const LayerCounts counts = count_layers(network, graph);
      weights = counts.weight_layers, layers = counts.keras_layers, parameters = graph.parameter_count();
      if (network.top) graph.freeze_base(), head = graph.parameter_count(true);
    } catch (const Error&) {
      rule = "too small an image for it";
    }
    if (network.top) {
      const Graph top = network.build(network.published_size, Head::imagenet);
      published = static_cast<double>(top.parameter_count()) * 1e-6;
      if (paper && paper->depth == count_layers(network, top).weight_layers) rule = "with weights, of 1000 classes";
    }
    if (paper && rule.empty()) rule = paper->depth == layers ? "all, as Keras counts" : "neither: a slip";
    line.values.insert(
        line.values.end(),
        {number(weights, 0), number(layers, 0), number(paper ? std::optional<double>(paper->depth) : std::nullopt, 0), rule,
         number(parameters, 0), number(head, 0), number(paper ? std::optional(paper->parameters) : std::nullopt, 1),
         number(published, 2)});
    table.lines.push_back(std::move(line));
  }
  return {.heading = table.heading, .said = {}, .figures = {}, .tables = {table}};
}

Section table_2(const Study& study) {
  Table table{.key = "table2",
              .heading = "Table 2: seconds an epoch",
              .columns = {{"network", "network", ""},
                          {"mode", "mode", ""},
                          {"data", "data", ""},
                          {"images_per_second", "images/s", "here"},
                          {"train_images", "images an epoch", "here"},
                          {"seconds_per_epoch", "s an epoch", "here"},
                          {"seconds_scaled", "s, scaled", "here"},
                          {"features_seconds", "features, s", "here"}},
              .lines = {},
              .notes = {}};
  for (const std::string_view gpu : paper_gpus)
    table.columns.push_back({fmt::format("paper_{}_seconds", gpu), std::string(gpu), "paper"});
  bool scaled = false, kept = false;
  const auto add = [&](std::string_view net, std::string_view mode, std::string_view data) {
    std::vector<double> rates;
    const CellState* one = nullptr;
    for (const Arm& arm : study.arms()) {
      if (arm.net != net || arm.mode != mode || arm.data != data || !study.is_main(arm)) continue;
      for (const CellState* state : arm.cells) {
        const Json rate = said(*state, "images_per_second");
        if (!rate.is_number() || !(rate.get<double>() > 0)) continue;
        rates.push_back(rate.get<double>());
        one = state;
      }
    }
    const bool printed = data == "pcam" && study_seconds(net, mode == "transfer", "A100");
    if (rates.empty() && !printed) return;
    Table::Line line{rates.empty() ? "Not yet run here" : text_of(said(*one, "device_description")),
                     {label_of(net), std::string(mode), title_of_data(data)}};
    if (rates.empty()) {
      line.values.insert(line.values.end(), 5, {});
    } else {
      std::ranges::sort(rates);
      const double rate = (rates[(rates.size() - 1) / 2] + rates[rates.size() / 2]) / 2;
      const Json images = said(*one, "train_images"), features = said(*one, "features_seconds");
      const std::optional<double> count = images.is_number() ? std::optional(images.get<double>()) : std::nullopt;
      const bool has_features = text_of(said(*one, "features")) == "kept" && features.is_number();
      scaled |= data == "pcam" && count != paper_epoch_images;
      kept |= has_features;
      const double scaled_seconds = paper_epoch_images / rate;
      line.values.insert(line.values.end(), {number(rate, rate < 100 ? 1 : 0), number(count, 0),
                                             number(count ? std::optional(*count / rate) : std::nullopt, 2),
                                             data == "pcam" ? number(scaled_seconds, scaled_seconds < 100 ? 1 : 0) : Value(),
                                             has_features ? number(features.get<double>(), 1) : Value()});
    }
    for (const std::string_view gpu : paper_gpus)
      line.values.push_back(number(data == "pcam" ? study_seconds(net, mode == "transfer", gpu) : std::nullopt, 0));
    table.lines.push_back(std::move(line));
  };
  const auto add_all = [&](std::string_view data, bool printed) {
    std::vector<std::string> nets;
    for (const PaperNetwork& network : paper_networks()) nets.emplace_back(network.net);
    for (const Arm& arm : study.arms())
      if (std::ranges::find(nets, arm.net) == nets.end()) nets.push_back(arm.net);
    for (const std::string& net : nets)
      for (const std::string_view mode : {"transfer", "full"})
        if (printed == (data == "pcam" && study_seconds(net, mode == "transfer", "A100"))) add(net, mode, data);
  };
  add_all("pcam", true);
  for (const std::string& data : study.data_sets()) add_all(data, false);
  std::ranges::stable_sort(table.lines, {}, [](const Table::Line& l) { return l.group == "Not yet run here"; });
  table.notes.push_back(
      "Training alone, without validation; the median over seeds. The paper timed PCam's 262,144 images. Its K80 column is "
      "that "
      "of its code's first version, with Keras 2.2.4 and, for IV3 in full, batches of 64.");
  if (scaled)
    table.notes.push_back(
        "Scaled: to 262,144 images from the images a second of a smaller data set; nothing of that size was run.");
  if (kept)
    table.notes.push_back(
        "Features: the frozen base runs once before the first epoch and an epoch trains the head alone, so that a transfer's "
        "epoch is not the paper's work, whose base ran in every one.");
  return {.heading = table.heading, .said = {}, .figures = {}, .tables = {table}};
}

Section table_3_or_4(const Study& study, std::string_view data) {
  const auto [preprocess, augment] = study.preprocess_and_augment(data);
  const bool pcam = data == "pcam";
  Table table{.key = pcam ? "table3" : "table4",
              .heading = fmt::format("{}: {}, test images", pcam ? "Table 3" : "Table 4", title_of_data(data)),
              .columns = {{"network", "network", ""},
                          {"seeds", "seeds", ""},
                          {"loss", "here", "loss"},
                          {"paper_loss", "paper", "loss"},
                          {"accuracy", "here", "accuracy"},
                          {"paper_accuracy", "paper", "accuracy"},
                          {"auc", "here", "AUC"},
                          {"auc_sd", "± sd", "AUC"},
                          {"auc_low", "95% from", "AUC"},
                          {"auc_high", "to", "AUC"},
                          {"interval_over", "drawn", "AUC"},
                          {"paper_auc", "paper", "AUC"}},
              .lines = {},
              .notes = {}};
  bool several = false, groups = false, few = false;
  const auto note = [&](const Arm* arm) {
    if (!arm || arm->runs.empty()) return;
    several |= arm->runs.size() > 1;
    groups |= arm->estimate.groups > 0;
    few |= arm->estimate.groups > 0 && !arm->estimate.auc_ci95;
  };
  for (const std::string_view mode : {"transfer", "full"}) {
    for (const std::string& net : nets_in_order(study, data, mode)) {
      const auto rows = paper_scores(data);
      const auto paper = std::ranges::find_if(rows, [&](const PaperScore& s) { return s.net == net && s.mode == mode; });
      const Arm* arm = study.main_arm(data, net, mode);
      if (paper == rows.end() && (!arm || arm->runs.empty())) continue;
      table.lines.push_back(score_line(arm, paper == rows.end() ? nullptr : &*paper, mode_title(mode), label_of(net)));
      note(arm);
    }
  }
  for (const Arm& arm : study.arms()) {
    if (arm.data != data || (study.is_main(arm) && paper_network(arm.net))) continue;
    table.lines.push_back(score_line(&arm, nullptr, "Past the paper",
                                     fmt::format("{}, {}, {}{}", label_of(arm.net), arm.mode, arm.preprocess,
                                                 arm.augment == "none" ? "" : ", " + arm.augment)));
    note(&arm);
  }
  table.notes.push_back(fmt::format(
      "Preprocessing {}, augmentation {}, but for the rows past the paper; what has a dash is not in this study. 95% "
      "interval of the AUC for other test images: DeLong's or Newcombe's, the wider, where images were drawn.",
      preprocess, augment));
  if (several)
    table.notes.push_back("Several seeds: means; ± sd of the AUC is between seeds, and the interval is of the mean AUC.");
  if (groups)
    table.notes.push_back(
        "Groups: patients or slides drawn whole with replacement, 2,000 times [Efron1993, Hesterberg2015], since images of one "
        "are no independent witnesses.");
  std::vector<CellState> of_data;
  for (const CellState& state : study.states())
    if (state.cell.data == data) of_data.push_back(state);
  for (std::string& text : learned_notes(of_data)) table.notes.push_back(std::move(text));
  if (few)
    table.notes.push_back(
        fmt::format("Too few groups: less than {} hold images of one of the classes.", ClusterCounts::fewest));
  return {.heading = table.heading, .said = {}, .figures = {}, .tables = {table}};
}

Section cells_section(const Study& study) {
  Table table{.key = "cells",
              .heading = "Every cell",
              .columns = {{"network", "network", ""},
                          {"data", "data", ""},
                          {"mode", "mode", ""},
                          {"preprocess", "preprocess", ""},
                          {"augment", "augment", ""},
                          {"seed", "seed", ""},
                          {"best_epoch", "best epoch", ""},
                          {"loss", "loss", "test"},
                          {"accuracy", "accuracy", "test"},
                          {"auc", "AUC", "test"},
                          {"auc_tta", "AUC of eight views", "test"},
                          {"learned_images", "learned before", "test images"},
                          {"learned_group_images", "of patients learned before", "test images"},
                          {"status", "status", ""}},
              .lines = {},
              .notes = {}};
  for (const CellState& state : study.states()) {
    const Cell& cell = state.cell;
    Table::Line line{"",
                     {label_of(cell.net), cell.data, cell.mode, cell.preprocess, cell.augment, fmt::format("{}", cell.seed)}};
    const Json epoch = said(state, "best_epoch"), test = said(state, "test");
    const auto figure = [&](const Json& metrics, const char* key) {
      return metrics.is_object() && metrics.contains(key) ? number(metrics[key].get<double>(), 4) : Value();
    };
    const auto learned = [&](const char* key) {
      const Json json = said(state, "test_learned");
      return json.is_object() && json.contains(key) && json[key].is_number() ? number(json[key].get<double>(), 0) : Value();
    };
    line.values.insert(line.values.end(), {epoch.is_number() ? number(epoch.get<double>(), 0) : Value(), figure(test, "loss"),
                                           figure(test, "accuracy"), figure(test, "auc"), figure(state.tta, "auc"),
                                           learned("images"), learned("group_images"), status_text(state)});
    table.lines.push_back(std::move(line));
  }
  table.notes = learned_notes(study.states());
  table.notes.insert(table.notes.end(), study.notes().begin(), study.notes().end());
  return {.heading = table.heading, .said = {}, .figures = {}, .tables = {table}};
}

std::vector<std::pair<std::string, std::string>> facts_of(const Study& study) {
  std::vector<std::pair<std::string, std::string>> facts;
  for (const std::string& data : study.data_sets()) {
    facts.emplace_back(title_of_data(data), each_once(study, [&](const CellState& o) -> std::string {
                         if (o.cell.data != data || !said(o, "train_images").is_number()) return "";
                         std::string text = text_of(said(o, "train_images")) + " training images";
                         for (const auto& [key, name] : {std::pair("validation", "validation"), std::pair("test", "test")}) {
                           const Json metrics = said(o, key);
                           if (!metrics.is_object() || !metrics.contains("n")) continue;
                           text += fmt::format(", {} of {}, {} of them of class 1", text_of(metrics["n"]), name,
                                               text_of(metrics["positives"]));
                         }
                         if (data == "idc" && !o.split_by.empty()) text += ", split by " + o.split_by;
                         return text;
                       }));
  }
  const auto of_cell = [&](const char* what, auto get) { facts.emplace_back(what, each_once(study, get)); };
  of_cell("networks", [](const CellState& o) { return label_of(o.cell.net); });
  of_cell("modes", [](const CellState& o) { return o.cell.mode; });
  of_cell("seeds", [](const CellState& o) { return fmt::format("{}", o.cell.seed); });
  of_cell("preprocessing", [](const CellState& o) { return o.cell.preprocess; });
  of_cell("augmentation", [](const CellState& o) { return o.cell.augment; });
  of_cell("initial weights", [](const CellState& o) -> std::string {
    const Json weights = said(o, "weights");
    if (o.status != CellStatus::done || !o.result.contains("weights")) return "";
    std::string name = text_of(weights);
    if (name.empty()) return o.cell.mode + ": random";
    name = replaced(file_name(name), o.cell.net, "<network>");
    name = replaced(name, fmt::format("-{}/", o.cell.seed), "-<seed>/");
    return fmt::format("{}: {}", o.cell.mode, name);
  });
  for (const auto& [key, what] : std::initializer_list<std::pair<const char*, const char*>>{{"epochs", "epochs"},
                                                                                            {"batch_size", "batch size"},
                                                                                            {"learning_rate", "learning rate"},
                                                                                            {"precision", "precision"},
                                                                                            {"device_description", "device"},
                                                                                            {"versions", "libraries"},
                                                                                            {"commit", "commit"}})
    of_cell(what, [key](const CellState& o) { return text_of(said(o, key)); });
  std::erase_if(facts, [](const auto& fact) { return fact.second.empty(); });
  return facts;
}

}  // namespace microtome
