#pragma once

#include <chrono>
#include <mutex>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::store {

// At the root's home: one rename of a directory between parents at a time. A lease in memory, so that a client
// that dies holds nobody up for long, and a brick that restarts has none: a rename is safe without
// it but for two that would make a directory its own ancestor, and its commit needs the lease still to hold.
// Any thread.
class VolumeLock {
 public:
  static constexpr std::chrono::seconds kLease{10};

  // EAGAIN: another transaction has it. Asking again for one's own prolongs it.
  Result<void> acquire(const Id& txn);
  void release(const Id& txn);

 private:
  std::mutex mutex_;
  Id holder_;                                      // guarded by mutex_; none: free
  std::chrono::steady_clock::time_point until_{};  // guarded by mutex_
};

}  // namespace voldfs::store
