#pragma once

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
  void drop_all() override;
  // Of the file from there on, right after the reply under way: the kernel holds its pages locked until it has that, and a reply over
  // io_uring leaves only when the worker is done.
  void drop_pages_soon(const dht::NodePtr& node, int64_t start);

 private:
  bool advance_epoch();
  bool invalidate(const dht::NodePtr& node, int64_t start);  // of the pages that go; -1: none

  const unique_fd device_;
  const Mount& mount_;
  dht::Later later_;
};

}  // namespace voldfs::fuse
