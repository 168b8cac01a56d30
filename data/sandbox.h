// Reads untrusted files in a child process: libhdf5 1.10 can crash on a crafted file, and then only the child does. What the
// child reads comes back through a pipe or in memory that both see, so the parent never parses such a file at all.
#pragma once

#include "engine/check.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

namespace microtome {

/// The child's end.
class Sink {
 public:
  explicit Sink(int fd) : fd_(fd) {}

  void write(std::span<const std::byte> bytes);
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) { write(std::as_bytes(std::span(&value, 1))); }
  void put(const std::string& text);
  void finish();                    // nothing more comes
  void refuse(const Error& error);  // the parent throws this

 private:
  int fd_;
};

/// The parent's end. Reading throws what the child refused with, or Error when it crashed or stood still.
class Source {
 public:
  virtual ~Source() = default;
  virtual void read(std::span<std::byte> bytes) = 0;

  template <class T>
  requires std::is_trivially_copyable_v<T> T take() {
    T value;
    read(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::string take_text();
};

struct Sandbox {
  ExitCode code = ExitCode::data;  // of every refusal of the child's
  std::string where;               // the file, for messages
  int patience_ms = 60'000;        // without a byte, before the child is given up; 2 s where it is not the disk it waits for
};

/// `body` runs in the child and must not touch locks that other threads may hold (streams of the C++ library, ours);
/// malloc is safe there. `consume` runs here meanwhile.
void read_in_child(const Sandbox& sandbox, const std::function<void(Sink&)>& body, const std::function<void(Source&)>& consume);

/// A child for many requests, where one a file would cost too much. Both see its memory; the child has no files, and where the
/// kernel can filter system calls (seccomp) may only compute. What it leaves in the memory is as untrusted as the files.
class Worker {
 public:
  /// `serve` runs in the child, once a request; as a `body` above. Pages that the caller writes to while the child lives are
  /// copied: it should be made before large things are.
  Worker(std::size_t bytes, std::function<void(std::span<std::byte>)> serve);
  ~Worker();
  Worker(Worker&&) noexcept;
  Worker& operator=(Worker&&) noexcept;

  std::span<std::byte> memory() const;
  /// False where the child crashed, or took more than `patience_s` of the processor's time. It is then of no more use.
  bool request(int patience_s);
  /// Of the request that failed; `where` is the file, for messages.
  Error error(ExitCode code, const std::string& where) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace microtome
