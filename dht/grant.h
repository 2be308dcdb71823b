#pragma once

#include <cstdint>

namespace voldfs::dht {

// One reply's permission to cache what it says (grants.h).
struct Grant {
  uint64_t generation = 0;
  uint64_t sequence = 0;   // the brick's, at the time it looked; 0: no grant
  int64_t end_ms = 0;      // CLOCK_BOOTTIME; 0: may not be kept
  uint16_t brick = 0;      // ordinal
};

}  // namespace voldfs::dht
