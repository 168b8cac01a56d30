// Memory of what is measured, so filled that it can be checked: of a batch's images the first few differ, the others repeat
// them. What the reference makes of those few is then known of the whole batch, of sums over it as well.
#pragma once

#include "engine/backend.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace microtome::bench {

/// integers: -3 … 3 without 0, whose sums are exact in every type. uniform: [-1, 1) in as many bits as the factors of products
/// have.
enum class Fill { integers, uniform };

/// What a fill's values v become: scale v + offset.
struct Spread {
  double scale = 1, offset = 0;
};

/// How an output is held against the reference's.
struct Rule {
  bool exact = false;    // equal; else at most twice as wrong as the plain loop
  double additions = 1;  // behind each element
  int factor_bits = 53;  // of products' factors that the op makes on the way
  bool sums = false;     // over the images: so many times the few images' sum as these stand in the batch
  enum class Rows {
    each,
    totals,     // partial sums: their totals count
    statistics  // of the output declared before: they must be those of that as it was written
  } rows = Rows::each;
  std::string_view like = {};  // the output whose values these are as well, rounded to their own type
};

struct Output {
  std::string name;
  Tensor tensor;
  Rule rule;
};

/// What a fill depends on.
struct Filling {
  Fill fill = Fill::uniform;
  int factor_bits = 24;     // of products: 24 in f32, 11 in tf32, 8 in bf16
  int images = 1;           // of the batch
  int period = 1;           // of which so many differ
  bool first_only = false;  // and only so many are checked, the first, since the others are not treated alike; no sums
};

class Tensors {
 public:
  Tensors(Backend& backend, const Filling& filling) : backend_(backend), filling_(filling) {}

  Backend& backend() const { return backend_; }
  const Filling& filling() const { return filling_; }
  int images() const { return filling_.images; }
  Layout batch(const Shape& image, int room = 0) const;  // of the activations' type
  Layout parameters(const Shape& shape) const { return {shape, backend_.parameter_type()}; }
  Layout weights(const Shape& shape) const { return {shape, backend_.activation_type()}; }

  /// Filled. Of a batch: `layout` is that of all images.
  Tensor images(const Layout& layout, Spread spread = {}) { return filled(layout, pattern(layout, spread)); }
  Tensor whole(const Layout& layout, Spread spread = {});
  /// A vector whose values repeat after `period` elements.
  Tensor repeated(const Layout& flat, std::size_t period, Spread spread = {});
  /// Repeated where there are fewer.
  Tensor given(const Layout& layout, const std::vector<double>& values);

  /// NaN, to be written. `written` marks what an op reads and writes.
  Tensor output(std::string_view name, const Layout& layout, Rule rule);
  Tensor written(std::string_view name, const Tensor& tensor, Rule rule);

  template <class T>
  T* object(const T& value) {
    void* data = allocate(sizeof(T));
    backend_.write(data, &value, sizeof(T));
    return static_cast<T*>(data);
  }

  const std::vector<Output>& outputs() const { return outputs_; }
  /// As doubles, in row-major order of the shape.
  std::vector<double> read(const Tensor& tensor) const;
  std::size_t bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> pattern(const Layout& layout, Spread spread);
  std::vector<double> drawn(std::size_t count, Spread spread);
  Tensor filled(const Layout& layout, const std::vector<std::uint8_t>& pattern);
  void* allocate(std::size_t bytes);

  Backend& backend_;
  Filling filling_;
  std::vector<Buffer> buffers_;
  std::vector<Output> outputs_;
  std::uint64_t stream_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace microtome::bench
