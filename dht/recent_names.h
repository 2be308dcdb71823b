#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "dht/volume_lookup.h"

namespace voldfs::dht {

// What the last few lookups found, kept while their leases hold: a rename follows right behind the kernel's lookup of its two
// names. Whoever acts on it has the brick check it. Any thread.
class RecentNames {
 public:
  // `found`: empty when the name was missing, by `grant`. Ignored without a grant. `changes`: Node::changes of the directory
  // before it was asked.
  void note(const NodePtr& dir, std::string_view name, std::optional<Resolved> found, const Grant& grant, uint64_t changes);
  // Empty: not known. Inside it, empty: known to be missing.
  std::optional<std::optional<Resolved>> find(const Grants& grants, const NodePtr& dir, std::string_view name) const;

 private:
  struct Entry {
    Id dir;
    std::string name;
    std::optional<Resolved> found;
    Grant grant;
    uint64_t changes = 0;  // of the directory by this mount, before
  };
  static constexpr size_t kSlots = 64;
  static size_t slot_of(const Id& dir, std::string_view name);

  mutable std::mutex mutex_;
  std::array<Entry, kSlots> entries_;  // guarded by mutex_
};

}  // namespace voldfs::dht
