#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "brick/wire/ops.h"

// The locks of one file: which ranges are held, who waits. Semantics of fs/locks.c in the kernel. No locking of its
// own: LockTable's mutex guards it.
namespace voldfs::server {

struct HeldLock {
  uint64_t session;
  wire::LockBody lock;
};

// Who holds a lock: processes, open file descriptions and flock descriptors are different owners, whatever their number.
inline bool same_owner(const wire::LockBody& left, const wire::LockBody& right) {
  return left.kind == right.kind && left.owner.owner == right.owner.owner && left.owner.client == right.owner.client;
}

class FileLocks {
 public:
  // The first held lock that keeps `request` from being granted; null: none. A process's and an open file
  // description's locks are of one kind to each other; flock is apart.
  const HeldLock* conflict(const wire::LockBody& request) const;
  // All owners that do, each once.
  std::vector<wire::LockOwner> blockers(const wire::LockBody& request) const;

  // Grants or unlocks: what the owner held of the range before gives way, neighbours of the same type become one.
  // REQUIRES: no conflict. Returns by how many the number of held ranges grew (it may shrink).
  int apply(uint64_t session, const wire::LockBody& request);

  // Takes away what `drop` says is to go. Returns how many that were.
  template <class Predicate>
  size_t drop_held(Predicate drop) {
    return std::erase_if(held_, drop);
  }

  // In the order of their coming.
  std::list<HeldLock>& waiting() { return waiting_; }
  const std::list<HeldLock>& waiting() const { return waiting_; }
  bool empty() const { return held_.empty() && waiting_.empty(); }

 private:
  std::vector<HeldLock> held_;
  std::list<HeldLock> waiting_;
};

}  // namespace voldfs::server
