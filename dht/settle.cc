#include "dht/settle.h"

#include <chrono>
#include <cstring>
#include <utility>

#include <spdlog/spdlog.h>

#include "brick/wire/exchange.h"
#include "dht/volume_lookup.h"
#include "dht/volume_remove.h"

namespace voldfs::dht {

namespace {

uint64_t now_ms() {
  using namespace std::chrono;
  return static_cast<uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
}

// What a step of cleanup may meet when it, or somebody else's, has been done before.
bool is_done_already(const Error& error) {
  switch (error.code) {
    case ENOENT: case ESTALE: case wire::kOtherId: case wire::kDirAbsent: case wire::kDirRemoved:
    case wire::kStaleHandle: case wire::kTxnUnknown: return true;
    default: return false;
  }
}

Result<void> done_or(const Result<wire::Reply>& reply) {
  if (reply || is_done_already(reply.error())) return {};
  return fail(reply.error());
}

wire::Request txn_request(wire::Op op, const Id& txn, wire::TxnState state = wire::TxnState{}) {
  wire::TxnRef ref{};
  ref.txn = txn;
  ref.state = state;
  return wire::Request(op, ref);
}

Result<Txn> txn_from(uint16_t authority, wire::Reply& reply) {
  auto record = reply.body<wire::TxnRecord>();
  if (!record) return fail(record.error());
  return Txn{authority, *record, reply.name, reply.name2};
}

Result<void> finish(Volume::Impl& volume, const Txn& txn, const Caller& caller) {
  return done_or(volume.call(txn.authority, txn_request(wire::Op::kTxnFinish, txn.record.txn), caller));
}

}  // namespace

void forget_later(Volume::Impl& volume, const Txn& txn) {
  volume.chores.add([&volume, authority = txn.authority, id = txn.record.txn] {
    Caller quick;
    quick.only_if_up = true;  // otherwise it is settled with what else dead clients leave
    const auto done = done_or(volume.call(authority, txn_request(wire::Op::kTxnFinish, id), quick));
    if (!done) spdlog::info("transaction_left txn={} error={}", id.hex(), done.error().code);
  });
}

namespace {

wire::Request mark_request(wire::Op op, const wire::DirRef& dir, const Id& txn, const Id& authority, const Id& expected,
                           std::string_view name) {
  return wire::Request(op, wire::MarkBody{dir, txn, authority, expected}, name);
}

// Brings an object's file to the path of its name. On a brick that is not the name's authority no name leads to what else may lie
// there (a file whose stub has gone, a directory under its former path): it makes way.
Result<wire::Reply> call_settle(Volume::Impl& volume, uint16_t brick, const NodePtr& to, const wire::SettleBody& body,
                                const Txn& txn, const Caller& caller, bool clears_way) {
  const auto make = [&](const wire::DirRef&) { return wire::Request(wire::Op::kSettle, body, txn.old_name, txn.new_name); };
  auto settled = volume.call_dir(brick, to, IfAbsent::kMaterialize, make, caller);
  if (settled || settled.error().code != wire::kOtherId || !clears_way || brick == volume.hashed(to, txn.new_name)) return settled;
  if (auto parked = volume.park(brick, to, txn.new_name, Id{}, caller); !parked) return settled;
  return volume.call_dir(brick, to, IfAbsent::kMaterialize, make, caller);
}

// The file's physical place follows its name. From then on it is found by path too. True: the old name has gone with it.
Result<bool> settle_file(Volume::Impl& volume, const Txn& txn, const NodePtr& to, const Caller& caller) {
  const uint16_t brick = volume.ordinal_of(txn.record.object.brick);
  wire::SettleBody body{};
  body.object = {txn.record.object.object, txn.record.object.handle};
  body.from_dir = txn.record.from.dir;
  body.to_dir = to->id();
  if (txn.record.replaced.brick == txn.record.object.brick) body.replaced = txn.record.replaced.object;
  body.txn = txn.record.txn;
  const auto settled = call_settle(volume, brick, to, body, txn, caller, true);
  if (auto done = done_or(settled); !done) return fail(done.error());
  const auto entry = settled ? settled->body<wire::EntryBody>() : fail(ENOENT);
  return entry && entry->existed;
}

// The object that a name led to before goes where it is, if that is not where the commit took it away.
Result<void> remove_replaced(Volume::Impl& volume, const Txn& txn, const NodePtr& to, const Caller& caller) {
  const wire::Link& replaced = txn.record.replaced;
  if (replaced.object.is_none()) return {};
  if (replaced.type == wire::ObjectType::kDirectory) {
    auto victim = volume.directory(replaced.object, caller);
    if (!victim) return is_done_already(victim.error()) ? Result<void>{} : fail(victim.error());
    return finish_removal(volume, *victim, to, txn.new_name, txn.record.txn, caller);
  }
  const uint16_t brick = volume.ordinal_of(replaced.brick);
  if (brick == txn.authority) return {};
  auto gone = remove_object(volume, brick, to, txn.new_name, {replaced.object, replaced.handle}, caller, txn.record.txn);
  return gone || is_done_already(gone.error()) ? Result<void>{} : gone;
}

// The mark and what carries it: a stub goes; an object that was here has gone to its new place before.
Result<void> leave(Volume::Impl& volume, const NodePtr& from, const Txn& txn, const Caller& caller) {
  const uint16_t brick = volume.ordinal_of(txn.record.from.brick);
  return done_or(volume.call_dir(
      brick, from, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) {
        return mark_request(wire::Op::kTxnLeave, ref, txn.record.txn, txn.record.to.brick, txn.record.object.object,
                            txn.old_name);
      },
      caller));
}

Result<void> finish_rename(Volume::Impl& volume, const Txn& txn, const Caller& caller, Record record) {
  auto from = volume.directory(txn.record.from.dir, caller);
  auto to = volume.directory(txn.record.to.dir, caller);
  // A parent that is gone took its names along; what is left is to forget the transaction.
  if (!to) return to.error().code == ENOENT ? finish(volume, txn, caller) : fail(to.error());
  if (!from && from.error().code != ENOENT) return fail(from.error());
  // What was replaced goes first: a directory's place must be free for the one that comes.
  if (auto done = remove_replaced(volume, txn, *to, caller); !done) return done;
  bool has_left = false;
  if (txn.record.object.type == wire::ObjectType::kDirectory) {
    if (auto done = volume.move_directory(txn.record.object.object, *to, txn.new_name, txn.record.txn, caller);
        !done && !is_done_already(done.error()))
      return done;
  } else {
    auto settled = settle_file(volume, txn, *to, caller);
    if (!settled) return fail(settled.error());
    has_left = *settled;
  }
  if (from && !has_left)
    if (auto done = leave(volume, *from, txn, caller); !done) return done;
  return record == Record::kGoes ? finish(volume, txn, caller) : Result<void>{};
}

// kTxnList: TxnRecord, u16 old name size, u16 new name size, u32 0, both names, zeros to 8; repeated.
Result<std::vector<Txn>> parse_txn_list(uint16_t authority, std::span<const std::byte> data) {
  std::vector<Txn> txns;
  while (!data.empty()) {
    Txn txn;
    txn.authority = authority;
    uint16_t sizes[4];
    constexpr size_t kFixed = sizeof txn.record + sizeof sizes;
    if (data.size() < kFixed) return fail(EPROTO);
    std::memcpy(&txn.record, data.data(), sizeof txn.record);
    std::memcpy(sizes, data.data() + sizeof txn.record, sizeof sizes);
    const size_t size = (kFixed + sizes[0] + sizes[1] + 7) / 8 * 8;
    if (sizes[0] > wire::kNameMax || sizes[1] > wire::kNameMax || size > data.size()) return fail(EPROTO);
    const auto* names = reinterpret_cast<const char*>(data.data()) + kFixed;
    txn.old_name.assign(names, sizes[0]);
    txn.new_name.assign(names + sizes[0], sizes[1]);
    txns.push_back(std::move(txn));
    data = data.subspan(size);
  }
  return txns;
}

// --- Exchange -----------------------------------------------------------------------------------------------

// The record of the other name's authority, from this one's.
Txn mirror_of(const Volume::Impl& volume, const Txn& txn) {
  Txn other;
  other.authority = volume.ordinal_of(txn.record.from.brick);
  other.record = mirrored(txn.record);
  other.old_name = txn.new_name;
  other.new_name = txn.old_name;
  return other;
}

// An object of an exchange to the path of its new name. kOtherId: the other object still lies there.
Result<void> settle_exchanged(Volume::Impl& volume, const Txn& txn, const NodePtr& to, const Caller& caller, bool clears_way) {
  if (txn.record.object.type == wire::ObjectType::kDirectory)
    return volume.move_directory(txn.record.object.object, to, txn.new_name, txn.record.txn, caller);
  wire::SettleBody body{};
  body.object = {txn.record.object.object, txn.record.object.handle};
  body.from_dir = txn.record.from.dir;
  body.to_dir = to->id();
  body.txn = txn.record.txn;
  auto done = call_settle(volume, volume.ordinal_of(txn.record.object.brick), to, body, txn, caller, clears_way);
  return done ? Result<void>{} : fail(done.error());
}

// Both files lie on one brick that is the authority of neither name, each at the other's new path: this one waits in .voldfs/parked.
Result<void> step_aside(Volume::Impl& volume, const Txn& txn, const Caller& caller) {
  const wire::UnlinkBody body{{txn.record.to.dir, 0, UINT32_MAX, 0}, txn.record.replaced.object, kParkLedTo, 0, {}};
  return done_or(volume.call(volume.ordinal_of(txn.record.object.brick), wire::Request(wire::Op::kPark, body, txn.new_name), caller));
}

Result<void> settle_both(Volume::Impl& volume, const Txn& txn, const Txn& other, const NodePtr& from, const NodePtr& to,
                         const Caller& caller) {
  const auto blocked = [](const Result<void>& result) { return !result && result.error().code == wire::kOtherId; };
  const auto other_than_done = [](const Result<void>& result) { return !result && !is_done_already(result.error()); };
  auto first = settle_exchanged(volume, txn, to, caller, false);
  auto second = settle_exchanged(volume, other, from, caller, false);
  if (blocked(first) && !blocked(second)) first = settle_exchanged(volume, txn, to, caller, true);
  else if (blocked(second) && !blocked(first)) second = settle_exchanged(volume, other, from, caller, true);
  else if (blocked(first) && blocked(second)) {
    if (auto free = step_aside(volume, txn, caller); !free) return free;
    first = settle_exchanged(volume, txn, to, caller, false);
    second = settle_exchanged(volume, other, from, caller, false);
  }
  if (other_than_done(first)) return first;
  if (other_than_done(second)) return second;
  return {};
}

// After the commit at the new name's authority the old name follows; until then who meets its mark is told there.
Result<void> finish_exchange(Volume::Impl& volume, const Txn& txn, const Caller& caller) {
  const Txn other = mirror_of(volume, txn);
  auto followed = volume.call(other.authority, txn_request(wire::Op::kTxnCommit, other.record.txn, wire::TxnState::kCommitted), caller);
  if (!followed && !is_done_already(followed.error())) return fail(followed.error());
  auto from = volume.directory(txn.record.from.dir, caller);
  auto to = volume.directory(txn.record.to.dir, caller);
  if (from && to)
    if (auto settled = settle_both(volume, txn, other, *from, *to, caller); !settled) return settled;
  if (auto done = finish(volume, other, caller); !done) return done;
  return finish(volume, txn, caller);
}

// An exchange that was met at the follower: what the leader says counts.
Result<void> settle_follower(Volume::Impl& volume, const Txn& txn, const Caller& caller) {
  const uint16_t leader = volume.ordinal_of(txn.record.from.brick);
  auto decided = settle(volume, leader, wire::other_half(txn.record.txn), caller);
  if (decided || decided.error().code != wire::kTxnUnknown) return decided;
  // The leader's record goes last: it never was committed.
  auto aborted = volume.call(txn.authority, txn_request(wire::Op::kTxnAbort, txn.record.txn, wire::TxnState::kAborted), caller);
  if (!aborted && !is_done_already(aborted.error())) return fail(aborted.error());
  return finish(volume, txn, caller);
}

}  // namespace

wire::TxnRecord mirrored(const wire::TxnRecord& record) {
  wire::TxnRecord other = record;
  other.txn = wire::other_half(record.txn);
  std::swap(other.from, other.to);
  std::swap(other.object, other.replaced);
  for (wire::Link* link : {&other.object, &other.replaced}) {
    link->txn = other.txn;
    link->state = wire::LinkState::kPending;
  }
  other.flags ^= wire::kTxnFollower;
  return other;
}

bool Txn::overdue(const Volume::Impl& volume) const {
  const uint64_t now = now_ms();
  const uint64_t age = now > record.started_ms ? now - record.started_ms : record.started_ms - now;
  return age >= volume.settle_after_ms.load(std::memory_order_relaxed);  // also when the clocks differ by so much
}

Result<Txn> txn_status(Volume::Impl& volume, uint16_t authority, const Id& txn, const Caller& caller) {
  auto reply = volume.call(authority, txn_request(wire::Op::kTxnStatus, txn), caller);
  if (!reply) return fail(reply.error());
  return txn_from(authority, *reply);
}

Result<void> finish_committed(Volume::Impl& volume, const Txn& txn, const Caller& caller, Record record) {
  switch (txn.record.kind) {
    case wire::TxnKind::kRename: return finish_rename(volume, txn, caller, record);
    case wire::TxnKind::kExchange: return finish_exchange(volume, txn, caller);
    case wire::TxnKind::kLink:
    case wire::TxnKind::kPlace: return record == Record::kGoes ? finish(volume, txn, caller) : Result<void>{};
  }
  return fail(EIO);
}

Result<void> abort_prepared(Volume::Impl& volume, const Txn& txn, const Caller& caller, Commit commit) {
  auto aborted =
      volume.call(txn.authority, txn_request(wire::Op::kTxnAbort, txn.record.txn, wire::TxnState::kAborted), caller);
  const bool is_gone = !aborted && aborted.error().code == wire::kTxnUnknown;
  if (is_gone && commit == Commit::kMayBe) return {};
  if (!aborted && !is_gone) return fail(aborted.error());

  if (!txn.record.from.dir.is_none()) {
    auto from = volume.directory(txn.record.from.dir, caller);
    if (!from && from.error().code != ENOENT) return fail(from.error());
    if (from)
      if (auto done = unmark(volume, *from, txn.old_name, txn.authority, txn.record.txn, caller); !done) return done;
  }
  if (txn.record.kind == wire::TxnKind::kExchange) {
    const Txn other = mirror_of(volume, txn);
    auto followed = volume.call(other.authority, txn_request(wire::Op::kTxnAbort, other.record.txn, wire::TxnState::kAborted), caller);
    if (!followed && !is_done_already(followed.error())) return fail(followed.error());
    if (auto done = finish(volume, other, caller); !done) return done;
  } else if (txn.record.replaced.type == wire::ObjectType::kDirectory)
    if (auto done = cancel_removal(volume, txn.record.replaced.object, txn.record.txn, caller); !done) return done;
  const bool made_name = txn.record.kind == wire::TxnKind::kLink || txn.record.kind == wire::TxnKind::kPlace;
  if (made_name) {
    // The object's new name on its own brick, which no stub leads to.
    const wire::UnlinkBody body{{txn.record.to.dir, 0, 0, 0}, txn.record.object.object, kUnlinkOffHash, 0,
                                txn.record.kind == wire::TxnKind::kLink ? txn.record.txn : Id{}};  // one that was made has no name but this
    const uint16_t brick = volume.ordinal_of(txn.record.object.brick);
    if (auto done = done_or(volume.call(brick, wire::Request(wire::Op::kUnlink, body, txn.new_name), caller)); !done)
      return done;
  }
  return finish(volume, txn, caller);
}

Result<void> settle(Volume::Impl& volume, uint16_t authority, const Id& txn_id, const Caller& caller) {
  auto txn = txn_status(volume, authority, txn_id, caller);
  if (!txn) return fail(txn.error());
  if (txn->record.flags & wire::kTxnFollower) return settle_follower(volume, *txn, caller);
  switch (txn->record.state) {
    case wire::TxnState::kCommitted: return finish_committed(volume, *txn, caller);
    case wire::TxnState::kAborted: return abort_prepared(volume, *txn, caller);
    case wire::TxnState::kPrepared: break;
  }
  if (!txn->overdue(volume)) return fail(EBUSY);
  auto aborted = abort_prepared(volume, *txn, caller);
  if (!aborted && aborted.error().code == wire::kTxnDecided) return fail(EBUSY);  // committed meanwhile: ask again
  return aborted;
}

Result<void> unmark(Volume::Impl& volume, const NodePtr& dir, std::string_view name, uint16_t authority, const Id& txn,
                    const Caller& caller) {
  return done_or(volume.call_name(
      dir, name, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) {
        return mark_request(wire::Op::kTxnUnmark, ref, txn, volume.brick_id(authority), {}, name);
      },
      caller));
}

Result<std::vector<Txn>> transactions_at(Volume::Impl& volume, uint16_t authority, const Caller& caller) {
  auto reply = volume.call(authority, wire::Request(wire::Op::kTxnList), caller);
  if (!reply) return fail(reply.error());
  return parse_txn_list(authority, reply->data);
}

Result<size_t> settle_at(Volume::Impl& volume, uint16_t authority, const Caller& caller) {
  auto txns = transactions_at(volume, authority, caller);
  if (!txns) return fail(txns.error());
  size_t ended = 0;
  for (const Txn& txn : *txns) {
    if (!txn.overdue(volume)) continue;  // its driver cleans up, or is about to
    if (settle(volume, authority, txn.record.txn, caller)) ++ended;  // otherwise a participant is down
  }
  return ended;
}

Result<size_t> settle_all(Volume::Impl& volume, const Caller& caller) {
  size_t ended = 0;
  Caller quick = caller;
  quick.only_if_up = true;
  for (const uint16_t ordinal : volume.all_ordinals()) {
    auto settled = settle_at(volume, ordinal, quick);
    if (settled) ended += *settled;
    else if (settled.error().code != EHOSTDOWN) return settled;
  }
  return ended;
}

}  // namespace voldfs::dht
