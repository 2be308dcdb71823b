#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "brick/wire/types.h"

namespace voldfs::server {

class PayloadPool;

// A buffer of wire::kDataMax bytes, page-aligned; goes back to its pool at the end of its life.
class Payload {
 public:
  Payload() = default;
  Payload(Payload&& other) noexcept;
  Payload& operator=(Payload&& other) noexcept;
  ~Payload() { reset(); }

  std::span<std::byte> bytes() const { return {memory_, memory_ != nullptr ? wire::kDataMax : 0}; }
  explicit operator bool() const { return memory_ != nullptr; }
  void reset();

 private:
  friend class PayloadPool;
  PayloadPool* pool_ = nullptr;
  std::byte* memory_ = nullptr;
};

// The buffers that payloads are received into and sent from: borrowed by a lane for as long as one operation needs
// them, so that memory follows the requests in flight and not the connections. Any thread.
class PayloadPool {
 public:
  explicit PayloadPool(size_t buffers_max) : buffers_max_(buffers_max) {}
  ~PayloadPool();  // REQUIRES: everything was given back
  PayloadPool(const PayloadPool&) = delete;
  PayloadPool& operator=(const PayloadPool&) = delete;

  // Waits until there are `count` and takes them all at once: who held one and waited for another could wait for
  // ever. The most recently used first, whose pages are warm.
  std::vector<Payload> borrow(size_t count);
  // Gives memory back to the system that nobody has needed since the last call.
  void trim();
  size_t allocated() const;

 private:
  friend class Payload;
  void give_back(std::byte* memory);

  const size_t buffers_max_;
  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::byte*> free_;   // guarded by mutex_
  size_t allocated_ = 0;           // guarded by mutex_: free or borrowed
  size_t idle_least_ = 0;          // guarded by mutex_: the fewest free ones since the last trim()
};

}  // namespace voldfs::server
