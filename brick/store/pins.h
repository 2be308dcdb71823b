#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/wire/types.h"

namespace voldfs::store {

class Handles;

// The files of which a descriptor was handed out (WIRE.md, "Descriptors"). One that was handed out for writing is *pinned*: it changes
// without a request, so that nobody may keep what he was told of it. Pinned it stays until the last such open has ended and
// nobody has it open for writing any more: a mapping outlives its open, and an application's open file the session and even
// the client. Who knows is the kernel: it grants a read lease (fcntl(2), F_SETLEASE) on a file that is open for writing nowhere.
//
// Any thread. A shard's mutex is held for look-ups alone; the kernel is asked, and `before_free` is called, without it.
class Pins {
 public:
  // `before_free`: the file ceases to be pinned right after the call; what was read of it before is not to be kept.
  Pins(const Handles& handles, std::function<void(const Id&)> before_free);

  // An open is handed out.
  void add(const wire::ObjectRef& file, bool writable);
  // It has ended. `flags`: of its open(2). `released`: its client has said so, and has nothing left of it but perhaps a
  // mapping, which takes an open for reading and writing. REQUIRES: the brick's own descriptor of the open is closed.
  void remove(const Id& id, int flags, bool released);

  bool is_pinned(const Id& id) const;
  bool is_handed_out(const Id& id) const;  // also for reading alone: the file may not move
  // Asks again for those that nobody has open through the brick. By the housekeeping thread.
  void sweep();

  uint64_t handed_out() const { return handed_out_.load(std::memory_order_relaxed); }  // opens
  uint64_t pinned() const { return pinned_.load(std::memory_order_relaxed); }          // files

 private:
  struct File {
    wire::Handle handle{};
    uint32_t readers = 0, writers = 0;  // opens that are handed out
    bool pinned = false;
    bool unclaimed = false;             // somebody who is not counted may have it open for writing
    bool freeing = false;               // one thread asks the kernel; add() waits for it, for the lease is in an open's way
    bool is_unused() const { return readers == 0 && writers == 0 && !pinned && !freeing; }
  };
  static constexpr size_t kShards = 64;
  static constexpr size_t kSweepMax = 256;  // files asked for in one sweep
  struct Shard {
    mutable std::mutex mutex;
    std::condition_variable freed;
    std::unordered_map<Id, File> files;   // guarded by mutex
  };

  Shard& shard(const Id& id) { return shards_[IdHash()(id) % kShards]; }
  const Shard& shard(const Id& id) const { return shards_[IdHash()(id) % kShards]; }
  void free_if_idle(const Id& id);
  bool has_writer(const wire::ObjectRef& file) const;

  const Handles& handles_;
  const std::function<void(const Id&)> before_free_;
  std::atomic<uint64_t> handed_out_ = 0, pinned_ = 0, known_ = 0;  // known_: files, so that asking is free while there are none
  std::array<Shard, kShards> shards_;
};

}  // namespace voldfs::store
