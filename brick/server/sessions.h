#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "brick/server/session.h"

namespace voldfs::server {

// All sessions of a brick. Any thread; mutex_ is a leaf lock, held for look-ups alone.
class Sessions {
 public:
  // Drops what the brick holds for a session: opens, locks. May be called twice for one.
  using CleanUp = std::function<void(uint64_t session)>;

  // `dot`: descriptor of `.voldfs`, outlives this. `boot`: the host's.
  Sessions(int dot, const Id& boot, uint32_t lease_ms, CleanUp clean_up);

  // At the start, before anybody connects: takes up the sessions that an earlier life of the brick has left, and
  // settles what their slots noted without a result. Those of an earlier boot of the host are removed.
  Result<void> load(store::Store& store);

  // Nothing of the client's earlier sessions is at work any more, or will be: what their requests came to, the new one finds. EAGAIN: that
  // takes longer than kSlotWaitMs. EUSERS: kSessionsMax are there. A full disk is no reason to fail: the session then lives in memory alone.
  Result<std::shared_ptr<Session>> create(const Id& client);
  // null: unknown, ended, or another client's.
  std::shared_ptr<Session> find(uint64_t id, const Id& client) const;
  std::shared_ptr<Session> find(uint64_t id) const;  // null: unknown, or ended
  void end(const std::shared_ptr<Session>& session);
  // The client itself says that its mount has ended; remembered for as long as a lease.
  void note_bye(uint64_t id);
  bool said_bye(uint64_t id) const;
  // Of an ended session, whose thread has just finished an operation that may have left something behind.
  void clean_up(uint64_t session) { clean_up_(session); }

  // Ends the sessions whose lease is over, and writes the others' leases down. Returns how many ended.
  size_t expire();
  // Whether all sessions of the earlier life have reclaimed or ended. Of those that ended with the host's earlier boot nobody
  // knows whether they will: false, the grace period's end tells.
  bool all_reclaimed() const;
  // How many sessions have ended without the client's word for it: what such a client was about to do it may have left half done.
  uint64_t died() const { return died_.load(std::memory_order_relaxed); }
  std::vector<std::shared_ptr<Session>> all() const;

  // As if the process had been killed: nothing is written any more. For tests.
  void freeze();

 private:
  std::vector<std::shared_ptr<Session>> ended_of(const Id& client);
  Result<std::unique_ptr<SlotFile>> make_file(uint64_t id, const Id& client);
  void remove_file(const std::string& name);

  const int dot_;
  const Id boot_;
  const uint32_t lease_ms_;
  const CleanUp clean_up_;
  std::atomic<bool> frozen_{false};
  std::atomic<uint64_t> died_{0};
  bool rebooted_ = false;  // load() alone sets it
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Session>> sessions_;  // guarded by mutex_
  std::vector<std::weak_ptr<Session>> ended_;                       // guarded by mutex_: those that somebody still works for
  std::unordered_map<uint64_t, int64_t> byes_;                      // guarded by mutex_: until when remembered
};

// Decides each slot of a mapped session file that noted an intent without a result. Returns how many there were.
// `to_count`: directories whose subdirectories have to be counted again when all slots are settled.
size_t settle_slots(store::Store& store, SlotFile& file, std::set<Id>& to_count);

}  // namespace voldfs::server
