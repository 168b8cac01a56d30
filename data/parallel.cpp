#include "data/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

namespace microtome {

int thread_count(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void for_each_index(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body,
                    const std::function<void(std::int64_t)>& progress) {
  constexpr std::chrono::milliseconds between_reports{100};
  std::atomic<std::int64_t> next = 0, done = 0;
  std::atomic<std::int64_t> first_failure = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr failure;
  std::mutex mutex;
  std::condition_variable ended;
  int running = 0;

  // Indices are handed out in order, so whatever lies below a failure has been handed out and is finished first.
  const auto work = [&] {
    for (std::int64_t i = next++; i < std::min(count, first_failure.load()); i = next++) {
      try {
        body(i);
        ++done;
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < first_failure) {
          first_failure = i;
          failure = std::current_exception();
        }
      }
    }
    const std::lock_guard lock(mutex);
    --running;
    ended.notify_one();
  };

  running = static_cast<int>(std::clamp<std::int64_t>(count, 1, thread_count(threads)));
  std::vector<std::jthread> workers;
  for (int i = running; i > 0; --i) workers.emplace_back(work);
  for (std::unique_lock lock(mutex); !ended.wait_for(lock, between_reports, [&] { return running == 0; });) {
    lock.unlock();
    if (progress) progress(done);
    lock.lock();
  }
  workers.clear();
  if (failure) std::rethrow_exception(failure);
  if (progress) progress(done);
}

}  // namespace microtome
