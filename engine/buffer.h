// Owns memory of a backend; gives it back when it goes.
#pragma once

#include <cstddef>
#include <utility>

namespace microtome {

/// Whatever shares a block of memory begins at multiples of this.
constexpr std::size_t alignment_bytes = 256;
constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
}

class Buffer {
 public:
  using Release = void (*)(void*) noexcept;

  Buffer() = default;
  Buffer(void* data, std::size_t size_bytes, Release release) : data_(data), size_bytes_(size_bytes), release_(release) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) release_(data_);
  }

  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(release_, other.release_);
  }

  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  Release release_ = nullptr;
};

}  // namespace microtome
