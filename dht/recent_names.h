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
  // What resolve() has found, or would find. Directories, names in a transaction and what comes without a grant are not noted.
  void note(const NodePtr& dir, std::string_view name, const Resolved& found, const Grant& grant);
  // The name was missing. It counts until this mount's next change of the directory. `changes`: Node::changes before it was asked.
  void note_missing(const NodePtr& dir, std::string_view name, const Grant& grant, uint64_t changes);
  // The name has been changed by this mount.
  void forget(const NodePtr& dir, std::string_view name);
  // Empty: not known. Inside it, empty: known to be missing; otherwise without `body`.
  std::optional<std::optional<Resolved>> find(const Grants& grants, const NodePtr& dir, std::string_view name) const;

 private:
  struct Entry {
    Id dir;
    std::string name;
    bool missing = false, stub = false;
    wire::ObjectType type{};
    uint16_t authority = 0, brick = 0;
    wire::ObjectRef object{};
    Grant grant;
    uint64_t changes = 0;  // of the directory by this mount, before; of a missing name
  };
  static constexpr size_t kSlots = 4096;  // some 180 bytes each
  void put(Entry entry);
  static size_t slot_of(const Id& dir, std::string_view name);

  mutable std::mutex mutex_;
  std::vector<Entry> entries_{kSlots};  // guarded by mutex_
};

}  // namespace voldfs::dht
