#include "fuse/backing_files.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "fuse/fuse_protocol.h"
#include "fuse/rate_limit.h"

namespace voldfs::fuse {

void BackingFiles::Use::reset() {
  if (files_) files_->close(*node_);
  files_ = nullptr;
  node_.reset();
  descriptor_ = -1;
}

bool BackingFiles::wants(const dht::Node& node) const {
  if (refused_for_good_.load(std::memory_order_relaxed)) return false;
  const Shard& shard = this->shard(node);
  std::lock_guard lock(shard.mutex);
  const auto file = shard.files.find(&node);
  return file == shard.files.end() || file->second.backing_id != 0;
}

BackingFiles::Use BackingFiles::open(const dht::NodePtr& node, unique_fd descriptor) {
  Use use;
  use.files_ = this;
  use.node_ = node;
  Shard& shard = this->shard(*node);
  std::lock_guard lock(shard.mutex);
  File& file = shard.files[node.get()];
  if (++file.opens == 1 && descriptor) {
    file.backing_id = attach(descriptor);
    if (file.backing_id != 0) file.descriptor = std::move(descriptor);
  }
  if (file.backing_id == 0) return use;
  // Not handed out again: its writes may have to take suid away by now, which is for the brick.
  use.mode_ = descriptor || file.opens == 1 ? Mode::kPassthrough : Mode::kBesideIt;
  if (use.mode_ == Mode::kPassthrough) opens_.fetch_add(1, std::memory_order_relaxed);
  use.backing_id_ = file.backing_id;
  use.descriptor_ = file.descriptor.get();
  return use;
}

void BackingFiles::close(const dht::Node& node) {
  Shard& shard = this->shard(node);
  std::lock_guard lock(shard.mutex);
  const auto at = shard.files.find(&node);
  if (--at->second.opens > 0) return;
  if (at->second.backing_id != 0) {
    auto id = static_cast<uint32_t>(at->second.backing_id);
    if (::ioctl(device_.get(), protocol::kDevIocBackingClose, &id) < 0)
      spdlog::warn("fuse.backing not closed id={} error=\"{}\"", id, std::strerror(errno));
    backing_ids_.fetch_sub(1, std::memory_order_relaxed);
  }
  shard.files.erase(at);
}

// libfuse has functions for it (fuse_passthrough_open), which want a request, log each refusal, and close with a request in hand alone.
int32_t BackingFiles::attach(const unique_fd& descriptor) {
  protocol::BackingMap map{};
  map.fd = descriptor.get();
  const int id = ::ioctl(device_.get(), protocol::kDevIocBackingOpen, &map);
  if (id > 0) {
    backing_ids_.fetch_add(1, std::memory_order_relaxed);
    return id;
  }
  const int error = errno;
  refused_.fetch_add(1, std::memory_order_relaxed);
  if (error == EPERM || error == EOPNOTSUPP || error == ENOTTY) {
    if (!refused_for_good_.exchange(true))
      spdlog::info("fuse.passthrough off: the kernel refuses it to this process error=\"{}\"", std::strerror(error));
    return 0;
  }
  static RateLimit limit(1'000'000);
  if (uint64_t skipped = 0; limit.allow(&skipped))
    spdlog::warn("fuse.backing refused error=\"{}\" skipped={}", std::strerror(error), skipped);
  return 0;
}

BackingFiles::Counters BackingFiles::counters() const {
  return {opens_.load(std::memory_order_relaxed), refused_.load(std::memory_order_relaxed),
          backing_ids_.load(std::memory_order_relaxed)};
}

}  // namespace voldfs::fuse
