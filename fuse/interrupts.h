#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "dht/later.h"

namespace voldfs::fuse {

// Which requests a signal may end. The kernel's INTERRUPT comes through /dev/fuse also for a request that goes through a ring, and may
// overtake it. libfuse would then ask for it again, which the kernel does not do for a ring's request: so INTERRUPTs are taken in here.
// Any thread.
class Interrupts {
 public:
  // From before the request is worked on. `flag`, false: set when an INTERRUPT comes, at once if it has come already. Until park() or end().
  void begin(uint64_t unique, std::atomic<bool>& flag);
  // From here on `ticket` (not 0) is what interrupt() tells. False: an INTERRUPT has come before.
  bool park(uint64_t unique, uint64_t ticket, uint32_t thread);
  // The request is about to be answered.
  void end(uint64_t unique);
  // An INTERRUPT of the request has come. A parked one's ticket; otherwise 0.
  uint64_t interrupt(uint64_t unique);

  // The kernel does not tell of a signal that comes while a request is on its way into its ring (6.18, fs/fuse/dev_uring.c does not
  // look at FR_INTERRUPTED when it sets FR_SENT). So the signals of those who are parked are looked at here, and `cancel` is called
  // with their tickets. Before the first request; until stop().
  void look_after_parked(std::function<void(uint64_t ticket)> cancel) { cancel_ = std::move(cancel); }
  void stop() { later_.stop(); }

 private:
  static constexpr std::chrono::milliseconds kLook{100};
  void look();
  void look_later();
  struct Request {
    uint64_t unique;
    std::atomic<bool>* flag;  // null: parked
    uint64_t ticket;
    uint32_t thread;          // whose request is parked
  };
  struct Shard {
    std::mutex mutex;
    std::vector<Request> requests;        // guarded by mutex; few
    std::array<uint64_t, 16> early{};     // guarded by mutex; requests that were not there, the last ones. Numbers do not come back
    size_t next_early = 0;                // guarded by mutex
  };
  Shard& shard(uint64_t unique) { return shards_[unique / 2 % shards_.size()]; }  // the kernel counts in steps of 2
  std::array<Shard, 32> shards_;
  std::function<void(uint64_t ticket)> cancel_;  // null: the kernel tells
  std::atomic<bool> looking_ = false;
  dht::Later later_;
};

}  // namespace voldfs::fuse
