#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "brick/base/unique_fd.h"
#include "dht/later.h"
#include "dht/volume.h"

namespace voldfs::fuse {

struct Mount;

// What the kernel keeps of the mount: attributes, names, pages. Taking something back never waits for an operation in
// flight: precise invalidation of a name (FUSE_NOTIFY_INVAL_ENTRY) takes its directory's lock, which the kernel holds
// while it waits for our answer to a create there, and that may wait for another client who is in the same position.
// So attributes alone are invalidated (pages follow by AUTO_INVAL_DATA), and of names all at once, by the epoch that
// each dentry is compared with (fs/fuse/dir.c, fuse_dentry_revalidate): they are asked for again when next used.
// Any thread.
class KernelCaches final : public dht::Caches {
 public:
  // `device`: of the mount, its own descriptor of it. The mount outlives this.
  KernelCaches(unique_fd device, const Mount& mount) : device_(std::move(device)), mount_(mount) {}

  // Whether the kernel has epochs (6.16 and later). Without them names may not be kept on a lease.
  bool can_drop_names();

  void drop_attributes(const dht::NodePtr& node) override;
  void drop_names(const Id& directory) override;
  // `brick`: whose word is void. Pages of its files go too, behind this call: the kernel ignores the answer to a GETATTR that an
  // invalidation has overtaken (fs/fuse/inode.c, fuse_change_attributes), AUTO_INVAL_DATA with it, and the read that has asked would go on
  // with old pages.
  void drop_all(uint16_t brick) override;
  // Before the answer to a GETATTR of a file there. Not for long: pages are locked by reads that wait for the brick.
  void await_dropped_pages(uint16_t brick);
  // Of the file from there on, right after the reply under way: the kernel holds its pages locked until it has that, and a reply over
  // io_uring leaves only when the worker is done.
  void drop_pages_soon(const dht::NodePtr& node, int64_t start);

 private:
  bool advance_epoch();
  bool invalidate(const dht::NodePtr& node, int64_t start);  // of the pages that go; -1: none

  const unique_fd device_;
  const Mount& mount_;
  std::mutex mutex_;
  std::condition_variable dropped_;
  std::unordered_map<uint16_t, int> dropping_;  // guarded by mutex_: bricks whose files' pages are being dropped
  std::atomic<int> drops_{0};                   // all of them, to look at without the lock
  dht::Later later_;
  dht::Later page_drops_;                       // last: their threads use all of the above
};

}  // namespace voldfs::fuse
