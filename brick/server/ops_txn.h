#pragma once

#include "brick/server/operation.h"

// Steps of operations over several bricks (FORMAT.md, "Transactions").
namespace voldfs::server {

Result<void> op_txn_prepare(Call& call);
Result<void> op_txn_commit(Call& call);
Result<void> op_txn_abort(Call& call);
Result<void> op_txn_status(Call& call);
Result<void> op_txn_finish(Call& call);
Result<void> op_txn_mark(Call& call);
Result<void> op_txn_unmark(Call& call);
Result<void> op_txn_leave(Call& call);
Result<void> op_txn_list(Call& call);
Result<void> op_volume_lock(Call& call);

}  // namespace voldfs::server
