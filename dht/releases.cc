#include "dht/releases.h"

#include <algorithm>
#include <utility>

namespace voldfs::dht {

void Releases::add(uint16_t brick, uint32_t open) {
  {
    std::lock_guard lock(mutex_);
    auto& opens = ended_[brick];
    opens.push_back(open);
    if (opens.size() % kBatch != 0) return schedule(kDelay);
  }
  tell(brick);
}

void Releases::schedule(std::chrono::milliseconds delay) {
  if (std::exchange(scheduled_, true)) return;
  later_.run(delay, [this] { tell_all(); });
}

void Releases::tell_all() {
  std::vector<uint16_t> bricks;
  {
    std::lock_guard lock(mutex_);
    scheduled_ = false;
    for (const auto& [brick, opens] : ended_)
      if (!opens.empty()) bricks.push_back(brick);
  }
  for (const uint16_t brick : bricks) tell(brick);
}

std::vector<uint32_t> Releases::take(uint16_t brick) {
  std::lock_guard lock(mutex_);
  auto& ended = ended_[brick];
  std::vector<uint32_t> opens(ended.end() - static_cast<std::ptrdiff_t>(std::min(ended.size(), kToldAtOnceMax)), ended.end());
  ended.resize(ended.size() - opens.size());
  return opens;
}

void Releases::put_back(uint16_t brick, const std::vector<uint32_t>& opens) {
  if (opens.empty()) return;
  std::lock_guard lock(mutex_);
  auto& again = ended_[brick];
  again.insert(again.end(), opens.begin(), opens.end());
  schedule(kRetryDelay);
}

void Releases::tell(uint16_t brick) {
  for (;;) {
    const std::vector<uint32_t> opens = take(brick);
    if (opens.empty()) return;
    if (!tell_(brick, opens)) return put_back(brick, opens);
  }
}

void Releases::forget(uint16_t brick) {
  std::lock_guard lock(mutex_);
  ended_[brick].clear();
}

void Releases::stop() { later_.stop(); }

}  // namespace voldfs::dht
