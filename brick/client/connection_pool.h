#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "brick/client/connection.h"

namespace voldfs::client {

// A slot of the session and the connection that goes with it; one call's at a time.
struct Slot {
  uint16_t number = 0;
  uint64_t sequence = 0;                   // of its last request; goes on over connections and sessions
  uint64_t epoch = 0;                      // of the session when the connection was made
  int64_t last_used_ms = 0;
  int cpu = -1;                            // that its last request was sent from: the brick may have moved there too
  bool unsure = false;                     // its last request was given up, and may still be carried out
  std::unique_ptr<Connection> connection;  // changed through ConnectionPool::set() alone
};

// The slots; of those that were used on the caller's CPU the most recently used first, so that connections follow the
// requests in flight. Any thread.
class ConnectionPool {
 public:
  explicit ConnectionPool(uint32_t connections_max);

  // An idle slot, or a fresh one within connections_max; null: all are busy.
  Slot* try_acquire();
  // As that, but waits up to kOvercommitMs and then goes beyond connections_max: callers hold a slot at one brick
  // while they want one at another, so a hard bound could make two wait for each other for ever. Null: all
  // wire::kSlotsMax are busy; ask again.
  Slot* acquire();
  void release(Slot* slot);
  // Those that were released with `unsure` set, which nobody gets before they are released again.
  std::vector<Slot*> take_unsure();
  // The one that is kept for reclaiming. One thread's.
  Slot* reserved() { return &slots_[0]; }

  void set(Slot* slot, std::unique_ptr<Connection> connection, uint64_t epoch);
  void close_idle(int64_t not_used_since_ms);
  // Ends what waits on any of the connections: the brick is down, though its host has not said so.
  void shut_down_all();

 private:
  Slot* take(uint32_t limit);  // REQUIRES: mutex_ is held

  const uint32_t connections_max_;
  std::mutex mutex_;
  std::condition_variable released_;
  std::array<Slot, wire::kSlotsMax> slots_;  // the connection pointers are guarded by mutex_, but for their holder's reading
  std::vector<Slot*> idle_;                  // guarded by mutex_; the last one was used most recently
  std::vector<Slot*> unsure_;                // guarded by mutex_
  uint32_t made_ = 1;                        // guarded by mutex_; slots that were ever handed out, and the reserved one
};

}  // namespace voldfs::client
