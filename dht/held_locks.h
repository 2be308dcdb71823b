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
  // A lock or unlock has succeeded: what its owner had in the range is replaced. `via`: the open that it came through.
  void apply(const wire::LockBody& lock, const void* via);
  // Everything of an owner on a file goes. False: there was nothing.
  bool drop(const wire::LockBody& owner);
  // What has been taken through an open.
  std::vector<wire::LockBody> taken_via(const Id& file, const void* via) const;
  bool covers(const wire::LockBody& lock) const;
  size_t size() const { return count_; }

 private:
  struct Held {
    wire::LockBody lock;
    const void* via;
  };
  static bool same_owner(const wire::LockBody& a, const wire::LockBody& b) {
    return a.kind == b.kind && a.owner.owner == b.owner.owner && a.owner.client == b.owner.client;
  }

  std::unordered_map<Id, std::vector<Held>> files_;
  size_t count_ = 0;
};

}  // namespace voldfs::dht
