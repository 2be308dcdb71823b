#pragma once

#include <cstdint>
#include <ctime>

namespace voldfs {

// Milliseconds since the host's boot, time in suspend included: what leases are counted in (DESIGN 7).
inline int64_t boottime_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Microseconds of CLOCK_MONOTONIC, for durations.
inline int64_t monotonic_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace voldfs
