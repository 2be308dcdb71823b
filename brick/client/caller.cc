#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "brick/client/brick_client.h"

namespace voldfs::client {
namespace {

constexpr uint64_t bit(int signal) { return uint64_t{1} << (signal - 1); }

// signal(7): what they do by default does not end a process.
constexpr uint64_t kHarmless =
    bit(SIGCHLD) | bit(SIGCONT) | bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU) | bit(SIGURG) | bit(SIGWINCH);

struct Signals {
  uint64_t pending = 0, blocked = 0, ignored = 0, caught = 0;
};

// Of /proc/THREAD/status, proc(5).
bool read_signals(uint32_t thread, Signals& signals) {
  char path[32], line[256];
  std::snprintf(path, sizeof path, "/proc/%u/status", thread);
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "re"), std::fclose);
  if (!file) return false;
  while (std::fgets(line, sizeof line, file.get())) {
    const auto is = [&](const char* name) { return std::strncmp(line, name, 7) == 0; };
    const auto mask = [&] { return std::strtoull(line + 7, nullptr, 16); };
    if (is("SigPnd:") || is("ShdPnd:")) signals.pending |= mask();
    if (is("SigBlk:")) signals.blocked = mask();
    if (is("SigIgn:")) signals.ignored = mask();
    if (is("SigCgt:")) signals.caught = mask();
  }
  return true;
}

bool is_deadly(const Signals& signals) {
  // A signal that ends a process becomes a SIGKILL for each of its threads (kernel/signal.c, complete_signal), but for
  // those that dump core.
  if (signals.pending & bit(SIGKILL)) return true;
  return (signals.pending & ~signals.blocked & ~signals.ignored & ~signals.caught & ~kHarmless) != 0;
}

}  // namespace

bool has_signal(uint32_t thread) {
  Signals signals;
  return thread != 0 && read_signals(thread, signals) && (signals.pending & ~signals.blocked & ~signals.ignored) != 0;
}

bool Caller::gives_up() const {
  if (interrupted == nullptr || !interrupted->load(std::memory_order_relaxed)) return false;
  if (!only_if_killed) return true;
  Signals signals;
  return pid != 0 && (!read_signals(pid, signals) || is_deadly(signals));  // it may have gone already
}

bool Caller::is_being_killed() const {
  Signals signals;
  return interrupted != nullptr && only_if_killed && pid != 0 && read_signals(pid, signals) && is_deadly(signals);
}

}  // namespace voldfs::client
