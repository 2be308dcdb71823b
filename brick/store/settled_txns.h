#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <unordered_set>

#include "brick/base/id.h"

namespace voldfs::store {

// The transactions whose file has been brought to its new path here, the last ones. Several clients may clean up behind one, and a
// request of one of them may come late: when another has finished it, and the file's user has given it the old name again. In memory: over a
// restart no request is under way for so long. Any thread.
class SettledTxns {
 public:
  void add(const Id& txn);
  bool contains(const Id& txn) const;

 private:
  static constexpr size_t kMax = 4096;
  mutable std::mutex mutex_;
  std::array<Id, kMax> order_{};           // guarded by mutex_; none: not used yet
  size_t next_ = 0;                        // guarded by mutex_
  std::unordered_set<Id, IdHash> known_;   // guarded by mutex_
};

}  // namespace voldfs::store
