#include "fuse/kernel_caches.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "fuse/fuse_protocol.h"
#include "fuse/request.h"

namespace voldfs::fuse {
namespace {

constexpr int kNewInodeTries = 5;  // a millisecond each: until the kernel has made an inode of a reply that it has got

// Of a directory the listing that the kernel keeps goes along: its pages are locked for moments only. A file's are locked
// while they are read and written, which may wait for the one who waits for us; AUTO_INVAL_DATA drops them later.
constexpr int64_t kFromStart = 0, kNone = -1;
constexpr auto kDropWait = std::chrono::milliseconds(1'000);

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

void KernelCaches::drop_attributes(const dht::NodePtr& node) {
  mount_.kept_opens->drop(node->id());
  for (int tries = 0; !invalidate(node, pages_of(*node)); ++tries) {
    if (tries == kNewInodeTries) return void(advance_epoch());  // whoever comes by name asks again
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void KernelCaches::drop_pages_soon(const dht::NodePtr& node, int64_t start) {
  later_.run(std::chrono::milliseconds(0), [this, node, start] { invalidate(node, start); });
}

void KernelCaches::drop_all(uint16_t brick) {
  mount_.kept_opens->drop_all();
  {
    std::lock_guard lock(mutex_);
    ++dropping_[brick];
    ++drops_;
  }
  advance_epoch();
  std::vector<dht::NodePtr> files;
  mount_.volume->nodes().for_each([&](const dht::NodePtr& node) {
    invalidate(node, pages_of(*node));
    if (node->type() == wire::ObjectType::kFile && node->location().brick == brick) files.push_back(node);
  });
  page_drops_.run(std::chrono::milliseconds(0), [this, brick, files = std::move(files)] {
    for (const dht::NodePtr& file : files) invalidate(file, kFromStart);
    {
      std::lock_guard lock(mutex_);
      --dropping_[brick];
      --drops_;
    }
    dropped_.notify_all();
  });
}

void KernelCaches::await_dropped_pages(uint16_t brick) {
  if (drops_.load() == 0) return;
  std::unique_lock lock(mutex_);
  dropped_.wait_for(lock, kDropWait, [&] {
    const auto at = dropping_.find(brick);
    return at == dropping_.end() || at->second == 0;
  });
}

}  // namespace voldfs::fuse
