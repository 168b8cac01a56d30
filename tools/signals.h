// SIGINT and SIGTERM ask a run to finish its step and save; a second one ends the program at once. SIGUSR1 asks for a
// checkpoint. While there is nothing to save, the first one ends the program too.
#pragma once

namespace microtome {

/// Installs the handlers.
void listen_to_signals();

/// From begin_saving() to end_saving() a stop is a request, outside it is immediate.
void begin_saving();
void end_saving();

/// SIGINT or SIGTERM where one came, else 0.
int stop_signal();

/// Whether SIGUSR1 came since the last call.
bool take_checkpoint_signal();

}  // namespace microtome
