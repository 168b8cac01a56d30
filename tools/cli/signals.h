// SIGINT, SIGTERM, SIGHUP (unless ignored from the start, as under nohup), SIGXCPU (a limit on processor time), SIGUSR2 (of
// Grid Engine's and LSF's, before they kill) and SIGALRM ask a run to finish its step and save; a second one ends the program
// at once. SIGUSR1 asks for a checkpoint. While there is nothing to save, the first one ends the program too.
//
// A thread waits for them, and every other has them blocked: a handler would run on the stack of whatever it interrupts, and
// oneDNN's matrix products for AVX2 keep their stack pointer in a small buffer on the heap, beyond which the handler's frame
// lands.
#pragma once

namespace microtome {

/// Before the program's first other thread, which would let them through.
void listen_to_signals();

/// For a new process between fork and exec: what is blocked stays blocked in another program.
void let_signals_through();

/// From begin_saving() to end_saving() a stop is a request, outside it is immediate.
void begin_saving();
void end_saving();

/// The first of those that ask for a stop, else 0.
int stop_signal();

/// Whether SIGUSR1 came since the last call.
bool take_checkpoint_signal();

}  // namespace microtome
