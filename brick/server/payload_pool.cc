#include "brick/server/payload_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

namespace voldfs::server {

Payload::Payload(Payload&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), memory_(std::exchange(other.memory_, nullptr)) {}

Payload& Payload::operator=(Payload&& other) noexcept {
  if (this == &other) return *this;
  reset();
  pool_ = std::exchange(other.pool_, nullptr);
  memory_ = std::exchange(other.memory_, nullptr);
  return *this;
}

void Payload::reset() {
  if (memory_ != nullptr) pool_->give_back(std::exchange(memory_, nullptr));
}

PayloadPool::~PayloadPool() {
  for (std::byte* memory : free_) ::munmap(memory, wire::kDataMax);
}

std::vector<Payload> PayloadPool::borrow(size_t count) {
  std::vector<Payload> out(count);
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return free_.size() + (buffers_max_ - allocated_) >= count; });
  for (Payload& payload : out) {
    if (free_.empty()) {
      void* memory = ::mmap(nullptr, wire::kDataMax, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      ++allocated_;
      payload.memory_ = static_cast<std::byte*>(memory);
    } else {
      payload.memory_ = free_.back();
      free_.pop_back();
    }
    payload.pool_ = this;
  }
  idle_least_ = std::min(idle_least_, free_.size());
  return out;
}

void PayloadPool::give_back(std::byte* memory) {
  {
    std::lock_guard lock(mutex_);
    free_.push_back(memory);
  }
  returned_.notify_all();
}

void PayloadPool::trim() {
  std::lock_guard lock(mutex_);
  // The front of the list is what was used least recently.
  for (size_t i = 0; i < idle_least_; ++i) ::munmap(free_[i], wire::kDataMax);
  free_.erase(free_.begin(), free_.begin() + static_cast<ptrdiff_t>(idle_least_));
  allocated_ -= idle_least_;
  idle_least_ = free_.size();
}

size_t PayloadPool::allocated() const {
  std::lock_guard lock(mutex_);
  return allocated_;
}

}  // namespace voldfs::server
