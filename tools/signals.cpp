#include "tools/signals.h"

#include <unistd.h>

#include <csignal>

namespace microtome {
namespace {

volatile std::sig_atomic_t stop = 0, checkpoint = 0, saving = 0;

void on_stop(int signal) {
  if (stop != 0 || saving == 0) _exit(128 + signal);
  stop = signal;
}

void on_checkpoint(int) {
  checkpoint = 1;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;  // a write of a checkpoint must not fail half way
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void listen_to_signals() {
  handle(SIGINT, on_stop);
  handle(SIGTERM, on_stop);
  handle(SIGUSR1, on_checkpoint);
}

void begin_saving() {
  saving = 1;
}
void end_saving() {
  saving = 0;
}
int stop_signal() {
  return stop;
}

bool take_checkpoint_signal() {
  const bool came = checkpoint != 0;
  checkpoint = 0;
  return came;
}

}  // namespace microtome
