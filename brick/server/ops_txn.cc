#include "brick/server/ops_txn.h"

#include <cstring>

#include "brick/server/ops_name.h"
#include "brick/store/store.h"
#include "brick/store/txn_commit.h"
#include "brick/store/volume_lock.h"

namespace voldfs::server {
namespace {

void say(Call& call, const store::TxnValue& txn) {
  call.reply.set_body(txn.record);
  call.reply.name = txn.old_name;
  call.reply.name2 = txn.new_name;
}

// The record, and kTxnDecided if it was decided otherwise than asked for.
Result<void> answer(Call& call, const Result<store::TxnValue>& txn, wire::TxnState wanted) {
  if (!txn) return fail(txn.error());
  say(call, *txn);
  return txn->record.state == wanted ? Result<void>() : fail(wire::kTxnDecided);
}

// In the list of kTxnList: the record, the sizes of its names, the names, zeros to a multiple of 8.
struct NameSizes {
  uint16_t old_name, new_name, reserved[2];
};

size_t entry_size(const store::TxnValue& txn) {
  return (sizeof txn.record + sizeof(NameSizes) + txn.old_name.size() + txn.new_name.size() + 7) / 8 * 8;
}

void append_entry(std::vector<std::byte>& list, const store::TxnValue& txn) {
  const NameSizes sizes{static_cast<uint16_t>(txn.old_name.size()), static_cast<uint16_t>(txn.new_name.size()), {}};
  const size_t at = list.size();
  list.resize(at + entry_size(txn));
  std::byte* to = list.data() + at;
  std::memcpy(to, &txn.record, sizeof txn.record);
  std::memcpy(to += sizeof txn.record, &sizes, sizeof sizes);
  std::memcpy(to += sizeof sizes, txn.old_name.data(), txn.old_name.size());
  std::memcpy(to += txn.old_name.size(), txn.new_name.data(), txn.new_name.size());
}

}  // namespace

Result<void> op_txn_prepare(Call& call) {
  auto record = call.request.as<wire::TxnRecord>();
  if (!record) return fail(record.error());
  const store::TxnValue txn{*record, std::string(call.request.name), std::string(call.request.name2)};
  return answer(call, store::prepare_txn(call.store, txn), wire::TxnState::kPrepared);
}

Result<void> op_txn_commit(Call& call) {
  auto ref = call.request.as<wire::TxnRef>();
  if (!ref) return fail(ref.error());
  wire::EntryBody met{};
  auto txn = store::commit_txn(call.store, ref->txn, note_change(call, {}, {}, 0), met);
  if (!txn) return refuse(call, txn.error(), met);
  return answer(call, txn, wire::TxnState::kCommitted);
}

Result<void> op_txn_abort(Call& call) {
  auto ref = call.request.as<wire::TxnRef>();
  if (!ref) return fail(ref.error());
  return answer(call, store::decide_abort(call.store, ref->txn), wire::TxnState::kAborted);
}

Result<void> op_txn_status(Call& call) {
  auto ref = call.request.as<wire::TxnRef>();
  if (!ref) return fail(ref.error());
  auto txn = store::txn_status(call.store, ref->txn);
  if (!txn) return fail(txn.error());
  say(call, *txn);
  return {};
}

Result<void> op_txn_finish(Call& call) {
  auto ref = call.request.as<wire::TxnRef>();
  if (!ref) return fail(ref.error());
  return store::end_txn(call.store, ref->txn);
}

Result<void> op_txn_mark(Call& call) {
  auto body = call.request.as<wire::MarkBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::mark_leaving(call.store, *dir, std::string(call.request.name), *body, met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_txn_unmark(Call& call) {
  auto body = call.request.as<wire::MarkBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  return store::unmark_leaving(call.store, *dir, std::string(call.request.name), *body);
}

Result<void> op_txn_leave(Call& call) {
  auto body = call.request.as<wire::MarkBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto left = store::leave_name(call.store, *dir, std::string(call.request.name), *body, note_change(call, body->dir.id, {}, 0), met);
  if (!left) return refuse(call, left.error(), met);
  return {};
}

Result<void> op_txn_list(Call& call) {
  return store::each_txn(call.store, [&](const store::TxnValue& txn) {
    if (call.reply.data.size() + entry_size(txn) > wire::kDataMax) return false;  // those, first; the rest when they are settled
    append_entry(call.reply.data, txn);
    return true;
  });
}

Result<void> op_volume_lock(Call& call) {
  auto body = call.request.as<wire::VolumeLockBody>();
  if (!body) return fail(body.error());
  if (body->acquire) return call.store.volume_lock().acquire(body->txn);
  call.store.volume_lock().release(body->txn);
  return {};
}

}  // namespace voldfs::server
