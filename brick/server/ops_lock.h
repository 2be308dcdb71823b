#pragma once

#include "brick/server/operation.h"

// Locks: kLock, kLockCancel, kLockWaits, kLockDrop (over lock_table.h).
namespace voldfs::server {

Result<void> op_lock(Call& call);
Result<void> op_lock_cancel(Call& call);
Result<void> op_lock_waits(Call& call);
Result<void> op_lock_drop(Call& call);

// Structure of a LockBody from a peer: kinds, types, range. EINVAL.
Result<void> check_lock(const wire::LockBody& body);

}  // namespace voldfs::server
