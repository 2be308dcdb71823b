#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "brick/wire/ops.h"

namespace voldfs::server {

// Dials for tests; all zero in service, where they cost one load a request. Any thread.
struct Faults {
  struct Dial {
    std::atomic<uint32_t> delay_ms{0};    // before the operation
    std::atomic<int> error{0};            // instead of the operation
    std::atomic<uint32_t> cut_before{0};  // so many requests lose their connection and are not carried out
    std::atomic<uint32_t> cut_after{0};   // so many are carried out and lose their connection before the reply
    std::atomic<uint32_t> hold_before{0}; // so many wait for `release` before they are carried out
    std::atomic<uint32_t> hold_after{0};  // so many are carried out, wait for `release`, and lose their connection then
  };

  std::atomic<bool> any{false};  // set by whoever turns a dial
  std::atomic<bool> refuse_connections{false};
  std::atomic<uint32_t> held{0};          // so many wait or have waited
  std::atomic<bool> release{false};
  std::array<Dial, 256> dials;

  Dial& dial(wire::Op op) {
    any.store(true);
    return dials[static_cast<size_t>(op) % dials.size()];
  }
};

// Takes one off a counting dial; false: it stood at zero.
inline bool spend(std::atomic<uint32_t>& count) {
  uint32_t left = count.load();
  while (left != 0) {
    if (count.compare_exchange_weak(left, left - 1)) return true;
  }
  return false;
}

}  // namespace voldfs::server
