#pragma once

#include <functional>
#include <memory>
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
  void drop_open(const dht::NodePtr& node) override;
  void drop_names(const Id& directory) override;
  // `brick`: whose word is void. Only what the kernel may keep is invalidated: the answer to a GETATTR that this overtakes is ignored
  // (dht/kernel_pages.h), and tells nothing new there.
  void drop_all(uint16_t brick) override;
  // No page in the kernel is older than this call when `then` is called: of a file that has just been locked. At once where nobody else can
  // have changed the file since the pages were read; otherwise by a thread of the brick's, for pages are locked by reads that may wait for it.
  void verify_pages(const dht::OpenFilePtr& file, std::function<void()> then);
  // What has not been verified by now is not.
  void stop_verifying();
  // Of the file from there on, right after the reply under way: the kernel holds its pages locked until it has that, and a reply over
  // io_uring leaves only when the worker is done.
  void drop_pages_soon(const dht::NodePtr& node, int64_t start);

 private:
  bool advance_epoch();
  void verify(const dht::OpenFilePtr& file, dht::KernelPages& pages);
  bool invalidate(const dht::NodePtr& node, int64_t start);  // of the pages that go; -1: none

  const unique_fd device_;
  const Mount& mount_;
  dht::Later later_;
  std::mutex mutex_;
  bool stopped_ = false;                                                 // guarded by mutex_
  std::unordered_map<uint16_t, std::unique_ptr<dht::Later>> verifiers_;  // guarded by mutex_; by brick
};

}  // namespace voldfs::fuse
