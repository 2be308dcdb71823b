#include "dht/transaction.h"

#include <chrono>

#include <spdlog/spdlog.h>

namespace voldfs::dht {

wire::Link link_to(const Volume::Impl& volume, const Resolved& found) {
  wire::Link link{};
  link.brick = volume.brick_id(found.brick);
  link.object = found.object.id;
  link.state = wire::LinkState::kPending;
  link.type = found.type;
  if (!found.is_directory()) link.handle = found.object.handle;
  return link;
}

Transaction::Transaction(Volume::Impl& volume, wire::TxnKind kind, const NodePtr& to, std::string_view name,
                         const wire::Link& object, const Caller& caller)
    : volume_(volume), caller_(caller), to_(to) {
  using namespace std::chrono;
  txn_.record.txn = Id::random();
  txn_.record.client = volume.client_options->client;
  txn_.record.kind = kind;
  txn_.record.state = wire::TxnState::kPrepared;
  txn_.record.started_ms =
      static_cast<uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
  txn_.record.object = object;
  txn_.record.object.txn = txn_.record.txn;
  txn_.record.object.state = wire::LinkState::kPending;
  txn_.new_name = name;
}

Transaction::~Transaction() {
  if (stage_ == Stage::kPrepared || stage_ == Stage::kAsked) abort();
}

void Transaction::set_from(const NodePtr& from, std::string_view name) {
  from_ = from;
  txn_.old_name = name;
}

void Transaction::set_replaced(const wire::Link& replaced) { txn_.record.replaced = replaced; }

Result<void> Transaction::prepare() {
  txn_.authority = volume_.hashed(to_, txn_.new_name);
  txn_.record.to = {to_->id(), volume_.brick_id(txn_.authority)};
  if (from_) txn_.record.from = {from_->id(), volume_.brick_id(volume_.hashed(from_, txn_.old_name))};
  auto prepared = volume_.call_dir(
      txn_.authority, to_, IfAbsent::kMaterialize,
      [&](const wire::DirRef&) {
        return wire::Request(wire::Op::kTxnPrepare, txn_.record, txn_.old_name, txn_.new_name);
      },
      caller_);
  if (!prepared) return fail(prepared.error());
  stage_ = Stage::kPrepared;
  return txn_.record.kind == wire::TxnKind::kExchange ? prepare_follower() : Result<void>{};
}

Result<void> Transaction::prepare_follower() {
  const wire::TxnRecord other = mirrored(txn_.record);
  auto prepared = volume_.call_dir(
      volume_.ordinal_of(other.to.brick), from_, IfAbsent::kMaterialize,
      [&](const wire::DirRef&) { return wire::Request(wire::Op::kTxnPrepare, other, txn_.new_name, txn_.old_name); },
      caller_);
  return prepared ? Result<void>{} : fail(prepared.error());
}

Result<void> Transaction::mark() {
  const uint16_t brick = volume_.ordinal_of(txn_.record.from.brick);
  auto marked = volume_.call_dir(
      brick, from_, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) {
        return wire::Request(wire::Op::kTxnMark,
                             wire::MarkBody{ref, txn_.record.txn, txn_.record.to.brick, txn_.record.object.object},
                             txn_.old_name);
      },
      caller_);
  if (!marked) return fail(marked.error());
  return {};
}

Result<void> Transaction::commit() {
  stage_ = Stage::kAsked;
  wire::TxnRef ref{};
  ref.txn = txn_.record.txn;
  ref.state = wire::TxnState::kCommitted;
  Result<wire::Reply> committed = fail(wire::kUnsettled);
  bool is_lost = false;  // an answer, with its session: the record tells as long as it is there, and a second commit does no harm
  for (int tries = 0; tries < kRetriesMax && !committed && committed.error().code == wire::kUnsettled; ++tries) {
    is_lost = tries > 0;
    committed = volume_.call(txn_.authority, wire::Request(wire::Op::kTxnCommit, ref), caller_);
  }
  if (committed) {
    stage_ = Stage::kCommitted;
    return {};
  }
  if (committed.error().code == wire::kTxnUnknown) {
    // Its driver was thought dead, and somebody has cleaned up: behind an abort, for nobody else commits; or behind our commit.
    stage_ = is_lost ? Stage::kEnded : Stage::kPrepared;
    return fail(is_lost ? wire::kUnsettled : wire::kTxnDecided);
  }
  if (committed.error().code == wire::kTxnDecided) stage_ = Stage::kPrepared;  // aborted: no commit will ever be
  if (is_unknown(committed.error())) stage_ = Stage::kEnded;  // the brick alone knows; who meets the names settles it
  return fail(committed.error());
}

void Transaction::finish() {
  stage_ = Stage::kEnded;
  if (auto done = finish_committed(volume_, txn_, caller_, Record::kStays); done)
    forget_later(volume_, txn_);
  else
    spdlog::info("cleanup_left txn={} name=\"{}\" error={}", txn_.record.txn.hex(), txn_.new_name, done.error().code);
}

void Transaction::abort() {
  const Commit commit = stage_ == Stage::kPrepared ? Commit::kNeverAsked : Commit::kMayBe;
  stage_ = Stage::kEnded;
  if (auto done = abort_prepared(volume_, txn_, caller_, commit); !done)
    spdlog::info("abort_left txn={} name=\"{}\" error={}", txn_.record.txn.hex(), txn_.new_name, done.error().code);
}

}  // namespace voldfs::dht
