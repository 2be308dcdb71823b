#include "dht/kernel_pages.h"

#include "brick/base/clock.h"

namespace voldfs::dht {

bool KernelPages::tell(const Grants::Delivery& delivery, const Id& file, std::span<const Grant> grants) {
  const bool granted = !grants.empty() && delivery.seconds(file, grants) > 0;
  const int64_t now = boottime_ms();
  std::lock_guard lock(mutex_);
  is_new_ = false;
  if (!granted) return false;
  const Grant& grant = grants.front();  // a file is on one brick
  if (delivery.seconds(file, {&told_, 1}) == 0)
    told_ = grant, settled_ms_ = now + kSettleMs;
  else if (grant.end_ms > told_.end_ms)
    told_ = grant;
  // What has held until now goes on under the newer one.
  if (grant.end_ms > verified_.grant.end_ms && delivery.seconds(file, {&verified_.grant, 1}) > 0) verified_.grant = grant;
  return now >= settled_ms_;
}

void KernelPages::begin(const Grant& grant) {
  std::lock_guard lock(mutex_);
  if (is_new_) told_ = verified_.grant = grant;
  is_new_ = false;
}

void KernelPages::forget() {
  std::lock_guard lock(mutex_);
  verified_ = {};
}

bool KernelPages::are_current(const Grants::Delivery& delivery, const Id& file) const {
  std::lock_guard lock(mutex_);
  return delivery.seconds(file, {&verified_.grant, 1}) > 0;
}

bool KernelPages::are_current(const DataStamp& now) const {
  std::lock_guard lock(mutex_);
  return verified_.settled && verified_.is_as(now);
}

void KernelPages::note_verified(const DataStamp& now) {
  std::lock_guard lock(mutex_);
  is_new_ = false;
  verified_ = now;
}

}  // namespace voldfs::dht
