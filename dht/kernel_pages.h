#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "brick/base/id.h"
#include "dht/data_stamp.h"
#include "dht/grants.h"

namespace voldfs::dht {

// What is known of the pages, the size and the times that the kernel keeps of a file which has been opened by way of the daemon. Any
// thread; the mutex is a leaf.
//
// The kernel asks for attributes before it reads, and drops its pages if they are not what it knows; but it ignores an answer that an
// invalidation or a write of its own has overtaken (fs/fuse/inode.c, fuse_change_attributes), and the read which has asked goes on with the
// pages and the size that are there. So
//   - attributes that may tell of another mount's change are handed over without permission to keep them, until the kernel has surely
//     taken them in: what may not be kept need not be invalidated, and an answer that an invalidation does overtake tells nothing new;
//   - who takes a lock does not rely on the kernel's comparison: the pages are dropped before he hears that he has it, unless nobody else
//     can have changed the file since they were read.
class KernelPages {
 public:
  // Attributes by these grants are about to be handed over. Whether the kernel may keep them.
  bool tell(const Grants::Delivery& delivery, const Id& file, std::span<const Grant> grants);

  // The kernel has just made its inode, by this grant, and has no pages. Ignored once it has been told anything else of the file.
  void begin(const Grant& grant);

  // This mount changes the file by other ways than these pages.
  void forget();

  // Nobody but this mount can have changed the file since the last note_verified().
  bool are_current(const Grants::Delivery& delivery, const Id& file) const;
  // Nobody has, by what it looks like now.
  bool are_current(const DataStamp& now) const;
  // No page in the kernel is older than what the stamp tells of.
  void note_verified(const DataStamp& now);

 private:
  // More than a thread of the kernel needs from the answer until it has looked at it, on a busy machine too.
  static constexpr int64_t kSettleMs = 100;

  mutable std::mutex mutex_;
  bool is_new_ = true;      // guarded by mutex_: the kernel has been told nothing yet
  Grant told_;              // guarded by mutex_: unbroken since the kernel was told what the file looks like
  int64_t settled_ms_ = 0;  // guarded by mutex_: when it has surely taken that in
  DataStamp verified_;      // guarded by mutex_
};

}  // namespace voldfs::dht
