#pragma once

namespace voldfs::wire {

// What a reply's `status` holds: 0, a Linux errno (x86-64 numbering, below 1000), or one of these. They
// never change their numbers (WIRE.md, "Status").
enum Status : int {
  kDirAbsent = 1000,     // this brick does not hold the directory: no name of it exists here
  kDirBehind = 1001,     // this brick's copy of the directory is older than the request: send kDirRefresh
  kEpochOld = 1002,      // the request's epoch is older than the directory's; body: DirBody with the current one
  kLeaving = 1003,       // the name takes part in a transaction; body: EntryBody, `link` of the mark: ask its authority
  kStub = 1004,          // the name is a link stub and the operation wants the object; body: EntryBody
  kStaleHandle = 1005,   // the handle names nothing (any more): resolve {parent, name} again
  kMoved = 1006,         // the object lives on another brick now; body: EntryBody of the stub
  kDirRemoved = 1007,    // the directory's id has a tombstone, or is being removed
  kSlotBusy = 1008,      // this slot's request is still running: ask again with the same sequence
  kSlotStale = 1009,     // a later request has used the slot
  kSessionGone = 1010,   // session unknown or expired: start a new one; opens and locks are lost
  kGrace = 1011,         // the brick has restarted and waits for clients to reclaim: try again
  kQueued = 1012,        // the lock is waited for; kNotifyLock will tell
  kTxnUnknown = 1013,    // no record of the transaction: it never was prepared, or is finished
  kTxnDecided = 1014,    // the transaction was decided otherwise; body: TxnRecord, with its names; none for kRmdir
  kOpenUnknown = 1015,   // this open number is not known: open again by handle
  kMapOld = 1016,        // the request's map is older than the brick's; data: the new map
  kOtherId = 1017,       // the name leads to another object than the request expects; body: EntryBody
  kUnsettled = 1018,     // what the slot noted before a host's crash cannot be decided: EIO
};

}  // namespace voldfs::wire
