#pragma once

#include <string>

#include "dht/settle.h"
#include "dht/volume_lookup.h"

namespace voldfs::dht {

// A transaction from its driver's side: prepare, mark, commit, finish; FORMAT.md has what lies on the disks at each
// step. Destroyed before commit() it aborts. One thread.
class Transaction {
 public:
  // The new name is `name` in `to`; `object` is what it is to lead to.
  Transaction(Volume::Impl& volume, wire::TxnKind kind, const NodePtr& to, std::string_view name,
              const wire::Link& object, const Caller& caller);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  const Id& id() const { return txn_.record.txn; }
  uint16_t authority() const { return txn_.authority; }
  // kRename, kExchange: the old name.
  void set_from(const NodePtr& from, std::string_view name);
  // What the new name leads to now; without it, nothing must be there at the commit.
  void set_replaced(const wire::Link& replaced);

  Result<void> prepare();
  Result<void> mark();      // the old name; kOtherId, ENOENT: it leads elsewhere
  // The commit point. kOtherId, EEXIST, ENOENT: the new name leads elsewhere than said. EIO, kUnsettled: not known what happened; whoever
  // meets the names settles it.
  Result<void> commit();
  // Cleans up. What cannot be reached is left to whoever meets it: the operation has happened.
  void finish();
  void abort();

 private:
  Result<void> prepare_follower();

  enum class Stage { kNew, kPrepared, kAsked, kCommitted, kEnded };  // kAsked: to commit

  Volume::Impl& volume_;
  const Caller& caller_;
  NodePtr from_, to_;
  Txn txn_;
  Stage stage_ = Stage::kNew;
};

// What a resolved name leads to, as a transaction's record says it.
wire::Link link_to(const Volume::Impl& volume, const Resolved& found);

}  // namespace voldfs::dht
