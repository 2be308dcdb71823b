#include "brick/store/settled_txns.h"

namespace voldfs::store {

void SettledTxns::add(const Id& txn) {
  if (txn.is_none()) return;
  std::lock_guard lock(mutex_);
  if (!known_.insert(txn).second) return;
  Id& oldest = order_[next_++ % kMax];
  if (!oldest.is_none()) known_.erase(oldest);
  oldest = txn;
}

bool SettledTxns::contains(const Id& txn) const {
  std::lock_guard lock(mutex_);
  return known_.contains(txn);
}

}  // namespace voldfs::store
