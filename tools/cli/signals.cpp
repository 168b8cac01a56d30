#include "tools/cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace microtome {
namespace {

std::atomic<int> stop = 0;
std::atomic<bool> checkpoint = false, saving = false;

sigset_t signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

void obey(int signal) {
  if (signal == SIGUSR1) {
    checkpoint = true;
  } else {
    if (stop != 0 || !saving) _exit(128 + signal);
    stop = signal;
  }
}

}  // namespace

void listen_to_signals() {
  const sigset_t set = signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([set] {
    for (int signal = 0; sigwait(&set, &signal) == 0;) obey(signal);
  }).detach();
}

void let_signals_through() {
  const sigset_t set = signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void begin_saving() {
  saving = true;
}
void end_saving() {
  saving = false;
}
int stop_signal() {
  return stop;
}

bool take_checkpoint_signal() {
  return checkpoint.exchange(false);
}

}  // namespace microtome
