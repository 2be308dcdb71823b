#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "brick/base/unique_fd.h"
#include "brick/wire/ops.h"

namespace voldfs::server {

// What a session's client is to be told without having asked: kept until acknowledged, so that a lost control
// connection loses none of it (the next one is sent everything again; clients take a repetition for what it is).
// Filled by any thread, emptied by the thread of the control connection, which sleeps on wake_fd().
class Notifications {
 public:
  Notifications();

  // Encodes and queues one; its number. 0: kNotificationsMax are waiting, the client does not listen.
  uint64_t push(wire::Op op, const void* body, size_t body_size, std::string_view name, uint64_t map_version);
  void acknowledge(uint64_t sequence);
  // Until the client has acknowledged the notification, or has connected anew: before that it drops all that a recall
  // could ask it to drop. False: `deadline` (CLOCK_BOOTTIME, ms) came first.
  bool await_acknowledged(uint64_t sequence, int64_t deadline);

  // A new control connection takes over; the token of the one before is worth nothing any more.
  uint64_t attach();
  // Frames to be sent by the holder of `token`, in order; marks them as sent.
  std::vector<std::string> take(uint64_t token);
  bool attached(uint64_t token) const;
  // Readable when there is something to take or a new control connection came. Cleared by take().
  int wake_fd() const { return wake_.get(); }
  void wake();
  size_t waiting() const;

 private:
  struct Pending {
    uint64_t sequence;
    uint64_t token;   // of the control connection at that time
    std::string frame;
  };

  unique_fd wake_;  // eventfd
  mutable std::mutex mutex_;
  std::condition_variable acknowledged_;
  std::deque<Pending> pending_;    // guarded by mutex_
  size_t sent_ = 0;                // guarded by mutex_: how many of pending_, from the front
  uint64_t last_sequence_ = 0;     // guarded by mutex_
  uint64_t token_ = 0;             // guarded by mutex_
};

}  // namespace voldfs::server
