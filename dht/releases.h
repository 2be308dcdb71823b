#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "dht/later.h"

namespace voldfs::dht {

// Opens that have ended. Nobody waits for a brick to hear of that, so it is told of many at once, a few milliseconds late at
// most; while it is down, when it is back. Any thread.
class Releases {
 public:
  // Asks a brick to close opens, at least one; false: it cannot be told now.
  using Tell = std::function<bool(uint16_t brick, const std::vector<uint32_t>& opens)>;
  explicit Releases(Tell tell) : tell_(std::move(tell)) {}

  void add(uint16_t brick, uint32_t open);
  void tell_all();             // now
  // What the brick is to hear of, for the caller to tell it along with something else; put back if it could not.
  std::vector<uint32_t> take(uint16_t brick);
  void put_back(uint16_t brick, const std::vector<uint32_t>& opens);
  void forget(uint16_t brick); // its session is lost, and the opens with it
  void stop();                 // the session's end closes what is left

 private:
  static constexpr size_t kBatch = 32;
  static constexpr size_t kToldAtOnceMax = 4096;
  static constexpr std::chrono::milliseconds kDelay{5}, kRetryDelay{500};

  void tell(uint16_t brick);
  void schedule(std::chrono::milliseconds delay);  // REQUIRES: mutex_

  const Tell tell_;
  std::mutex mutex_;                                 // leaf
  std::map<uint16_t, std::vector<uint32_t>> ended_;  // guarded by mutex_
  bool scheduled_ = false;                           // guarded by mutex_
  Later later_;
};

}  // namespace voldfs::dht
