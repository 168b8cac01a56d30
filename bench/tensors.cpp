#include "bench/tensors.h"

#include "engine/random.h"
#include "kernels/reference/judge.h"

#include <algorithm>

namespace microtome::bench {

namespace {

std::size_t memory_bytes(const Layout& layout) {
  return static_cast<std::size_t>(layout.shape.n * layout.strides.n) * size_bytes(layout.dtype);
}

}  // namespace

Layout Tensors::batch(const Shape& image, int room) const {
  const Shape all{filling_.images, image.h, image.w, image.c};
  return {all, backend_.activation_type(), packed({all.n, all.h, all.w, std::max(room, all.c)})};
}

std::vector<double> Tensors::drawn(std::size_t count, Spread spread) {
  std::vector<double> values(count);
  std::array<std::uint32_t, 4> words{};
  const std::uint64_t stream = stream_++;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 4 == 0) words = philox(1, stream, i / 4);
    const std::uint32_t word = words[i % 4];
    const double integer = (static_cast<int>(word % 3) + 1) * (word & 0x10000 ? 1 : -1);
    values[i] = filling_.fill == Fill::integers
                    ? integer
                    : rounded(spread.scale * (2.0 * unit_float(word) - 1) + spread.offset, filling_.factor_bits);
  }
  return values;
}

/// The few images' elements where they lie; zeros where a pixel has room for more channels.
std::vector<std::uint8_t> Tensors::pattern(const Layout& layout, Spread spread) {
  Layout few = layout;
  few.shape.n = std::min(layout.shape.n, filling_.period);
  const std::vector<double> values = drawn(static_cast<std::size_t>(few.shape.count()), spread);
  const std::size_t size = size_bytes(layout.dtype), c = static_cast<std::size_t>(few.shape.c);
  std::vector<std::uint8_t> bytes(memory_bytes(few));
  for (std::size_t i = 0; i < values.size(); ++i)
    store(&bytes[(i / c * static_cast<std::size_t>(few.strides.w) + i % c) * size], layout.dtype, values[i]);
  return bytes;
}

/// The pattern as often as it fits, and what of it still does.
Tensor Tensors::filled(const Layout& layout, const std::vector<std::uint8_t>& pattern) {
  const std::size_t size = memory_bytes(layout);
  Tensor tensor{layout, allocate(size)};
  std::size_t done = std::min(size, pattern.size());
  backend_.write(tensor.data, pattern.data(), done);
  while (done < size) {
    const std::size_t more = std::min(done, size - done);
    backend_.copy(tensor.as<std::byte>() + done, tensor.data, more);
    done += more;
  }
  return tensor;
}

Tensor Tensors::whole(const Layout& layout, Spread spread) {
  return given(layout, drawn(static_cast<std::size_t>(layout.shape.count()), spread));
}

Tensor Tensors::repeated(const Layout& flat, std::size_t period, Spread spread) {
  const std::size_t count = std::min(period, static_cast<std::size_t>(flat.shape.count())), size = size_bytes(flat.dtype);
  const std::vector<double> values = drawn(count, spread);
  std::vector<std::uint8_t> bytes(count * size);
  for (std::size_t i = 0; i < count; ++i) store(&bytes[i * size], flat.dtype, values[i]);
  return filled(flat, bytes);
}

Tensor Tensors::given(const Layout& layout, const std::vector<double>& values) {
  const std::size_t size = size_bytes(layout.dtype);
  std::vector<std::uint8_t> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) store(&bytes[i * size], layout.dtype, values[i]);
  return filled(layout, bytes);
}

Tensor Tensors::output(std::string_view name, const Layout& layout, Rule rule) {
  return written(name, filled(layout, std::vector<std::uint8_t>(4096, 0xFF)), rule);
}

Tensor Tensors::written(std::string_view name, const Tensor& tensor, Rule rule) {
  outputs_.push_back({std::string(name), tensor, rule});
  return tensor;
}

std::vector<double> Tensors::read(const Tensor& tensor) const {
  const Shape& s = tensor.shape;
  const std::size_t size = size_bytes(tensor.dtype), count = static_cast<std::size_t>(s.count()),
                    c = static_cast<std::size_t>(s.c);
  std::vector<std::uint8_t> bytes(memory_bytes(tensor));
  backend_.read(bytes.data(), tensor.data, bytes.size());
  std::vector<double> values;
  values.reserve(count);
  const std::size_t room = static_cast<std::size_t>(tensor.strides.w);
  for (std::size_t pixel = 0; pixel < count / c; ++pixel)
    for (std::size_t i = pixel * room; i < pixel * room + c; ++i) values.push_back(load(&bytes[i * size], tensor.dtype));
  return values;
}

void* Tensors::allocate(std::size_t bytes) {
  buffers_.push_back(backend_.allocate(std::max<std::size_t>(bytes, 1)));
  bytes_ += bytes;
  return buffers_.back().data();
}

}  // namespace microtome::bench
