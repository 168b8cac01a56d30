#include "tools/cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace microtome {
namespace {

std::atomic<int> stop = 0;
std::atomic<bool> checkpoint = false, saving = false;

/// nohup's children are not told of the end of their terminal: whoever ignored it for us meant it.
bool is_ignored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

sigset_t signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGXCPU, SIGUSR1, SIGUSR2, SIGALRM}) sigaddset(&set, signal);
  if (!is_ignored(SIGHUP)) sigaddset(&set, SIGHUP);
  return set;
}

void obey(int signal) {
  if (signal == SIGUSR1) {
    checkpoint = true;
  } else if (signal == SIGXCPU && stop != 0) {
    // Comes each second until the hard limit, and nobody's patience is behind it.
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
