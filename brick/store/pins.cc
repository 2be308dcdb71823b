#include "brick/store/pins.h"

#include <fcntl.h>
#include <signal.h>

#include "brick/store/credentials.h"
#include "brick/store/handle.h"
#include "brick/wire/status.h"

namespace voldfs::store {

Pins::Pins(const Handles& handles, std::function<void(const Id&)> before_free)
    : handles_(handles), before_free_(std::move(before_free)) {}

void Pins::add(const wire::ObjectRef& file, bool writable) {
  Shard& shard = this->shard(file.id);
  std::unique_lock lock(shard.mutex);
  auto at = shard.files.end();
  shard.freed.wait(lock, [&] {
    at = shard.files.find(file.id);
    return at == shard.files.end() || !at->second.freeing;
  });
  if (at == shard.files.end()) {
    at = shard.files.emplace(file.id, File{}).first;
    known_.fetch_add(1);
  }
  File& known = at->second;
  handed_out_.fetch_add(1, std::memory_order_relaxed);
  if (!writable) return void(++known.readers);
  ++known.writers;
  known.handle = file.handle;
  if (!known.pinned) pinned_.fetch_add(1, std::memory_order_relaxed);
  known.pinned = true;
}

void Pins::remove(const Id& id, int flags, bool released) {
  const bool writable = (flags & O_ACCMODE) != O_RDONLY;
  Shard& shard = this->shard(id);
  {
    std::lock_guard lock(shard.mutex);
    const auto at = shard.files.find(id);
    if (at == shard.files.end()) return;
    File& file = at->second;
    handed_out_.fetch_sub(1, std::memory_order_relaxed);
    --(writable ? file.writers : file.readers);
    if (writable && (!released || (flags & O_ACCMODE) == O_RDWR)) file.unclaimed = true;
    if (file.is_unused()) {
      shard.files.erase(at);
      known_.fetch_sub(1);
      return;
    }
    if (!file.pinned || file.writers > 0) return;
  }
  free_if_idle(id);
}

void Pins::free_if_idle(const Id& id) {
  Shard& shard = this->shard(id);
  wire::ObjectRef ref{id, {}};
  bool ask = false;
  {
    std::lock_guard lock(shard.mutex);
    const auto at = shard.files.find(id);
    if (at == shard.files.end() || !at->second.pinned || at->second.writers > 0 || at->second.freeing) return;
    at->second.freeing = true;
    ask = at->second.unclaimed;
    ref.handle = at->second.handle;
  }
  const bool idle = !ask || !has_writer(ref);
  if (idle) before_free_(id);
  std::lock_guard lock(shard.mutex);
  const auto at = shard.files.find(id);  // it is there: nobody takes it away while it is being freed
  File& file = at->second;
  file.freeing = false;
  if (idle) {
    file.pinned = file.unclaimed = false;
    pinned_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (file.is_unused()) {
    shard.files.erase(at);
    known_.fetch_sub(1);
  }
  shard.freed.notify_all();
}

// The lease is given back at once. Who opens the file for writing in between waits for that; the signal which tells of him is one
// that nobody hears.
bool Pins::has_writer(const wire::ObjectRef& ref) const {
  RootScope root;
  const auto fd = handles_.open(ref, O_RDONLY);
  if (!fd) return fd.error().code != wire::kStaleHandle;  // gone: nobody else can come by it either
  ::fcntl(fd->get(), F_SETSIG, SIGURG);
  if (::fcntl(fd->get(), F_SETLEASE, F_RDLCK) < 0) return true;
  ::fcntl(fd->get(), F_SETLEASE, F_UNLCK);
  return false;
}

bool Pins::is_pinned(const Id& id) const {
  if (pinned_.load(std::memory_order_acquire) == 0) return false;
  const Shard& shard = this->shard(id);
  std::lock_guard lock(shard.mutex);
  const auto at = shard.files.find(id);
  return at != shard.files.end() && at->second.pinned;
}

bool Pins::is_handed_out(const Id& id) const {
  if (known_.load() == 0) return false;
  const Shard& shard = this->shard(id);
  std::lock_guard lock(shard.mutex);
  return shard.files.contains(id);
}

void Pins::sweep() {
  if (pinned_.load(std::memory_order_relaxed) == 0) return;
  std::vector<Id> idle;
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    for (const auto& [id, file] : shard.files)
      if (file.pinned && file.writers == 0 && idle.size() < kSweepMax) idle.push_back(id);
  }
  for (const Id& id : idle) free_if_idle(id);
}

}  // namespace voldfs::store
