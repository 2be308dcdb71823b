#include "brick/store/volume_lock.h"

namespace voldfs::store {

Result<void> VolumeLock::acquire(const Id& txn) {
  if (txn.is_none()) return fail(EINVAL);
  const auto now = std::chrono::steady_clock::now();
  std::lock_guard lock(mutex_);
  if (!holder_.is_none() && holder_ != txn && now < until_) return fail(EAGAIN);
  holder_ = txn;
  until_ = now + kLease;
  return {};
}

void VolumeLock::release(const Id& txn) {
  std::lock_guard lock(mutex_);
  if (holder_ == txn) holder_ = Id{};
}

}  // namespace voldfs::store
