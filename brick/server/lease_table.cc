#include "brick/server/lease_table.h"

#include <algorithm>

#include "brick/base/clock.h"
#include "brick/server/limits.h"

namespace voldfs::server {

LeaseTable::LeaseTable(uint32_t lease_ms, LeaseTeller& teller, const store::Pins* pins)
    : lease_ms_(lease_ms), teller_(teller), pins_(pins) {}

uint32_t LeaseTable::grant(uint64_t session, uint64_t since, std::span<const LeaseItem> items, bool by_change) {
  const int64_t end = boottime_ms() + lease_ms_;
  for (const LeaseItem& item : items) {
    if (grant_one(session, since, item, end, by_change)) continue;
    refused_.fetch_add(1, std::memory_order_relaxed);
    return 0;  // what was granted before it is recalled for nothing, once
  }
  granted_.fetch_add(items.size(), std::memory_order_relaxed);
  return lease_ms_;
}

bool LeaseTable::grant_one(uint64_t session, uint64_t since, const LeaseItem& item, int64_t end, bool by_change) {
  Shard& shard = shard_of(item.object);
  std::lock_guard lock(shard.mutex);
  const Change& change = change_of(shard, item.object);
  if ((item.what & kLeaseAttr) && pins_ != nullptr && pins_->is_pinned(item.object)) return false;
  const bool own_count = !by_change && (item.what & kLeaseAttr);
  if ((change.session == session && !own_count ? change.newest_of_others : change.newest) > since) return false;
  auto& holds = shard.holds[item.object];
  auto hold = std::find_if(holds.begin(), holds.end(), [&](const Hold& h) { return h.session == session; });
  if (hold == holds.end()) {
    if (size_.load(std::memory_order_relaxed) >= kLeasesMax) {
      if (holds.empty()) shard.holds.erase(item.object);
      return false;
    }
    holds.push_back({session, 0, 0});
    hold = holds.end() - 1;
    size_.fetch_add(1, std::memory_order_relaxed);
  }
  if (item.what & kLeaseAttr) hold->attr_end = end;
  if (item.what & kLeaseEntries) hold->entries_end = end;
  return true;
}

void LeaseTable::changed(uint64_t session, std::span<const LeaseItem> items) {
  std::vector<Recall> recalls;
  const int64_t now = boottime_ms();
  for (const LeaseItem& item : items) take_from_others(session, item, now, recalls);
  for (Recall& recall : recalls) recall.number = teller_.tell(recall.session, recall.item, recall.sequence);
  for (const Recall& recall : recalls) {
    recalls_.fetch_add(1, std::memory_order_relaxed);
    if (!teller_.await(recall.session, recall.number, recall.end)) expiries_.fetch_add(1, std::memory_order_relaxed);
  }
}

void LeaseTable::take_from_others(uint64_t session, const LeaseItem& item, int64_t now, std::vector<Recall>& recalls) {
  Shard& shard = shard_of(item.object);
  std::lock_guard lock(shard.mutex);
  const uint64_t sequence = sequence_.fetch_add(1, std::memory_order_acq_rel) + 1;
  Change& change = change_of(shard, item.object);
  if (change.session != session) change.newest_of_others = change.newest;
  change.newest = sequence, change.session = session;
  auto found = shard.holds.find(item.object);
  if (found == shard.holds.end()) return;
  auto& holds = found->second;
  std::erase_if(holds, [&](Hold& hold) {
    if (hold.session == session) return false;
    LeaseItem taken{item.object, 0};
    int64_t end = 0;
    if ((item.what & kLeaseAttr) && hold.attr_end > now) taken.what |= kLeaseAttr, end = hold.attr_end;
    if ((item.what & kLeaseEntries) && hold.entries_end > now) {
      taken.what |= kLeaseEntries;
      end = std::max(end, hold.entries_end);
    }
    if (item.what & kLeaseAttr) hold.attr_end = 0;
    if (item.what & kLeaseEntries) hold.entries_end = 0;
    if (taken.what != 0) recalls.push_back({hold.session, taken, sequence, end, 0});
    if (hold.attr_end != 0 || hold.entries_end != 0) return false;
    size_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  });
  if (holds.empty()) shard.holds.erase(found);
}

void LeaseTable::remove_if(Shard& shard, const std::function<bool(const Hold&)>& gone) {
  for (auto object = shard.holds.begin(); object != shard.holds.end();) {
    size_.fetch_sub(std::erase_if(object->second, gone), std::memory_order_relaxed);
    object = object->second.empty() ? shard.holds.erase(object) : std::next(object);
  }
}

void LeaseTable::forget(uint64_t session) {
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    remove_if(shard, [session](const Hold& hold) { return hold.session == session; });
  }
}

void LeaseTable::sweep() {
  Shard& shard = shards_[next_sweep_.fetch_add(1, std::memory_order_relaxed) % kShards];
  const int64_t now = boottime_ms();
  std::lock_guard lock(shard.mutex);
  remove_if(shard, [now](const Hold& hold) { return hold.attr_end <= now && hold.entries_end <= now; });
}

LeaseTable::Counters LeaseTable::counters() const {
  return {granted_.load(std::memory_order_relaxed), refused_.load(std::memory_order_relaxed),
          recalls_.load(std::memory_order_relaxed), expiries_.load(std::memory_order_relaxed)};
}

}  // namespace voldfs::server
