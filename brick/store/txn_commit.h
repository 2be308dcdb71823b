#pragma once

#include "brick/store/names_entry.h"
#include "brick/store/txn_log.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// The steps of a transaction (FORMAT.md, "Transactions"). All can be repeated. `met`: what a name led to, where the status says
// so.

// At the new name's authority. EINVAL; kTxnDecided: the transaction is decided already.
Result<TxnValue> prepare_txn(Store& store, const TxnValue& txn);
// The one commit point. kOtherId, kLeaving, with `met`: the new name does not lead to what was to be replaced (any more).
// ENOTEMPTY: a directory that was to be. kTxnDecided with the record: it was aborted. kTxnUnknown.
Result<TxnValue> commit_txn(Store& store, const Id& txn, const ChangeNote& note, wire::EntryBody& met);
// What is left of one that is committed, after a kill. kTxnUnknown; the record tells whether it was.
Result<TxnValue> complete_commit(Store& store, const Id& txn);
// kTxnDecided: it is committed.
Result<TxnValue> decide_abort(Store& store, const Id& txn);
Result<TxnValue> txn_status(Store& store, const Id& txn);
// EBUSY: it is only prepared.
Result<void> end_txn(Store& store, const Id& txn);

// At the old name's authority.
Result<wire::EntryBody> mark_leaving(Store& store, const DirectoryPtr& dir, const std::string& name,
                                     const wire::MarkBody& body, wire::EntryBody& met);
Result<void> unmark_leaving(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::MarkBody& body);
// The old name goes: its stub is removed; an object that still lies there, which the new name leads to, goes to
// .voldfs/parked until kSettle or kDirUpdate brings it to its new path.
Result<void> leave_name(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::MarkBody& body,
                        const ChangeNote& note, wire::EntryBody& met);

}  // namespace voldfs::store
