#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>

#include "dht/volume.h"

namespace voldfs::fuse {

// The kernel looks at the rights of a file that open(2) has just made (fs/namei.c, may_open), and asks for its attributes if it was told to
// keep none, as of a file that passthrough may change. That GETATTR is part of the same system call, so what CREATE has told answers
// it. It is the thread's next request about the file; any later one is asked of the brick. Any thread.
class FreshCreates {
 public:
  // Before the reply to the CREATE. Of a thread without a number here (0, of another PID namespace) nothing is noted: it is not one's own.
  void note(uint32_t thread, const dht::Entry& made);
  // Once; empty: it is not that request.
  std::optional<wire::Attr> take(uint32_t thread, const dht::Node& node);

 private:
  struct Slot {
    std::mutex mutex;
    Id file;            // guarded by mutex; none: taken
    uint32_t thread = 0;
    int64_t end_ms = 0; // CLOCK_BOOTTIME
    wire::Attr attr{};
  };
  static constexpr int64_t kLife_ms = 100;  // a caller who was killed in between does not come back for it
  std::array<Slot, 64> slots_;
};

}  // namespace voldfs::fuse
