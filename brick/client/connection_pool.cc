#include "brick/client/connection_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "brick/base/clock.h"

namespace voldfs::client {

ConnectionPool::ConnectionPool(uint32_t connections_max)
    : connections_max_(std::clamp<uint32_t>(connections_max, 1, wire::kSlotsMax - 1)) {
  for (uint16_t i = 0; i < slots_.size(); ++i) slots_[i].number = i;
  idle_.reserve(slots_.size());
}

Slot* ConnectionPool::take(uint32_t limit) {
  const int cpu = ::sched_getcpu();
  auto found = std::find_if(idle_.rbegin(), idle_.rend(), [cpu](const Slot* slot) { return slot->cpu == cpu; });
  Slot* slot = nullptr;
  if (found == idle_.rend() && made_ <= limit) {
    slot = &slots_[made_++];
  } else if (!idle_.empty()) {
    if (found == idle_.rend()) found = idle_.rbegin();
    slot = *found;
    idle_.erase(std::next(found).base());
  }
  if (slot) slot->cpu = cpu;
  return slot;
}

Slot* ConnectionPool::try_acquire() {
  std::lock_guard lock(mutex_);
  return take(connections_max_);
}

Slot* ConnectionPool::acquire() {
  std::unique_lock lock(mutex_);
  if (Slot* slot = take(connections_max_)) return slot;
  released_.wait_for(lock, std::chrono::milliseconds(kOvercommitMs), [this] { return !idle_.empty(); });
  return take(wire::kSlotsMax - 1);
}

void ConnectionPool::release(Slot* slot) {
  slot->last_used_ms = boottime_ms();
  if (slot == reserved()) return;
  {
    std::lock_guard lock(mutex_);
    (slot->unsure ? unsure_ : idle_).push_back(slot);
  }
  released_.notify_one();
}

std::vector<Slot*> ConnectionPool::take_unsure() {
  std::lock_guard lock(mutex_);
  return std::exchange(unsure_, {});
}

void ConnectionPool::set(Slot* slot, std::unique_ptr<Connection> connection, uint64_t epoch) {
  std::lock_guard lock(mutex_);
  slot->connection.swap(connection);
  slot->epoch = epoch;
}

void ConnectionPool::close_idle(int64_t not_used_since_ms) {
  std::lock_guard lock(mutex_);
  for (Slot* slot : idle_) {
    if (slot->last_used_ms <= not_used_since_ms) slot->connection.reset();
  }
}

void ConnectionPool::shut_down_all() {
  std::lock_guard lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.connection) slot.connection->shut_down();
  }
}

}  // namespace voldfs::client
