#include "fuse/kernel_caches.h"

#include <spdlog/spdlog.h>

#include <cstring>

#include "fuse/fuse_protocol.h"
#include "fuse/request.h"

namespace voldfs::fuse {

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

void KernelCaches::drop_attributes(const dht::NodePtr& node) {
  struct {
    protocol::OutHeader header;
    protocol::NotifyInvalInode inode;
  } const notification{{sizeof notification, protocol::kNotifyInvalInode, 0}, {node_number(mount_, *node), -1, 0}};
  if (::write(device_.get(), &notification, sizeof notification) >= 0) return;
  // The kernel has no inode yet, but may be about to make one of a reply that it has got: by the epoch it asks again.
  if (errno == ENOENT) advance_epoch();
}

void KernelCaches::drop_all() {
  advance_epoch();
  mount_.volume->nodes().for_each([this](const dht::NodePtr& node) { drop_attributes(node); });
}

}  // namespace voldfs::fuse
