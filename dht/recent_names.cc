#include "dht/recent_names.h"

#include <functional>

namespace voldfs::dht {

size_t RecentNames::slot_of(const Id& dir, std::string_view name) {
  return (IdHash{}(dir) ^ std::hash<std::string_view>{}(name)) % kSlots;
}

void RecentNames::note(const NodePtr& dir, std::string_view name, std::optional<Resolved> found, const Grant& grant,
                       uint64_t changes) {
  if (grant.sequence == 0) return forget(dir, name);
  Entry entry{dir->id(), std::string(name), std::move(found), grant, changes};
  std::lock_guard lock(mutex_);
  entries_[slot_of(dir->id(), name)] = std::move(entry);
}

void RecentNames::forget(const NodePtr& dir, std::string_view name) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[slot_of(dir->id(), name)];
  if (entry.dir == dir->id() && entry.name == name) entry = {};
}

std::optional<std::optional<Resolved>> RecentNames::find(const Grants& grants, const NodePtr& dir, std::string_view name) const {
  Grant grant;
  std::optional<Resolved> found;
  {
    std::lock_guard lock(mutex_);
    const Entry& entry = entries_[slot_of(dir->id(), name)];
    if (entry.dir != dir->id() || entry.name != name) return std::nullopt;
    if (!entry.found && entry.changes != dir->changes.load()) return std::nullopt;
    grant = entry.grant, found = entry.found;
  }
  if (Grants::Delivery(grants).seconds(dir->id(), {&grant, 1}) == 0) return std::nullopt;
  return found;
}

}  // namespace voldfs::dht
