#include "fuse/kept_opens.h"

#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "brick/base/clock.h"
#include "dht/open_file.h"
#include "fuse/mount.h"

namespace voldfs::fuse {
namespace {

// Flags that change nothing about an open for reading, or are the kernel's business.
constexpr uint32_t kHarmless = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_LARGEFILE | 0100000 /* the kernel's O_LARGEFILE */;

bool only_reads(uint32_t flags) { return (flags & ~kHarmless) == O_RDONLY; }

}  // namespace

size_t KeptOpens::key_of(const Id& dir, std::string_view name) {
  return IdHash{}(dir) ^ std::hash<std::string_view>{}(name) * 0x9e3779b97f4a7c15u;
}

void KeptOpens::remove(List::iterator at, List& removed) {
  const Id& file = at->handle->file->node()->id();
  by_file_.erase(file);
  if (const auto name = by_name_.find(at->name); name != by_name_.end() && name->second == file) by_name_.erase(name);
  removed.splice(removed.end(), kept_, at);
}

bool KeptOpens::is_granted(const dht::OpenFile& file) const {
  return dht::Grants::Delivery(mount_.volume->grants()).seconds(file.node()->id(), {&file.grant_at_open(), 1}) > 0;
}

bool KeptOpens::keep(std::unique_ptr<FileHandle>& handle, const dht::Caller& who) {
  const dht::OpenFile& file = *handle->file;
  if (!only_reads(file.flags()) || handle->direct || !is_granted(file)) return false;
  const dht::Node::Name name = file.node()->name();
  const size_t key = name.parent ? key_of(name.parent->id(), name.name) : 0;
  List ended;
  {
    std::lock_guard lock(mutex_);
    if (closed_ || std::find(ended_names_.begin(), ended_names_.end(), key) != ended_names_.end()) return false;
    if (const auto older = by_file_.find(file.node()->id()); older != by_file_.end()) remove(older->second, ended);
    if (kept_.size() >= kKeptMax) remove(kept_.begin(), ended);
    kept_.push_back({std::move(handle), who.uid, who.gid, boottime_ms() + kKeptMs, key});
    by_file_[file.node()->id()] = std::prev(kept_.end());
    by_name_[key] = file.node()->id();
    schedule_sweep();
  }
  release(std::move(ended));
  return true;
}

std::unique_ptr<FileHandle> KeptOpens::take(const dht::Node& node, uint32_t flags, const dht::Caller& who) {
  if (!only_reads(flags)) return nullptr;
  List taken;
  {
    std::lock_guard lock(mutex_);
    const auto found = by_file_.find(node.id());
    if (found == by_file_.end() || found->second->uid != who.uid || found->second->gid != who.gid) return nullptr;
    remove(found->second, taken);
  }
  std::unique_ptr<FileHandle> handle = std::move(taken.front().handle);
  if (is_granted(*handle->file)) {
    handle->file->renew();
    return handle;
  }
  taken.front().handle = std::move(handle);
  release(std::move(taken));
  return nullptr;
}

void KeptOpens::end_name(const dht::Node& dir, std::string_view name) {
  List ended;
  {
    std::lock_guard lock(mutex_);
    const size_t key = key_of(dir.id(), name);
    ended_names_[next_ended_++ % ended_names_.size()] = key;
    const auto file = by_name_.find(key);
    if (file == by_name_.end()) return;
    remove(by_file_.at(file->second), ended);
  }
  release(std::move(ended));
}

void KeptOpens::drop(const Id& file) {
  List ended;
  {
    std::lock_guard lock(mutex_);
    const auto found = by_file_.find(file);
    if (found == by_file_.end()) return;
    remove(found->second, ended);
  }
  release_soon(std::move(ended));
}

void KeptOpens::drop_all() {
  List ended;
  {
    std::lock_guard lock(mutex_);
    while (!kept_.empty()) remove(kept_.begin(), ended);
  }
  if (!ended.empty()) release_soon(std::move(ended));
}

void KeptOpens::close_all() {
  List ended;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    while (!kept_.empty()) remove(kept_.begin(), ended);
  }
  later_.stop();
  release(std::move(ended));
}

void KeptOpens::schedule_sweep() {
  if (std::exchange(sweeping_, true)) return;
  later_.run(kSweep, [this] { sweep(); });
}

void KeptOpens::sweep() {
  List ended;
  {
    std::lock_guard lock(mutex_);
    sweeping_ = false;
    const int64_t now = boottime_ms();
    while (!kept_.empty() && kept_.front().end_ms <= now) remove(kept_.begin(), ended);
    if (!kept_.empty() && !closed_) schedule_sweep();
  }
  release(std::move(ended));
}

void KeptOpens::release(List ended) {
  for (Kept& kept : ended) {
    kept.handle->backing.reset();
    mount_.volume->release(kept.handle->file, dht::Caller{});
  }
}

void KeptOpens::release_soon(List ended) {
  later_.run(std::chrono::milliseconds(0), [this, shared = std::make_shared<List>(std::move(ended))] { release(std::move(*shared)); });
}

}  // namespace voldfs::fuse
