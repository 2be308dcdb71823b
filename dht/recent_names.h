#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dht/volume_lookup.h"

namespace voldfs::dht {

// What was found or made under the last names, kept while the leases hold: a rename follows right behind the kernel's lookup of
// its two names, or the making of the first. Whoever acts on it has the brick check it. Any thread.
class RecentNames {
 public:
  // `found`: empty when the name was missing, by `grant`. Without a grant nothing is known. `changes`: Node::changes of the directory
  // before it was asked; a name that was missing counts only until the next one.
  void note(const NodePtr& dir, std::string_view name, std::optional<Resolved> found, const Grant& grant, uint64_t changes);
  // The name has been changed by this mount.
  void forget(const NodePtr& dir, std::string_view name);
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
  static constexpr size_t kSlots = 1024;  // some 800 bytes each
  static size_t slot_of(const Id& dir, std::string_view name);

  mutable std::mutex mutex_;
  std::vector<Entry> entries_{kSlots};  // guarded by mutex_
};

}  // namespace voldfs::dht
