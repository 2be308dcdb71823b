#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "dht/held_locks.h"
#include "dht/later.h"
#include "dht/open_file.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

// The locks of a mount: those held, for when a brick restarts, and those waited for, each under a ticket. No wait
// blocks anybody. Any thread; mutex_ is a leaf, held for no request and no callback.
class LockWaits {
 public:
  using Granted = std::function<void(int error)>;

  explicit LockWaits(Volume::Impl& volume);
  ~LockWaits();
  // Asks no brick by itself from here on.
  void stop() { later_.stop(); }

  // A ticket, to be used for exactly one lock(). From here on it can be cancelled.
  uint64_t reserve();
  void lock(const OpenFilePtr& file, const Volume::LockRequest& request, bool wait, const Caller& caller, uint64_t ticket,
            Granted granted);
  void cancel(uint64_t ticket);
  // Everything of an owner on a file.
  void drop(const OpenFile& file, wire::LockKind kind, uint64_t owner, const Caller& caller);
  // Everything that was taken through an open.
  void drop_open(const OpenFile& file, const Caller& caller);
  // The brick has restarted: takes the open's locks again, and waits again. False: it went away before it had answered.
  bool reclaim(OpenFile& file, bool lost);

  wire::LockBody body(const OpenFile& file, const Volume::LockRequest& request) const;

 private:
  enum class State : uint8_t { kReserved, kSent, kQueued, kAgain };
  struct Wait {
    State state = State::kReserved;
    bool cancelled = false;
    bool wait = false;
    OpenFilePtr file;
    wire::LockBody lock{};
    Caller caller;
    Granted granted;
    uint64_t reclaims = 0;                      // of its brick, when it was sent
    std::vector<HeldLocks::Held> given_up;      // for this request
  };

  void send(uint64_t ticket);
  bool is_overtaken(const Wait& wait) const;    // REQUIRES: mutex_
  void send_again(uint64_t ticket);
  void answered(uint64_t ticket, const Result<wire::Reply>& reply);
  void notified(const wire::LockBody& lock);
  void give_up(uint64_t ticket, int error);
  void end(uint64_t ticket, int error);
  bool is_in_cycle(uint64_t ticket);
  void end_cycle(uint64_t ticket);
  std::vector<wire::LockOwner> waits_of(const wire::LockOwner& owner);
  void give_back(wire::LockBody lock);
  void tell_later(uint16_t brick, wire::Op op, const wire::LockBody& lock);

  Volume::Impl& volume_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, Wait> waits_;  // guarded by mutex_
  HeldLocks held_;                            // guarded by mutex_
  std::unordered_map<uint16_t, uint64_t> reclaims_;  // guarded by mutex_; by brick: how often something was taken again there
  uint64_t next_ticket_ = 1;                  // guarded by mutex_
  Later later_;                               // last: its thread uses all of the above
};

// The volume's; made on first use.
LockWaits& lock_waits(Volume::Impl& volume);

}  // namespace voldfs::dht
