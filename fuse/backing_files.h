#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "brick/base/unique_fd.h"
#include "dht/node.h"

namespace voldfs::fuse {

// FUSE passthrough: files of which the brick has handed out a descriptor are read and written by the kernel itself, on the brick's
// file. It wants all opens of an inode to be served the same way for as long as one of them is there (fs/fuse/iomode.c, EIO
// otherwise), so the first one decides, and the inode has one backing id, closed when the last of them has ended.
// Any thread. A shard's mutex is held over the two ioctl(2)s, which wait for nothing.
class BackingFiles {
 public:
  // `device`: of the mount, its own descriptor of it.
  explicit BackingFiles(unique_fd device) : device_(std::move(device)) {}
  BackingFiles(const BackingFiles&) = delete;
  BackingFiles& operator=(const BackingFiles&) = delete;

  enum class Mode : uint8_t {
    kDaemon,        // requests come to us, pages are the inode's own
    kPassthrough,
    kBesideIt,      // requests come to us without pages, beside opens that are passthrough
  };

  // An open's share in how its inode is served. Given up (reset) before the brick hears of the open's end: nothing of the descriptor
  // is left then.
  class Use {
   public:
    Use() = default;
    Use(Use&& other) noexcept { *this = std::move(other); }
    Use& operator=(Use&& other) noexcept {
      reset();
      files_ = std::exchange(other.files_, nullptr);
      node_ = std::move(other.node_), mode_ = other.mode_, backing_id_ = other.backing_id_, descriptor_ = other.descriptor_;
      return *this;
    }
    ~Use() { reset(); }
    void reset();

    Mode mode() const { return mode_; }
    int32_t backing_id() const { return backing_id_; }  // 0: none
    int descriptor() const { return descriptor_; }      // of the inode's file, good until reset(); -1: none

   private:
    friend class BackingFiles;
    BackingFiles* files_ = nullptr;
    dht::NodePtr node_;
    Mode mode_ = Mode::kDaemon;
    int32_t backing_id_ = 0;
    int descriptor_ = -1;
  };

  // Whether an open of the node should ask for its descriptor. A hint: the node's other opens may end meanwhile.
  bool wants(const dht::Node& node) const;
  // `descriptor`: what the brick handed out for this open; none: nothing.
  Use open(const dht::NodePtr& node, unique_fd descriptor);
  bool is_on() const { return !refused_for_good_.load(std::memory_order_relaxed); }
  struct Counters {
    uint64_t opens, refused, backing_ids;  // so far, so far, now
  };
  Counters counters() const;

 private:
  struct File {
    uint32_t opens = 0;
    int32_t backing_id = 0;
    unique_fd descriptor;  // with a backing id: what the kernel does not pass through is done on it
  };
  static constexpr size_t kShards = 64;
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<const dht::Node*, File> files;  // guarded by mutex
  };
  Shard& shard(const dht::Node& node) { return shards_[IdHash()(node.id()) % kShards]; }
  const Shard& shard(const dht::Node& node) const { return shards_[IdHash()(node.id()) % kShards]; }

  int32_t attach(const unique_fd& descriptor);
  void close(const dht::Node& node);

  const unique_fd device_;
  std::atomic<bool> refused_for_good_ = false;  // the kernel lets this process have no backing files
  std::atomic<uint64_t> opens_ = 0, refused_ = 0, backing_ids_ = 0;
  std::array<Shard, kShards> shards_;
};

}  // namespace voldfs::fuse
