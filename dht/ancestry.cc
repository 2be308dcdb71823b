#include "dht/ancestry.h"

#include "dht/settle.h"

namespace voldfs::dht {

namespace {

wire::Request lock_request(bool acquire, const Id& txn) {
  return wire::Request(wire::Op::kVolumeLock, wire::VolumeLockBody{acquire ? 1u : 0u, 0, txn});
}

// The name's authority leads to the directory, and no other rename of it is under way: who held the lock before us has
// lost it, so what he has not committed he never will.
Result<void> check_name_of(Volume::Impl& volume, const NodePtr& dir, const Node::Name& name, const Caller& caller) {
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    auto found = resolve(volume, name.parent, name.name, caller);
    if (!found) return fail(found.error().code == ENOENT ? ESTALE : found.error().code);
    if (found->object.id != dir->id()) return fail(ESTALE);
    if (!found->marked) return {};
    auto txn = txn_status(volume, volume.ordinal_of(found->body.link.brick), found->body.link.txn, caller);
    if (!txn && txn.error().code != wire::kTxnUnknown) return fail(txn.error());
    if (!txn) continue;
    auto ended = txn->record.state == wire::TxnState::kPrepared ? abort_prepared(volume, *txn, caller)
                                                                : settle(volume, txn->authority, txn->record.txn, caller);
    if (!ended && ended.error().code != wire::kTxnDecided && ended.error().code != wire::kTxnUnknown) return ended;
  }
  return fail(EBUSY);
}

}  // namespace

TreeLock::~TreeLock() {
  // A lock that cannot be given back ends with its lease.
  if (held_) (void)volume_.call(volume_.map()->root_home, lock_request(false, id_), caller_);
}

Result<void> TreeLock::acquire() {
  int waits = 0;
  for (;;) {
    asked_ = std::chrono::steady_clock::now();
    auto reply = volume_.call(volume_.map()->root_home, lock_request(true, id_), caller_);
    if (reply) {
      held_ = true;
      return {};
    }
    if (reply.error().code != EAGAIN && reply.error().code != EBUSY) return fail(reply.error());
    if (auto waited = wait_busy(waits, caller_); !waited) return waited;
  }
}

Result<void> TreeLock::check_fresh() const {
  constexpr std::chrono::seconds kHalfLease{5};  // of brick/store/volume_lock.h
  return std::chrono::steady_clock::now() - asked_ < kHalfLease ? Result<void>{} : fail(EBUSY);
}

Result<void> check_not_below(Volume::Impl& volume, const Id& moved, const NodePtr& dir, const Caller& caller) {
  NodePtr at = dir;
  for (size_t depth = 0; depth < kAncestorsMax; ++depth) {
    if (at->id() == moved) return fail(EINVAL);
    if (at == volume.root) return {};
    const Node::Name name = at->name();
    const Result<void> leads = name.parent ? check_name_of(volume, at, name, caller) : fail(ESTALE);
    if (!leads && leads.error().code != ESTALE) return leads;
    if (leads) {
      at = name.parent;
      continue;
    }
    // Another client has renamed it since we saw its name: home knows the parent.
    auto record = volume.fetch_record(at, caller);
    if (!record) return fail(record.error());
    auto parent = volume.directory(record->parent, caller);
    if (!parent) return fail(parent.error().code == ENOENT ? ESTALE : parent.error().code);
    at = *parent;
  }
  return fail(ELOOP);
}

}  // namespace voldfs::dht
