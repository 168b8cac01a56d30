// oneDNN, in the few words that the CPU backend needs: one engine, one stream, primitives with their arguments, errors as ours.
// Where oneDNN 2 and 3 differ, the types of the one that is installed decide; nobody else knows.
#pragma once

#include "engine/check.h"
#include "engine/host_memory.h"
#include "engine/vendor_call.h"
#include "kernels/cpu/cpu.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <source_location>
#include <unordered_map>
#include <utility>

namespace microtome::onednn {

inline dnnl::engine& engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

inline dnnl::stream& stream() {
  static dnnl::stream stream(engine());
  return stream;
}

/// What oneDNN throws becomes an Error that says which op met it.
template <class F>
decltype(auto) check(std::string_view what, const F& f, std::source_location at = std::source_location::current()) {
  const VendorCall call("oneDNN");
  try {
    return f();
  } catch (const dnnl::error& error) {
    const std::string text = fmt::format("{}: oneDNN: {}", what, error.what());
    if (error.status == dnnl_out_of_memory) fail_memory(text, {.found = to_text(host_memory())}, at);
    fail(ExitCode::bug, text, {}, at);
  }
}

/// oneDNN writes to its scratch only what it is given.
inline dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

/// What Op is to compute becomes an implementation. oneDNN 2 has operation descriptors between the two; oneDNN 3 does without.
template <class Op, class... Operation>
typename Op::primitive_desc describe(const dnnl::primitive_attr& attributes, const Operation&... operation) {
  if constexpr (requires { typename Op::desc; })
    return {typename Op::desc(operation...), attributes, engine()};
  else
    return {engine(), operation..., attributes};
}

/// The same of a gradient, which may want to know how its forward pass runs.
template <class Op, class Forward, class... Operation>
typename Op::primitive_desc describe_backward(const Forward& forward, const dnnl::primitive_attr& attributes,
                                              const Operation&... operation) {
  if constexpr (requires { typename Op::desc; })
    return {typename Op::desc(operation...), attributes, engine(), forward};
  else
    return {engine(), operation..., forward, attributes};
}

/// How a tensor lies in memory: blocks of `inner_sizes`, cut from the dimensions `inner_dimensions`; the blocks at `strides`.
/// Empty where oneDNN does not tell.
struct Blocks {
  dnnl::memory::dims dims, strides, inner_sizes, inner_dimensions;
};

template <class Description>
Blocks blocks_of(const Description& desc) {
  if constexpr (requires { desc.get_inner_blks(); }) {
    return {desc.get_dims(), desc.get_strides(), desc.get_inner_blks(), desc.get_inner_idxs()};
  } else {
    if (desc.data.format_kind != dnnl_blocked) return {};
    const auto& format = desc.data.format_desc.blocking;
    const auto list = [](const dnnl_dim_t* first, int count) { return dnnl::memory::dims(first, first + count); };
    return {desc.dims(), list(format.strides, desc.data.ndims), list(format.inner_blks, format.inner_nblks),
            list(format.inner_idxs, format.inner_nblks)};
  }
}

/// A primitive and its arguments. Everything but addresses is fixed when it is made.
class Primitive {
 public:
  Primitive() = default;

  template <class Description>
  Primitive(const dnnl::primitive& primitive, const Description& description, ScratchPlan& plan)
      : primitive_(primitive), implementation_(description.impl_info_str()) {
    scratchpad_ = plan.take(description.scratchpad_desc().get_size());
    argument(DNNL_ARG_SCRATCHPAD, description.scratchpad_desc());
  }

  void argument(int which, const dnnl::memory::desc& desc) {
    arguments_.insert_or_assign(which, dnnl::memory(desc, engine(), nullptr));
  }
  void bind(int which, void* data) { arguments_.at(which).set_data_handle(data); }

  void run(const Scratch& scratch) {
    bind(DNNL_ARG_SCRATCHPAD, scratch.at<std::byte>(scratchpad_));
    primitive_.execute(stream(), arguments_);
    stream().wait();
  }

  const std::string& implementation() const { return implementation_; }

 private:
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
  std::size_t scratchpad_ = 0;
  std::string implementation_;
};

/// Brings a tensor from one format to another, or does nothing where both are the same.
class Reorder {
 public:
  Reorder() = default;
  Reorder(const dnnl::memory::desc& from, const dnnl::memory::desc& to, ScratchPlan& plan) {
    const dnnl::reorder::primitive_desc description(engine(), from, engine(), to, attributes());
    primitive_ = Primitive(dnnl::reorder(description), description, plan);
    primitive_.argument(DNNL_ARG_FROM, from);
    primitive_.argument(DNNL_ARG_TO, to);
  }

  void run(void* from, void* to, const Scratch& scratch) {
    primitive_.bind(DNNL_ARG_FROM, from);
    primitive_.bind(DNNL_ARG_TO, to);
    primitive_.run(scratch);
  }

 private:
  Primitive primitive_;
};

}  // namespace microtome::onednn
