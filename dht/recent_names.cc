#include "dht/recent_names.h"

#include <functional>

namespace voldfs::dht {

size_t RecentNames::slot_of(const Id& dir, std::string_view name) {
  return (IdHash{}(dir) ^ std::hash<std::string_view>{}(name)) % kSlots;
}

void RecentNames::put(Entry entry) {
  std::lock_guard lock(mutex_);
  entries_[slot_of(entry.dir, entry.name)] = std::move(entry);
}

void RecentNames::note(const NodePtr& dir, std::string_view name, const Resolved& found, const Grant& grant) {
  if (grant.sequence == 0 || found.is_directory() || found.marked || !found.pending.is_none()) return forget(dir, name);
  put({dir->id(), std::string(name), false, found.stub, found.type, found.authority, found.brick, found.object, grant, 0});
}

void RecentNames::note_missing(const NodePtr& dir, std::string_view name, const Grant& grant, uint64_t changes) {
  if (grant.sequence == 0) return forget(dir, name);
  put({dir->id(), std::string(name), true, false, {}, 0, 0, {}, grant, changes});
}

void RecentNames::forget(const NodePtr& dir, std::string_view name) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[slot_of(dir->id(), name)];
  if (entry.dir == dir->id() && entry.name == name) entry = {};
}

std::optional<std::optional<Resolved>> RecentNames::find(const Grants& grants, const NodePtr& dir, std::string_view name) const {
  Entry entry;
  {
    std::lock_guard lock(mutex_);
    const Entry& there = entries_[slot_of(dir->id(), name)];
    if (there.dir != dir->id() || there.name != name) return std::nullopt;
    entry = there;
  }
  if (entry.missing && entry.changes != dir->changes.load()) return std::nullopt;
  if (Grants::Delivery(grants).seconds(dir->id(), {&entry.grant, 1}) == 0) return std::nullopt;
  if (entry.missing) return std::optional<Resolved>();
  Resolved found;
  found.authority = entry.authority, found.brick = entry.brick;
  found.stub = entry.stub, found.type = entry.type, found.object = entry.object;
  found.grant = entry.grant;
  return found;
}

}  // namespace voldfs::dht
