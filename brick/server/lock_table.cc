#include "brick/server/lock_table.h"

#include <algorithm>
#include <unordered_set>

#include "brick/server/limits.h"
#include "brick/wire/status.h"

namespace voldfs::server {

using wire::LockBody;
using wire::LockKind;
using wire::LockOwner;
using wire::LockType;

Result<void> LockTable::lock(uint64_t session, const LockBody& request, bool wait, LockBody* conflicting) {
  std::vector<Ended> ended;
  Result<void> result;
  {
    std::lock_guard lock(mutex_);
    const File file = files_.try_emplace(request.object.id).first;
    const HeldLock* conflict = file->second.conflict(request);
    if (request.kind == LockKind::kFlock && conflict != nullptr) {
      // flock(2): a conversion gives up the old lock first, and does not get it back.
      LockBody old = request;
      old.type = LockType::kUnlock;
      hold(file->second, session, old);
      conflict = file->second.conflict(request);
    }
    if (conflict == nullptr) {
      const auto counted = counts_.find(session);
      if (request.type != LockType::kUnlock && counted != counts_.end() &&
          counted->second >= static_cast<int>(kLocksPerSessionMax)) {
        result = fail(ENOLCK);
      } else {
        hold(file->second, session, request);
      }
    } else if (wait) {
      result = enqueue(file, session, request);
    } else {
      *conflicting = conflict->lock;
      result = fail(EAGAIN);
    }
    wake(file->second, ended);
    forget_if_empty(file);
  }
  tell(ended);
  return result;
}

Result<void> LockTable::enqueue(File file, uint64_t session, const LockBody& request) {
  for (const HeldLock& waiter : file->second.waiting()) {
    if (waiter.session == session && waiter.lock.ticket == request.ticket) return fail(wire::kQueued);
  }
  if (closes_cycle(file->second, request)) return fail(EDEADLK);
  const auto counted = counts_.find(session);
  if (counted != counts_.end() && counted->second >= static_cast<int>(kLocksPerSessionMax)) return fail(ENOLCK);
  file->second.waiting().push_back({session, request});
  waiting_.emplace(request.owner, file->first);
  count(session, 1);
  return fail(wire::kQueued);
}

void LockTable::dequeue(FileLocks& file, std::list<HeldLock>::iterator waiter) {
  const auto [first, last] = waiting_.equal_range(waiter->lock.owner);
  const auto entry =
      std::find_if(first, last, [&](const auto& wait) { return wait.second == waiter->lock.object.id; });
  if (entry != last) waiting_.erase(entry);
  count(waiter->session, -1);
  file.waiting().erase(waiter);
}

void LockTable::hold(FileLocks& file, uint64_t session, const LockBody& request) {
  count(session, file.apply(session, request));
}

// First come, first served among those whose way is free. A new request may overtake waiters that it does not
// conflict with, as in the kernel: to make it wait would find cycles where there are none.
void LockTable::wake(FileLocks& file, std::vector<Ended>& ended) {
  bool granted_any = false;
  for (auto waiter = file.waiting().begin(); waiter != file.waiting().end();) {
    if (file.conflict(waiter->lock) != nullptr) {
      ++waiter;
      continue;
    }
    const HeldLock granted = *waiter;
    dequeue(file, waiter);
    hold(file, granted.session, granted.lock);
    ended.push_back({granted.session, granted.lock, 0});
    granted_any = true;
    waiter = file.waiting().begin();  // what was granted may have made an earlier one's way free (a downgrade)
  }
  if (!granted_any) return;
  // Who waited for the old holder waits for the new one now: that may close a cycle.
  for (auto waiter = file.waiting().begin(); waiter != file.waiting().end();) {
    const auto next = std::next(waiter);
    if (closes_cycle(file, waiter->lock)) {
      ended.push_back({waiter->session, waiter->lock, EDEADLK});
      dequeue(file, waiter);
    }
    waiter = next;
  }
}

bool LockTable::closes_cycle(const FileLocks& file, const LockBody& request) const {
  if (request.kind != LockKind::kPosix) return false;  // as the kernel: others may be handed on between processes
  std::vector<LockOwner> ahead = file.blockers(request);
  std::unordered_set<LockOwner, OwnerHash, OwnerEqual> seen;
  while (!ahead.empty()) {
    const LockOwner owner = ahead.back();
    ahead.pop_back();
    if (OwnerEqual{}(owner, request.owner)) return true;
    if (!seen.insert(owner).second) continue;
    const auto [first, last] = waiting_.equal_range(owner);
    for (auto wait = first; wait != last; ++wait) {
      const FileLocks& where = files_.at(wait->second);
      for (const HeldLock& waiter : where.waiting()) {
        if (waiter.lock.kind != LockKind::kPosix || !OwnerEqual{}(waiter.lock.owner, owner)) continue;
        const auto more = where.blockers(waiter.lock);
        ahead.insert(ahead.end(), more.begin(), more.end());
      }
    }
  }
  return false;
}

LockBody LockTable::test(const LockBody& request) const {
  std::lock_guard lock(mutex_);
  const auto file = files_.find(request.object.id);
  const HeldLock* conflict = file != files_.end() ? file->second.conflict(request) : nullptr;
  if (conflict != nullptr) return conflict->lock;
  LockBody none = request;
  none.type = LockType::kUnlock;
  return none;
}

Result<void> LockTable::cancel(uint64_t session, const LockBody& request, bool held_too) {
  std::vector<Ended> ended;
  {
    std::lock_guard lock(mutex_);
    const File file = files_.find(request.object.id);
    if (file == files_.end()) return fail(ENOENT);
    const auto is_meant = [&](const HeldLock& each) {
      return each.session == session && each.lock.ticket == request.ticket && same_owner(each.lock, request);
    };
    auto& waiting = file->second.waiting();
    const auto waiter = std::find_if(waiting.begin(), waiting.end(), is_meant);
    if (waiter != waiting.end()) {
      dequeue(file->second, waiter);
    } else {
      const size_t dropped = file->second.drop_held([&](const HeldLock& held) {
        if (!held_too || !is_meant(held)) return false;
        count(session, -1);
        return true;
      });
      if (dropped == 0) return fail(ENOENT);
      wake(file->second, ended);
    }
    forget_if_empty(file);
  }
  tell(ended);
  return {};
}

void LockTable::drop(const LockBody& request) {
  std::vector<Ended> ended;
  {
    std::lock_guard lock(mutex_);
    const File file = files_.find(request.object.id);
    if (file == files_.end()) return;
    file->second.drop_held([&](const HeldLock& held) {
      if (!same_owner(held.lock, request)) return false;
      count(held.session, -1);
      return true;
    });
    wake(file->second, ended);
    forget_if_empty(file);
  }
  tell(ended);
}

void LockTable::drop_session(uint64_t session) {
  std::vector<Ended> ended;
  {
    std::lock_guard lock(mutex_);
    if (!counts_.contains(session)) return;
    // Its waits first, on all files, so that no lock is granted to one that goes.
    for (auto& [id, locks] : files_) {
      for (auto waiter = locks.waiting().begin(); waiter != locks.waiting().end();) {
        const auto next = std::next(waiter);
        if (waiter->session == session) dequeue(locks, waiter);
        waiter = next;
      }
    }
    for (File file = files_.begin(); file != files_.end();) {
      FileLocks& locks = file->second;
      if (locks.drop_held([&](const HeldLock& held) { return held.session == session; }) != 0) wake(locks, ended);
      const File next = std::next(file);
      forget_if_empty(file);
      file = next;
    }
    counts_.erase(session);
  }
  tell(ended);
}

std::vector<LockOwner> LockTable::waits_of(const LockOwner& owner) const {
  std::lock_guard lock(mutex_);
  std::vector<LockOwner> out;
  const auto [first, last] = waiting_.equal_range(owner);
  for (auto wait = first; wait != last; ++wait) {
    const FileLocks& file = files_.at(wait->second);
    for (const HeldLock& waiter : file.waiting()) {
      if (waiter.lock.kind != LockKind::kPosix || !OwnerEqual{}(waiter.lock.owner, owner)) continue;
      const auto more = file.blockers(waiter.lock);
      out.insert(out.end(), more.begin(), more.end());
    }
  }
  return out;
}

size_t LockTable::count() const {
  std::lock_guard lock(mutex_);
  size_t sum = 0;
  for (const auto& [session, count] : counts_) sum += static_cast<size_t>(count);
  return sum;
}

void LockTable::count(uint64_t session, int by) {
  if (by == 0) return;
  int& counted = counts_[session];
  counted += by;
  if (counted == 0) counts_.erase(session);
}

void LockTable::forget_if_empty(File file) {
  if (file->second.empty()) files_.erase(file);
}

void LockTable::tell(const std::vector<Ended>& ended) {
  for (const Ended& wait : ended) wait_ended_(wait.session, wait.lock, wait.error);
}

}  // namespace voldfs::server
