#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>

#include "brick/base/clock.h"
#include "brick/base/id.h"
#include "brick/server/notifications.h"
#include "brick/server/operation.h"
#include "brick/server/slot_file.h"

namespace voldfs::server {

// One client's standing with the brick: its lease, its slots, what it is to be told. Spans connections. Shared by
// the connections' threads; gone when the session has ended and the last of them has left. Any thread.
class Session {
 public:
  Session(std::unique_ptr<SlotFile> slots, uint32_t lease_ms, bool restored);

  uint64_t id() const { return id_; }
  const Id& client() const { return client_; }
  uint32_t slots() const { return slot_count_; }
  uint32_t lease_ms() const { return lease_ms_; }

  // The lease
  void touch() { lease_end_.store(boottime_ms() + lease_ms_, std::memory_order_relaxed); }
  int64_t lease_end() const { return lease_end_.load(std::memory_order_relaxed); }
  void save_lease() { file_->set_lease_end(lease_end()); }
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  void end();
  // Known from an earlier life of the brick, and its client has not yet said (by a heartbeat) that it has reclaimed.
  bool to_reclaim() const { return to_reclaim_.load(std::memory_order_relaxed); }
  void reclaimed() { to_reclaim_.store(false, std::memory_order_relaxed); }

  // After end(): no request of the session is at work on the disk any more. False: one still is, `within_ms` later.
  bool await_idle(uint32_t within_ms);

  // Slots. Every request enters its slot, so that one which was delayed on a lost connection is never carried out
  // behind its own repetition or a later one; those with `once` are remembered beyond that.
  // kGone: the session has ended, and nothing of it is begun any more.
  enum class Entry { kRun, kReplay, kBusy, kStale, kGone };
  // kRun: leave() must follow, after finish() or forget() if `once`. Waits up to kSlotWaitMs for the slot's running
  // request. REQUIRES: slot < slots()
  // `connection`: its number. kStale also if the slot has been used over a newer one since: a client sends a slot's requests over one
  // connection, and over another when that is lost; what still comes over the lost one was sent again long ago.
  // `acts`: it may change something, which await_idle() waits for.
  Entry enter(uint32_t slot, uint64_t sequence, bool once, bool acts, uint64_t connection);
  // For a connection that joins, before its client hears that it has: higher than those of all before it.
  uint64_t number_connection() { return ++last_connection_; }
  // The operation has done what it does to the disk: a session that has ended need not be waited for.
  void acted(uint32_t slot);
  void leave(uint32_t slot);
  SlotFile& file() { return *file_; }

  Notifications& notifications() { return notifications_; }

  // Where its control connection came from last (ADDRESS:PORT, or pid:PID of the unix socket), for people.
  void set_peer(const std::string& peer) {
    const std::lock_guard lock(peer_mutex_);
    peer_ = peer;
  }
  std::string peer() const {
    const std::lock_guard lock(peer_mutex_);
    return peer_;
  }
  int64_t since() const { return since_; }  // seconds since 1970, of this life of the brick

  // Counted against kConnectionsPerSessionMax.
  std::atomic<uint32_t> connections{0};
  std::atomic<uint64_t> requests{0}, bytes_in{0}, bytes_out{0};

 private:
  struct Slot {
    std::mutex mutex;
    std::condition_variable left;
    bool running = false;    // guarded by mutex
    bool acting = false;     // guarded by mutex: running, and not acted() yet
    uint64_t newest = 0;     // guarded by mutex: the highest sequence that has entered
    uint64_t connection = 0; // guarded by mutex: the newest that it was used over
  };

  std::atomic<uint64_t> last_connection_{0};
  const std::unique_ptr<SlotFile> file_;
  const uint64_t id_;
  const Id client_;
  const uint32_t slot_count_;
  const uint32_t lease_ms_;
  std::atomic<int64_t> lease_end_;
  std::atomic<bool> ended_{false};
  std::atomic<bool> to_reclaim_;
  std::array<Slot, wire::kSlotsMax> slots_;
  Notifications notifications_;
  const int64_t since_ = ::time(nullptr);
  mutable std::mutex peer_mutex_;
  std::string peer_;  // guarded by peer_mutex_
};

// Notes an operation's intent in its slot; without a slot, nowhere.
class SlotNote : public IntentNote {
 public:
  SlotNote() = default;
  SlotNote(SlotFile& file, uint32_t slot) : file_(&file), slot_(slot) {}
  void write(const Intent& intent) override {
    if (file_ != nullptr) file_->note(slot_, intent);
  }
  void done(wire::ReplyBuilder& reply) override {
    if (file_ == nullptr) return;
    file_->finish_with(slot_, 0, reply);
    done_ = true;
  }
  bool is_done() const { return done_; }

 private:
  SlotFile* file_ = nullptr;
  uint32_t slot_ = 0;
  bool done_ = false;
};

}  // namespace voldfs::server
