#pragma once

#include "brick/base/id.h"

namespace voldfs::wire {

// An exchange has a record at the authority of either name, and both names may have the same authority: so the record that is decided
// by the other one (kTxnFollower) has an id of its own. Its inverse is itself.
inline Id other_half(const Id& txn) {
  Id other = txn;
  other.bytes.back() ^= 1;
  return other;
}

}  // namespace voldfs::wire
