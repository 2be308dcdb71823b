#pragma once

#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/wire/ops.h"

namespace voldfs::dht {

// The locks that this mount holds, as it believes: what is taken again when a brick has restarted. Not safe for
// threads: its user locks.
class HeldLocks {
 public:
  struct Held {
    wire::LockBody lock;
    const void* via;
  };

  // A request is about to be sent that makes its owner hold less, or may: an unlock, a write lock that becomes a read lock, any
  // conversion by flock(2). From here on the brick may have given to another what is no longer held, so that it must not be taken again
  // when the brick restarts before it has answered. Returns what restore() wants if the request is refused.
  std::vector<Held> give_up(const wire::LockBody& request);
  void restore(const std::vector<Held>& given_up);
  // A lock or unlock has succeeded: what its owner had in the range is replaced. `via`: the open that it came through.
  void apply(const wire::LockBody& lock, const void* via);
  // Everything of an owner on a file goes. False: there was nothing.
  bool drop(const wire::LockBody& owner);
  // What has been taken through an open.
  std::vector<wire::LockBody> taken_via(const Id& file, const void* via) const;
  bool covers(const wire::LockBody& lock) const;
  size_t size() const { return count_; }

 private:
  static bool same_owner(const wire::LockBody& a, const wire::LockBody& b) {
    return a.kind == b.kind && a.owner.owner == b.owner.owner && a.owner.client == b.owner.client;
  }

  std::unordered_map<Id, std::vector<Held>> files_;
  size_t count_ = 0;
};

}  // namespace voldfs::dht
