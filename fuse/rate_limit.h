#pragma once

#include <atomic>
#include <cstdint>

#include "brick/base/clock.h"

namespace voldfs::fuse {

// At most one event in `interval_us`. Any thread.
class RateLimit {
 public:
  explicit constexpr RateLimit(int64_t interval_us) : interval_us_(interval_us) {}

  // True: go ahead; `*skipped` is how many were held back since the last one.
  bool allow(uint64_t* skipped) {
    const int64_t now = monotonic_us();
    int64_t next = next_us_.load(std::memory_order_relaxed);
    if (now < next || !next_us_.compare_exchange_strong(next, now + interval_us_, std::memory_order_relaxed)) {
      skipped_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    *skipped = skipped_.exchange(0, std::memory_order_relaxed);
    return true;
  }

 private:
  const int64_t interval_us_;
  std::atomic<int64_t> next_us_ = 0;
  std::atomic<uint64_t> skipped_ = 0;
};

}  // namespace voldfs::fuse
