#pragma once

#include <string>

#include "dht/volume_impl.h"

// Transactions as those see them who did not start them: what became of one, and bringing it to its end when its
// driver is dead. Every step may be done twice and by several clients at once; what decides is written at the
// deciding brick (the new name's authority) first, and participants refuse a transaction that was decided otherwise.
namespace voldfs::dht {

// A transaction as its deciding brick told.
struct Txn {
  uint16_t authority = 0;         // the deciding brick
  wire::TxnRecord record{};
  std::string old_name, new_name;

  bool overdue(const Volume::Impl& volume) const;  // its driver has had its time
};

// kTxnUnknown: never prepared, or finished.
Result<Txn> txn_status(Volume::Impl& volume, uint16_t authority, const Id& txn, const Caller& caller);

// An exchange's record as the other name's authority has it (kTxnFollower).
wire::TxnRecord mirrored(const wire::TxnRecord& record);

// Cleans up behind a commit: the object to its new path, the old name away, the replaced object away, the record
// away. EIO, EHOSTDOWN: a participant does not answer; the next one who meets it goes on.
// `record`: what becomes of the record of a rename, a link or a placement, which is no more than a note by then.
enum class Record { kGoes, kStays };
Result<void> finish_committed(Volume::Impl& volume, const Txn& txn, const Caller& caller, Record record = Record::kGoes);
// The record goes when there is time, behind its driver's back. Whoever meets it before finds nothing else to do.
void forget_later(Volume::Impl& volume, const Txn& txn);

// Writes the abort down, takes back what was done. kTxnDecided: it is committed. A record that is not there any more went when
// somebody had cleaned up, behind an abort or a commit: then nothing is touched, unless it is known that no commit was asked for, which
// its driver knows. What that has done since goes too.
enum class Commit : uint8_t { kMayBe, kNeverAsked };
Result<void> abort_prepared(Volume::Impl& volume, const Txn& txn, const Caller& caller, Commit commit = Commit::kMayBe);

// Brings a transaction that was met to its end. One that is only prepared is aborted when overdue; until then EBUSY. 0: it is
// no more, ask again.
Result<void> settle(Volume::Impl& volume, uint16_t authority, const Id& txn, const Caller& caller);

// The mark that this transaction left on a name goes, if it is still there.
Result<void> unmark(Volume::Impl& volume, const NodePtr& dir, std::string_view name, uint16_t authority, const Id& txn,
                    const Caller& caller);

// The transactions that a brick is the authority of.
Result<std::vector<Txn>> transactions_at(Volume::Impl& volume, uint16_t authority, const Caller& caller);

// Settles what dead clients left: at one brick, or at all that answer. The number of transactions ended.
Result<size_t> settle_at(Volume::Impl& volume, uint16_t authority, const Caller& caller);
Result<size_t> settle_all(Volume::Impl& volume, const Caller& caller);

}  // namespace voldfs::dht
