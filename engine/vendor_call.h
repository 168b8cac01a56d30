// Says in whose code a thread is, for the one who has to explain a crash: some libraries look at no allocation's result.
#pragma once

namespace microtome {

/// One thread at a time may hold some: of two threads that hold one together neither knows what to restore.
class VendorCall {
 public:
  /// `library`, which people know it by, must outlive the object.
  explicit VendorCall(const char* library) noexcept;
  ~VendorCall();
  VendorCall(const VendorCall&) = delete;

  /// Of any thread, since a library has threads of its own; null: none is in a library. Safe in a signal handler.
  static const char* current() noexcept;

 private:
  const char* outer_;
};

}  // namespace microtome
