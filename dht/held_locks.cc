#include "dht/held_locks.h"

#include <algorithm>

namespace voldfs::dht {

void HeldLocks::apply(const wire::LockBody& lock, const void* via) {
  std::vector<Held>& before = files_[lock.object.id];
  std::vector<Held> after;
  for (const Held& held : before) {
    if (!same_owner(held.lock, lock) || held.lock.end < lock.start || held.lock.start > lock.end) {
      after.push_back(held);
      continue;
    }
    if (held.lock.start < lock.start) {  // what juts out in front stays
      after.push_back(held);
      after.back().lock.end = lock.start - 1;
    }
    if (held.lock.end > lock.end) {      // and behind
      after.push_back(held);
      after.back().lock.start = lock.end + 1;
    }
  }
  if (lock.type != wire::LockType::kUnlock) after.push_back({lock, via});
  count_ += after.size() - before.size();
  if (after.empty())
    files_.erase(lock.object.id);
  else
    before = std::move(after);
}

std::vector<HeldLocks::Held> HeldLocks::give_up(const wire::LockBody& request) {
  std::vector<Held> weaker;
  if (request.kind == wire::LockKind::kFlock) {
    static_cast<void>(drop(request));
  } else if (request.type == wire::LockType::kUnlock) {
    apply(request, nullptr);
  } else if (request.type == wire::LockType::kRead) {
    const auto file = files_.find(request.object.id);
    if (file == files_.end()) return weaker;
    for (Held held : file->second) {
      const bool overlaps = held.lock.start <= request.end && request.start <= held.lock.end;
      if (!overlaps || held.lock.type != wire::LockType::kWrite || !same_owner(held.lock, request)) continue;
      held.lock.start = std::max(held.lock.start, request.start);
      held.lock.end = std::min(held.lock.end, request.end);
      weaker.push_back(held);
    }
    for (Held held : weaker) {
      held.lock.type = wire::LockType::kRead;
      apply(held.lock, held.via);
    }
  }
  return weaker;
}

void HeldLocks::restore(const std::vector<Held>& given_up) {
  for (const Held& held : given_up) apply(held.lock, held.via);
}

bool HeldLocks::drop(const wire::LockBody& owner) {
  const auto file = files_.find(owner.object.id);
  if (file == files_.end()) return false;
  const size_t gone = std::erase_if(file->second, [&](const Held& held) { return same_owner(held.lock, owner); });
  count_ -= gone;
  if (file->second.empty()) files_.erase(file);
  return gone > 0;
}

std::vector<wire::LockBody> HeldLocks::taken_via(const Id& file, const void* via) const {
  std::vector<wire::LockBody> out;
  const auto found = files_.find(file);
  if (found == files_.end()) return out;
  for (const Held& held : found->second)
    if (held.via == via) out.push_back(held.lock);
  return out;
}

bool HeldLocks::covers(const wire::LockBody& lock) const {
  const auto found = files_.find(lock.object.id);
  if (found == files_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(), [&](const Held& held) {
    return same_owner(held.lock, lock) && held.lock.type == lock.type && held.lock.start <= lock.start && held.lock.end >= lock.end;
  });
}

}  // namespace voldfs::dht
