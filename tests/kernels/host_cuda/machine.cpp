#include "kernels/host_cuda/machine.h"

#include "kernels/host_cuda/cuda_runtime.h"

#include <fmt/core.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace microtome::host_cuda {

namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10;

/// A stack on which threads of a block run, one after another until one of them waits.
struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(stack_bytes);
  unsigned thread = 0;
  unsigned line = 0;  // of the barrier at which it waits
};

struct Machine {
  Order order = Order::ascending;
  std::string failure;

  unsigned threads = 0, started = 0, ended = 0;
  const std::function<void(unsigned)>* enter = nullptr;
  const std::function<void()>* body = nullptr;

  ucontext_t scheduler{};
  Fiber* current = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle, waiting;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_bytes = 0;
};

Machine machine;

/// AddressSanitizer must know on which stack the program runs; elsewhere these do nothing.
struct Switch {
  void* shadow = nullptr;
#ifdef __SANITIZE_ADDRESS__
  void leave(const void* bottom, std::size_t bytes) {
    __sanitizer_start_switch_fiber(&shadow, bottom, bytes);
  }
  void arrive(const void** bottom, std::size_t* bytes) {
    __sanitizer_finish_switch_fiber(shadow, bottom, bytes);
  }
#else
  void leave(const void*, std::size_t) {}
  void arrive(const void**, std::size_t*) {}
#endif
};

void to_scheduler(Fiber& fiber) {
  Switch s;
  s.leave(machine.scheduler_stack, machine.scheduler_stack_bytes);
  swapcontext(&fiber.context, &machine.scheduler);
  s.arrive(&machine.scheduler_stack, &machine.scheduler_stack_bytes);
}

void to_fiber(Fiber& fiber) {
  machine.current = &fiber;
  Switch s;
  s.leave(fiber.stack.data(), fiber.stack.size());
  swapcontext(&machine.scheduler, &fiber.context);
  s.arrive(nullptr, nullptr);
}

/// What a fiber does for ever: the next thread of the block, or wait for a block that has one.
void live() {
  Switch{}.arrive(&machine.scheduler_stack, &machine.scheduler_stack_bytes);
  for (;;) {
    Fiber& self = *machine.current;
    while (machine.started < machine.threads) {
      const unsigned turn = machine.started++;
      self.thread = machine.order == Order::ascending ? turn : machine.threads - 1 - turn;
      (*machine.enter)(self.thread);
      (*machine.body)();
      ++machine.ended;
    }
    machine.idle.push_back(&self);
    to_scheduler(self);
  }
}

Fiber& idle_fiber() {
  if (machine.idle.empty()) {
    Fiber& fiber = *machine.fibers.emplace_back(std::make_unique<Fiber>());
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, live, 0);
    machine.idle.push_back(&fiber);
  }
  Fiber& fiber = *machine.idle.back();
  machine.idle.pop_back();
  return fiber;
}

bool barriers_agree() {
  if (machine.ended > 0) {
    machine.failure = fmt::format("{} of {} threads wait at the barrier in line {}, but {} have ended", machine.waiting.size(),
                                  machine.threads, machine.waiting[0]->line, machine.ended);
  }
  for (const Fiber* fiber : machine.waiting) {
    if (fiber->line != machine.waiting[0]->line)
      machine.failure = fmt::format("threads {} and {} wait at different barriers, in lines {} and {}",
                                    machine.waiting[0]->thread, fiber->thread, machine.waiting[0]->line, fiber->line);
  }
  return machine.failure.empty();
}

}  // namespace

void set_order(Order order) {
  machine.order = order;
}

const std::string& last_failure() {
  return machine.failure;
}

void wait_for_block(unsigned line) {
  Fiber& self = *machine.current;
  self.line = line;
  machine.waiting.push_back(&self);
  to_scheduler(self);
  machine.current = &self;
  (*machine.enter)(self.thread);
}

bool run_block(unsigned threads, const std::function<void(unsigned)>& enter, const std::function<void()>& body) {
  machine.failure.clear();
  machine.threads = threads;
  machine.started = machine.ended = 0;
  machine.enter = &enter;
  machine.body = &body;
  for (;;) {
    while (machine.started < threads) to_fiber(idle_fiber());
    if (machine.waiting.empty()) return true;
    if (!barriers_agree()) {
      machine.waiting.clear();  // their stacks are lost to this process, which is about to fail a test
      return false;
    }
    std::vector<Fiber*> released;
    released.swap(machine.waiting);
    for (Fiber* fiber : released) to_fiber(*fiber);
  }
}

}  // namespace microtome::host_cuda

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorCudartUnloading: return "cudaErrorCudartUnloading";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
  }
  return "?";
}

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorLaunchFailure ? microtome::host_cuda::last_failure().c_str() : cudaGetErrorName(status);
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *available = *total = std::size_t{4} << 30;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
