#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "brick/base/result.h"
#include "brick/server/file_locks.h"

namespace voldfs::server {

// The locks of all files of the brick (fcntl's record locks of processes and of open file descriptions, flock), in
// memory: after a restart clients reclaim them. Nobody ever blocks in here: a wait is parked, and its end is told
// through WaitEnded. Any thread. One mutex for all files, because a cycle of waits goes over several;
// it is held for look-ups and copies alone.
class LockTable {
 public:
  // A parked wait has ended: error 0, the lock is held now; EDEADLK: it closed a cycle that another grant made.
  // Called without mutex_.
  using WaitEnded = std::function<void(uint64_t session, const wire::LockBody& lock, int error)>;

  explicit LockTable(WaitEnded wait_ended) : wait_ended_(std::move(wait_ended)) {}

  // F_SETLK, F_SETLKW, flock. 0: held (or unlocked). EAGAIN: `*conflicting` is in the way. wire::kQueued: it is waited
  // for under the request's ticket. EDEADLK: waiting would close a cycle of processes here. ENOLCK:
  // kLocksPerSessionMax. A repetition of a request has the same effect as the first.
  Result<void> lock(uint64_t session, const wire::LockBody& request, bool wait, wire::LockBody* conflicting);
  // F_GETLK: what would be in the way, or a body of type kUnlock.
  wire::LockBody test(const wire::LockBody& request) const;
  // The wait of this ticket. `held_too`: or what it has come to hold, if no later request of the owner has touched that. ENOENT: there is
  // no such thing (any more).
  Result<void> cancel(uint64_t session, const wire::LockBody& request, bool held_too = false);
  // Everything of the owner on the file.
  void drop(const wire::LockBody& request);
  void drop_session(uint64_t session);

  // Those who hold what this owner's processes wait for: lets clients chase cycles over several bricks.
  std::vector<wire::LockOwner> waits_of(const wire::LockOwner& owner) const;

  size_t count() const;  // held and waited for

 private:
  struct OwnerHash {
    size_t operator()(const wire::LockOwner& owner) const { return IdHash{}(owner.client) ^ (owner.owner * 0x9e3779b97f4a7c15u); }
  };
  struct OwnerEqual {
    bool operator()(const wire::LockOwner& a, const wire::LockOwner& b) const {
      return a.owner == b.owner && a.client == b.client;
    }
  };
  struct Ended {
    uint64_t session;
    wire::LockBody lock;
    int error;
  };
  using File = std::unordered_map<Id, FileLocks>::iterator;

  // REQUIRES of all: mutex_ is held.
  Result<void> enqueue(File file, uint64_t session, const wire::LockBody& request);
  void dequeue(FileLocks& file, std::list<HeldLock>::iterator waiter);
  void hold(FileLocks& file, uint64_t session, const wire::LockBody& request);
  void wake(FileLocks& file, std::vector<Ended>& ended);
  bool closes_cycle(const FileLocks& file, const wire::LockBody& request) const;
  void count(uint64_t session, int by);
  void forget_if_empty(File file);

  void tell(const std::vector<Ended>& ended);  // without mutex_

  const WaitEnded wait_ended_;
  mutable std::mutex mutex_;
  std::unordered_map<Id, FileLocks> files_;                                               // guarded by mutex_
  std::unordered_multimap<wire::LockOwner, Id, OwnerHash, OwnerEqual> waiting_;           // guarded by mutex_: on which file
  std::unordered_map<uint64_t, int> counts_;                                              // guarded by mutex_: by session
};

}  // namespace voldfs::server
