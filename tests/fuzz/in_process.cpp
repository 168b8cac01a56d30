// In the place of data/sandbox.cpp: the child's part runs here, so that a fuzzer sees it. Linked before the library, this
// file's functions are taken and the library's are not.
#include "data/sandbox.h"

#include <cstring>
#include <new>
#include <source_location>
#include <utility>
#include <vector>

namespace microtome {

namespace {

std::string sent;

class Received : public Source {
 public:
  void read(std::span<std::byte> bytes) override {
    require(bytes.size() <= sent.size() - at_, "sandbox: the child sent less than was read");
    if (!bytes.empty()) std::memcpy(bytes.data(), sent.data() + at_, bytes.size());
    at_ += bytes.size();
  }
  void expect_end() const { require(at_ == sent.size(), "sandbox: the child sent more than was read"); }

 private:
  std::size_t at_ = 0;
};

}  // namespace

void Sink::write(std::span<const std::byte> bytes) {
  sent.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void Sink::put(const std::string& text) {
  put(std::uint64_t{text.size()});
  write(std::as_bytes(std::span(text)));
}

void Sink::finish() {}

void Sink::refuse(const Error& error) {
  throw error;
}

std::string Source::take_text() {
  std::string text(take<std::uint64_t>(), '\0');
  read(std::as_writable_bytes(std::span(text)));
  return text;
}

void read_in_child(const Sandbox&, const std::function<void(Sink&)>& body, const std::function<void(Source&)>& consume) {
  sent.clear();
  Sink sink(-1);
  try {
    body(sink);
  } catch (const std::bad_alloc&) {  // a child says so
    fail(ExitCode::data, "a file cannot be read: it takes more memory than it may");
  }
  Received received;
  consume(received);
  received.expect_end();
}

struct Worker::Impl {
  std::vector<std::byte> memory;
  std::function<void(std::span<std::byte>)> serve;
};

Worker::Worker(std::size_t bytes, std::function<void(std::span<std::byte>)> serve)
    : impl_(new Impl{std::vector<std::byte>(bytes), std::move(serve)}) {}
Worker::~Worker() = default;
Worker::Worker(Worker&&) noexcept = default;
Worker& Worker::operator=(Worker&&) noexcept = default;

std::span<std::byte> Worker::memory() const {
  return impl_->memory;
}

bool Worker::request(int) {
  impl_->serve(impl_->memory);
  return true;
}

Error Worker::error(ExitCode code, const std::string& where) const {
  return Error(code, "a worker failed", {.where = where}, std::source_location::current());
}

}  // namespace microtome
