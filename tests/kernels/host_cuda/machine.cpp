#include "kernels/host_cuda/machine.h"

#include "kernels/host_cuda/cuda_runtime.h"

#include <fmt/core.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
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
  bool fresh = true;  // not run yet: the context is where it begins, later `left` is where it goes on
  jmp_buf left{};
  std::vector<char> stack = std::vector<char>(stack_bytes);
  unsigned thread = 0;
  unsigned line = 0;  // of the barrier at which it waits
};

/// Lanes on their way into an instruction of their whole warp.
struct Warp {
  std::vector<Fiber*> waiting;
  std::array<void*, lanes_a_warp> handed_over{};
};

struct Machine {
  Order order = Order::ascending;
  std::string failure;

  unsigned threads = 0, started = 0, ended = 0;
  const std::function<void(unsigned)>* enter = nullptr;
  const std::function<void()>* body = nullptr;

  jmp_buf scheduler{};
  Fiber* current = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle, waiting, released;
  std::array<Warp, 32> warps;
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

// Between stacks by _longjmp: swapcontext asks the kernel for the signal mask each time, and kernels that work warp by warp
// switch often.
void to_scheduler(Fiber& fiber) {
  Switch s;
  s.leave(machine.scheduler_stack, machine.scheduler_stack_bytes);
  if (_setjmp(fiber.left) == 0) _longjmp(machine.scheduler, 1);
  s.arrive(&machine.scheduler_stack, &machine.scheduler_stack_bytes);
}

void to_fiber(Fiber& fiber) {
  machine.current = &fiber;
  Switch s;
  s.leave(fiber.stack.data(), fiber.stack.size());
  if (_setjmp(machine.scheduler) == 0) {
    if (!fiber.fresh) _longjmp(fiber.left, 1);
    fiber.fresh = false;
    setcontext(&fiber.context);
  }
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

bool at_one_line(const std::vector<Fiber*>& fibers) {
  return std::all_of(fibers.begin(), fibers.end(), [&](const Fiber* fiber) { return fiber->line == fibers[0]->line; });
}

bool warps_are_whole() {
  for (Warp& warp : machine.warps) {
    if (warp.waiting.empty()) continue;
    machine.failure = at_one_line(warp.waiting) ? fmt::format("{} of {} lanes of a warp wait for the others in line {}",
                                                              warp.waiting.size(), lanes_a_warp, warp.waiting[0]->line)
                                                : "lanes of one warp are at different instructions of the whole warp";
    warp.waiting.clear();
  }
  return machine.failure.empty();
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

void with_warp(void* mine, unsigned line, void (*work)(void* const* of_lanes)) {
  Fiber& self = *machine.current;
  Warp& warp = machine.warps[self.thread / lanes_a_warp];
  self.line = line;
  warp.handed_over[self.thread % lanes_a_warp] = mine;
  warp.waiting.push_back(&self);
  if (warp.waiting.size() == lanes_a_warp && at_one_line(warp.waiting)) {
    work(warp.handed_over.data());
    machine.released.insert(machine.released.end(), warp.waiting.begin(), warp.waiting.end());
    warp.waiting.clear();
  }
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
    while (!machine.released.empty()) {
      std::vector<Fiber*> released;
      released.swap(machine.released);
      for (Fiber* fiber : released) to_fiber(*fiber);
    }
    const bool whole = warps_are_whole();
    if (whole && machine.waiting.empty()) return true;
    if (!whole || !barriers_agree()) {
      machine.waiting.clear();  // their stacks are lost to this process, which is about to fail a test
      return false;
    }
    machine.released.swap(machine.waiting);
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
