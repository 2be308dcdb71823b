#include "fuse/kernel_caches.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "brick/base/clock.h"
#include "dht/open_file.h"
#include "fuse/fuse_protocol.h"
#include "fuse/request.h"

namespace voldfs::fuse {
namespace {

constexpr int64_t kNewInodeMs = 20;  // until the kernel has made an inode of a reply that it has got

// Of a directory the listing that the kernel keeps goes along: its pages are locked for moments only. A file's are locked
// while they are read and written, which may wait for the one who waits for us; AUTO_INVAL_DATA drops them later.
constexpr int64_t kFromStart = 0, kNone = -1;

int64_t pages_of(const dht::Node& node) {
  return node.is_directory() ? kFromStart : kNone;
}

}  // namespace

bool KernelCaches::advance_epoch() {
  const protocol::OutHeader notification{sizeof notification, protocol::kNotifyIncEpoch, 0};
  return ::write(device_.get(), &notification, sizeof notification) == sizeof notification;
}

bool KernelCaches::can_drop_names() { return advance_epoch(); }

void KernelCaches::drop_names(const Id&) {
  // EINVAL: a kernel without epochs, where no name is kept on a lease. ENODEV: unmounted.
  if (!advance_epoch() && errno != ENODEV && errno != EINVAL)
    spdlog::warn("fuse.names not taken back error=\"{}\"", std::strerror(errno));
}

// False: the kernel has no such inode.
bool KernelCaches::invalidate(const dht::NodePtr& node, int64_t start) {
  struct {
    protocol::OutHeader header;
    protocol::NotifyInvalInode inode;
  } const notification{{sizeof notification, protocol::kNotifyInvalInode, 0}, {node_number(mount_, *node), start, 0}};
  return ::write(device_.get(), &notification, sizeof notification) >= 0 || errno != ENOENT;
}

void KernelCaches::drop_open(const dht::NodePtr& node) { mount_.kept_opens->drop(node->id()); }

void KernelCaches::drop_attributes(const dht::NodePtr& node) {
  while (!invalidate(node, pages_of(*node))) {
    // It has forgotten the inode, if it had one.
    if (boottime_ms() - node->told_to_keep_ms() > kNewInodeMs) return void(advance_epoch());  // whoever comes by name asks again
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void KernelCaches::drop_pages_soon(const dht::NodePtr& node, int64_t start) {
  later_.run(std::chrono::milliseconds(0), [this, node, start] { invalidate(node, start); });
}

void KernelCaches::drop_all(uint16_t) {
  mount_.kept_opens->drop_all();
  advance_epoch();
  mount_.volume->nodes().for_each([&](const dht::NodePtr& node) {
    if (node->is_directory() || node->may_be_kept()) invalidate(node, pages_of(*node));
  });
}

void KernelCaches::verify_pages(const dht::OpenFilePtr& file, std::function<void()> then) {
  dht::KernelPages* const pages = file->node()->kernel_pages();
  const bool current = !pages || pages->are_current(dht::Grants::Delivery(mount_.volume->grants()), file->node()->id());
  if (current) return then();
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  auto& verifier = verifiers_[file->brick()];
  if (!verifier) verifier = std::make_unique<dht::Later>();
  verifier->run(std::chrono::milliseconds(0), [this, file, pages, then = std::move(then)] {
    verify(file, *pages);
    then();
  });
}

// The attributes are asked for before the pages go: whatever is read again is no older than they.
void KernelCaches::verify(const dht::OpenFilePtr& file, dht::KernelPages& pages) {
  dht::Caller quick;
  quick.only_if_up = true;
  const auto found = mount_.volume->getattr(file->node(), file, quick);
  dht::DataStamp now;
  if (found) now = dht::DataStamp::of(found->attr, found->attr_grants.empty() ? dht::Grant{} : found->attr_grants.front());
  if (!pages.are_current(now)) invalidate(file->node(), kFromStart);
  pages.note_verified(now);
}

void KernelCaches::stop_verifying() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  for (const auto& [brick, verifier] : verifiers_) verifier->stop();
}

}  // namespace voldfs::fuse
