#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace voldfs::fuse {

struct Mount;

// How often the kernel has asked for what, by the number of the operation (enum fuse_opcode). What it answers by itself, from its caches or
// by passthrough, is not in it. Any thread; relaxed.
class RequestCounts {
 public:
  static constexpr uint32_t kOperations = 64;
  void add(uint32_t operation) { counts_[operation % kOperations].fetch_add(1, std::memory_order_relaxed); }
  uint64_t get(uint32_t operation) const { return counts_[operation % kOperations].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kOperations> counts_{};
};

// The attribute of the mount's root directory by which an administrator reads status_document().
inline constexpr char kStatusXattr[] = "trusted.voldfs.status";

// JSON: requests by name, passthrough, round trips to each brick.
std::string status_document(const Mount& mount);

}  // namespace voldfs::fuse
