#include "brick/server/file_locks.h"

#include <algorithm>

namespace voldfs::server {

namespace {

using wire::LockBody;
using wire::LockKind;
using wire::LockType;

bool overlap(const LockBody& a, const LockBody& b) { return a.start <= b.end && b.start <= a.end; }

// One ends where the other begins. Ends are below 2^63: no overflow.
bool adjacent(const LockBody& a, const LockBody& b) { return a.end + 1 == b.start || b.end + 1 == a.start; }

bool conflicting(const LockBody& held, const LockBody& request) {
  if ((held.kind == LockKind::kFlock) != (request.kind == LockKind::kFlock)) return false;
  if (same_owner(held, request) || !overlap(held, request)) return false;
  return held.type == LockType::kWrite || request.type == LockType::kWrite;
}

}  // namespace

const HeldLock* FileLocks::conflict(const LockBody& request) const {
  if (request.type == LockType::kUnlock) return nullptr;
  const auto found =
      std::find_if(held_.begin(), held_.end(), [&](const HeldLock& held) { return conflicting(held.lock, request); });
  return found != held_.end() ? &*found : nullptr;
}

std::vector<wire::LockOwner> FileLocks::blockers(const LockBody& request) const {
  std::vector<wire::LockOwner> owners;
  for (const HeldLock& held : held_) {
    if (!conflicting(held.lock, request)) continue;
    const bool known = std::any_of(owners.begin(), owners.end(), [&](const wire::LockOwner& owner) {
      return owner.owner == held.lock.owner.owner && owner.client == held.lock.owner.client;
    });
    if (!known) owners.push_back(held.lock.owner);
  }
  return owners;
}

int FileLocks::apply(uint64_t session, const LockBody& request) {
  const auto before = static_cast<int>(held_.size());
  LockBody grown = request;  // with the neighbours of its own type
  std::vector<HeldLock> next;
  next.reserve(held_.size() + 2);
  for (const HeldLock& held : held_) {
    const bool own = same_owner(held.lock, request);
    if (own && held.lock.type == request.type && (overlap(held.lock, request) || adjacent(held.lock, request))) {
      grown.start = std::min(grown.start, held.lock.start);
      grown.end = std::max(grown.end, held.lock.end);
      continue;
    }
    if (!own || !overlap(held.lock, request)) {
      next.push_back(held);
      continue;
    }
    if (held.lock.start < request.start) {
      next.push_back(held);
      next.back().lock.end = request.start - 1;
    }
    if (held.lock.end > request.end) {
      next.push_back(held);
      next.back().lock.start = request.end + 1;
    }
  }
  if (request.type != LockType::kUnlock) next.push_back({session, grown});
  held_ = std::move(next);
  return static_cast<int>(held_.size()) - before;
}

}  // namespace voldfs::server
