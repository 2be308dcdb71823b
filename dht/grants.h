#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>

#include "brick/base/clock.h"
#include "brick/base/id.h"
#include "brick/wire/message.h"
#include "dht/grant.h"

// The client's half of the leases (DESIGN 7): what the kernel may be told to keep, and for how long.
namespace voldfs::dht {

// When the reply's brick looked, and how long that may be kept, which may be not at all.
Grant age_of(const wire::Reply& reply);
// The permission that a reply carries; none if it carries none.
Grant grant_of(const wire::Reply& reply);
// For these attributes of a file, which are in the reply; none if the file is pinned.
Grant attr_grant_of(const wire::Reply& reply, const wire::Attr& attr);

// All of a mount's grants stand or fall here. Recalls and replies travel on different connections, so a reply may
// arrive behind the recall of what it says: it is discarded by its number. And what a worker is about to hand to the
// kernel must be there before a recall of it is acknowledged, or the kernel would keep it ever after: workers deliver
// under a shared lock, recalls take it alone for a moment. Nothing blocks under the lock but the write to /dev/fuse.
// Any thread.
class Grants {
 public:
  Grants();

  // When and under which generation a request is sent: taken before it is, and noted in its reply.
  struct Asking {
    uint16_t brick;
    int64_t at_ms;
    uint64_t generation;

    void note(wire::Reply& reply) const {
      reply.asked_brick = brick, reply.asked_ms = at_ms, reply.asked_generation = generation;
    }
  };
  Asking ask(uint16_t brick) const;

  // The brick has asked for the object back. After this call no worker delivers an older word about it with a
  // validity; what has been delivered is for the caller to take back from the kernel, before it acknowledges.
  void recalled(uint16_t brick, const Id& object, uint64_t sequence);
  // Does it while nobody delivers.
  template <class Act>
  auto between_deliveries(const Act& act) {
    std::unique_lock lock(mutex_);
    return act();
  }

  // The brick has forgotten what it granted, or may have recalled without being heard.
  void dropped(uint16_t brick);

  // Held while a reply is handed to the kernel.
  class Delivery {
   public:
    explicit Delivery(const Grants& grants) : grants_(grants), lock_(grants.mutex_) {}
    // For how long all of the grants are good, in seconds, for what they say of the object: a directory's names, or
    // anybody's attributes. 0: not at all, or there are none.
    double seconds(const Id& object, std::span<const Grant> grants) const;

   private:
    const Grants& grants_;
    std::shared_lock<std::shared_mutex> lock_;
  };

 private:
  // By a hash of the object: the highest recall. Two objects that share a slot cost a validity now and then.
  static constexpr size_t kSlots = 256;
  struct Brick {
    uint64_t generation = 1;
    std::array<uint64_t, kSlots> recalled{};
  };
  const Brick* find(uint16_t brick) const;  // REQUIRES: mutex_
  Brick& brick(uint16_t ordinal);           // REQUIRES: mutex_, alone

  mutable std::shared_mutex mutex_;
  std::array<std::unique_ptr<Brick>, wire::kOrdinalMax + 1> bricks_;  // guarded by mutex_
};

}  // namespace voldfs::dht
