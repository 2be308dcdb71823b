#include "brick/server/session.h"

#include <chrono>

#include "brick/server/limits.h"

namespace voldfs::server {

Session::Session(std::unique_ptr<SlotFile> slots, uint32_t lease_ms, bool restored)
    : file_(std::move(slots)),
      id_(file_->header().session),
      client_(file_->header().client),
      slot_count_(file_->slots()),
      lease_ms_(lease_ms),
      lease_end_(boottime_ms() + lease_ms),
      to_reclaim_(restored) {
  for (uint32_t i = 0; i < slot_count_; ++i) {
    // A request that began and noted nothing has changed nothing: it may come again with its sequence.
    slots_[i].newest = file_->sequence(i);
  }
  save_lease();
}

void Session::end() {
  ended_.store(true, std::memory_order_release);
  notifications_.wake();
}

Session::Entry Session::enter(uint32_t slot, uint64_t sequence, bool once, bool acts, uint64_t connection) {
  Slot& own = slots_[slot];
  std::unique_lock lock(own.mutex);
  if (sequence < own.newest || connection < own.connection) return Entry::kStale;
  own.connection = connection;
  if (own.running &&
      !own.left.wait_for(lock, std::chrono::milliseconds(kSlotWaitMs), [&own] { return !own.running; })) {
    return Entry::kBusy;
  }
  if (ended()) return Entry::kGone;
  if (sequence < own.newest || connection < own.connection) return Entry::kStale;
  if (once && file_->state(slot) == SlotState::kDone && file_->sequence(slot) == sequence) return Entry::kReplay;
  own.newest = sequence;
  own.running = true;
  own.acting = acts;
  if (once) file_->begin(slot, sequence);
  return Entry::kRun;
}

void Session::acted(uint32_t slot) {
  Slot& own = slots_[slot];
  {
    std::lock_guard lock(own.mutex);
    own.acting = false;
  }
  own.left.notify_all();
}

void Session::leave(uint32_t slot) {
  Slot& own = slots_[slot];
  {
    std::lock_guard lock(own.mutex);
    own.running = own.acting = false;
  }
  own.left.notify_all();
}

bool Session::await_idle(uint32_t within_ms) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(within_ms);
  for (Slot& slot : slots_) {
    std::unique_lock lock(slot.mutex);
    if (!slot.left.wait_until(lock, until, [&slot] { return !slot.acting; })) return false;
  }
  return true;
}

}  // namespace voldfs::server
