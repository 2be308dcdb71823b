#pragma once

#include <chrono>

#include "dht/volume_lookup.h"

namespace voldfs::dht {

// The volume-wide lock under which directories move from parent to parent, held at the root's home. Lost when the client
// dies, and when it is not asked for again within the brick's lease; so hold it for as little as possible.
class TreeLock {
 public:
  TreeLock(Volume::Impl& volume, const Caller& caller) : volume_(volume), caller_(caller) {}
  ~TreeLock();
  TreeLock(const TreeLock&) = delete;
  TreeLock& operator=(const TreeLock&) = delete;

  // Waits for it; EBUSY after kBusyRetriesMax.
  Result<void> acquire();
  // Right before what it protects. EBUSY: it was taken so long ago that another may have had it since; start over.
  Result<void> check_fresh() const;

 private:
  Volume::Impl& volume_;
  const Caller& caller_;
  const Id id_ = Id::random();
  bool held_ = false;
  std::chrono::steady_clock::time_point asked_{};
};

// EINVAL: `dir` is `moved` itself or lies below it. Goes up through the names as their authorities have them, and so settles
// or gives up the renames that others have left half done on the way. REQUIRES: TreeLock. ESTALE: the mount's idea of where
// `dir` is has been overtaken.
Result<void> check_not_below(Volume::Impl& volume, const Id& moved, const NodePtr& dir, const Caller& caller);

}  // namespace voldfs::dht
