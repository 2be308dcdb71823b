#pragma once

#include <functional>

#include "brick/base/result.h"
#include "brick/store/record.h"

namespace voldfs::store {

class Store;

// The records of transactions in `.voldfs/txn` (FORMAT.md, "Transactions"). One call is one step that a kill leaves done or not
// done. The caller holds the transaction's lock: NameLocks::name(txn, "").

// The record, its state as the files say it. kTxnUnknown.
Result<TxnValue> read_txn(const Store& store, const Id& txn);
// Makes T.stub, then T: prepared. `link`: what the new name's stub will say. EEXIST.
Result<void> write_txn(const Store& store, const TxnValue& txn, const wire::Link& link);
Result<void> abort_txn(const Store& store, const Id& txn);
// The stub, wherever it is by now, becomes committed, and the record goes.
Result<void> finish_txn(const Store& store, const Id& txn);

std::string stub_name(const Id& txn);

// All records. `visit` returns false to stop.
Result<void> each_txn(const Store& store, const std::function<bool(const TxnValue&)>& visit);

// Whether a record is older than that, by the brick's clock.
bool has_older_txn(const Store& store, uint32_t age_ms);

// At start: what a kill left of transactions that were not yet, or no longer, in the log. `txn`: a descriptor of .voldfs/txn.
Result<void> sweep_unprepared(int txn);

}  // namespace voldfs::store
