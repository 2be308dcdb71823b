#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/store/pins.h"

namespace voldfs::server {

// What a grant lets a session's kernel keep, and what a change takes away; bits.
inline constexpr uint8_t kLeaseAttr = 1;     // an object's attributes, and by them the pages of a file
inline constexpr uint8_t kLeaseEntries = 2;  // a directory's names here, also that one is missing
inline constexpr uint8_t kLeaseNoCapability = kLeaseEntries;  // of a file: that it has no security.capability, which no store changes
inline constexpr uint8_t kLeaseOwner = kLeaseEntries;         // and, of a pinned one, its owner and permissions

struct LeaseItem {
  Id object;
  uint8_t what;  // kLease*
};

// How holders are told. Called without a lock.
class LeaseTeller {
 public:
  virtual ~LeaseTeller() = default;
  // Asks the session to drop what it keeps of the object; `sequence` goes into the recall. The result names the
  // recall for await(); 0: it cannot be told.
  virtual uint64_t tell(uint64_t session, const LeaseItem& item, uint64_t sequence) = 0;
  // Until the session has acknowledged the recall, has ended or has come back with empty hands, at most until
  // `deadline` (CLOCK_BOOTTIME, ms). False: the deadline.
  virtual bool await(uint64_t session, uint64_t recall, int64_t deadline) = 0;
};

// Who may cache what (C. Gray and D. Cheriton, "Leases", 1989). A grant ends by itself `lease_ms` after the brick's
// answer at the latest, so that a client which does not answer holds up a change for so long and no longer.
//
// The order of things that makes it right without a lock around reading and granting: a reader takes now() *before* it
// reads the state, and asks for the grant after it; a change is announced *after* it is made. A grant for an object that
// was changed since the reader's now() is refused; any later change finds the grant and recalls it. The client discards
// a reply whose number is below the highest recall that it has met: the two travel on different connections.
//
// Any thread. Shard locks are leaf locks, but for Pins' own.
class LeaseTable {
 public:
  // `pins`: whose attributes nobody may keep; null: none. Looked at under a shard's lock, so that whoever pins a file and then calls
  // changed() for it has no grant of it out.
  LeaseTable(uint32_t lease_ms, LeaseTeller& teller, const store::Pins* pins = nullptr);

  // A reader's number, to be taken before it looks at anything.
  uint64_t now() const { return sequence_.load(std::memory_order_acquire); }
  // Lets the session keep the items, read after `since`. How long, in ms; 0: it may not, for one of them has changed, or
  // kLeasesMax are out. `by_change`: the reader is the answer to a change of the session's own. Otherwise attributes that
  // the session itself has changed meanwhile are refused too: its kernel may put the older answer behind the newer.
  uint32_t grant(uint64_t session, uint64_t since, std::span<const LeaseItem> items, bool by_change);
  // The items have changed by a request of `session`: takes them from everyone else and waits until nobody can show
  // the old state any more.
  void changed(uint64_t session, std::span<const LeaseItem> items);
  // The session has ended, or has dropped everything that it kept.
  void forget(uint64_t session);
  // Removes grants that have ended; a shard at each call. By the housekeeping thread.
  void sweep();

  struct Counters {
    uint64_t granted, refused, recalls, expiries;
  };
  Counters counters() const;
  size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  struct Hold {
    uint64_t session;
    int64_t attr_end, entries_end;  // CLOCK_BOOTTIME, ms; 0: not held
  };
  struct Recall {
    uint64_t session;
    LeaseItem item;
    uint64_t sequence;
    int64_t end;
    uint64_t number;
  };
  static constexpr size_t kShards = 64;
  // The newest changes of the ids that share a slot. A session's own changes do not make its names old: its kernel
  // knows of them. So two numbers: the newest of all, and the newest by anyone else than that one's session.
  struct Change {
    uint64_t newest = 0, session = 0, newest_of_others = 0;
  };
  static constexpr size_t kChangeSlots = 128;
  struct Shard {
    std::mutex mutex;
    std::unordered_map<Id, std::vector<Hold>> holds;       // guarded by mutex
    std::array<Change, kChangeSlots> changes{};             // guarded by mutex; by a hash of the id
  };

  Shard& shard_of(const Id& object) { return shards_[IdHash{}(object) % kShards]; }
  static Change& change_of(Shard& shard, const Id& object) {
    return shard.changes[IdHash{}(object) / kShards % kChangeSlots];
  }
  void remove_if(Shard& shard, const std::function<bool(const Hold&)>& gone);  // REQUIRES: shard.mutex
  bool grant_one(uint64_t session, uint64_t since, const LeaseItem& item, int64_t end, bool by_change);
  void take_from_others(uint64_t session, const LeaseItem& item, int64_t now, std::vector<Recall>& recalls);

  const uint32_t lease_ms_;
  LeaseTeller& teller_;
  const store::Pins* const pins_;
  std::atomic<uint64_t> sequence_{1};
  std::atomic<size_t> size_{0};        // holds in all shards
  std::atomic<size_t> next_sweep_{0};
  std::atomic<uint64_t> granted_{0}, refused_{0}, recalls_{0}, expiries_{0};
  std::array<Shard, kShards> shards_;
};

}  // namespace voldfs::server
