#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "brick/base/unique_fd.h"
#include "dht/node.h"
#include "dht/volume.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

// Whether what was written to a file is still going to reach the disk. One for a file and a mount, held by its
// Node, so that an fsync through one open speaks for what was written through another, as on a local file system.
// A write's reply carries the brick's verifier; another verifier later means that the brick's host went down in
// between and that writes which were not synced may be lost. Each open then hears EIO once (as errseq_t in Linux's
// lib/errseq.c). Any thread.
class Durability {
 public:
  // A write was answered, or (unsynced = false) any other reply with a verifier was seen.
  void note(uint64_t verifier, bool wrote);
  // Around an fsync: what begin_sync() returned goes to end_sync() when the brick answered success.
  uint64_t begin_sync() const;
  void end_sync(uint64_t begun, uint64_t verifier);
  uint32_t losses() const;
  bool is_clean() const;            // all is synced, and nothing was ever lost

 private:
  void check(uint64_t verifier);    // REQUIRES: mutex_

  mutable std::mutex mutex_;
  uint64_t verifier_ = 0;           // guarded by mutex_: of the oldest write that is not synced
  uint64_t writes_ = 0;             // guarded by mutex_
  bool unsynced_ = false;           // guarded by mutex_
  uint32_t losses_ = 0;             // guarded by mutex_
};

// An open of a file on its brick. Outlives the brick's restarts: it is opened again by handle, under the number
// that it had, and the locks that were taken through it are taken again. Any thread.
class OpenFile final : public Reclaimable, public std::enable_shared_from_this<OpenFile> {
 public:
  // Of an open that the brick has just answered (`entry.open` is its number).
  // `descriptor`: that came along, if one did.
  static OpenFilePtr make(Volume::Impl& volume, const NodePtr& node, uint16_t brick, const wire::EntryBody& entry,
                          const Grant& grant, uint32_t flags, const Caller& opener, unique_fd descriptor);
  ~OpenFile() override;

  // In this process no other open has had it, or will.
  uint64_t id() const { return id_; }
  const NodePtr& node() const { return node_; }
  uint16_t brick() const { return brick_; }
  uint32_t number() const { return number_.load(std::memory_order_relaxed); }
  uint32_t flags() const { return flags_; }
  const wire::Attr& attr_at_open() const { return attr_at_open_; }
  const Grant& grant_at_open() const { return grant_at_open_; }  // of attr_at_open()
  // The file itself, once; none if the brick did not hand it out. Whoever takes it gives up every copy before the release.
  unique_fd take_descriptor() { return std::move(descriptor_); }
  Durability& durability() { return *durability_; }
  // EIO once for each loss of writes that this open has not heard of.
  Result<void> take_loss();

  // It stands for a new open from here on, which has not missed anything.
  void renew();

  // An fsync has failed: what was written may be lost, and no later one may claim that it is safe. EIO until it is opened again.
  void set_sync_failed() { sync_failed_ = true; }
  bool sync_failed() const { return sync_failed_; }

  // Opens the file again under its number.
  Result<void> reopen();
  bool reclaim(uint16_t ordinal, bool lost) override;
  // No reclaim from here on: the brick is told that the open has ended.
  void close();

 private:
  OpenFile(Volume::Impl& volume, const NodePtr& node, uint16_t brick, const wire::EntryBody& entry, const Grant& grant,
           uint32_t flags, const Caller& opener, unique_fd descriptor);

  inline static std::atomic<uint64_t> last_id_ = 0;
  const uint64_t id_ = last_id_.fetch_add(1) + 1;
  Volume::Impl& volume_;
  const NodePtr node_;
  const uint16_t brick_;
  const uint32_t flags_;               // of open(2), without those that act only once (O_CREAT, O_EXCL, O_TRUNC)
  const bool handed_out_;              // the brick is to know that the descriptor is here
  unique_fd descriptor_;               // until it is taken; the opener's thread
  const Caller opener_;
  const wire::Attr attr_at_open_;
  const Grant grant_at_open_;
  std::atomic<uint32_t> number_;
  std::atomic<bool> closed_ = false;
  std::atomic<bool> sync_failed_ = false;
  std::atomic<uint32_t> losses_heard_;
  std::shared_ptr<Durability> durability_;  // until the end
};

}  // namespace voldfs::dht
