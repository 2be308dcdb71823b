#include "dht/volume_lookup.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "dht/adoption.h"
#include "dht/look_ahead.h"
#include "dht/recent_names.h"
#include "dht/settle.h"

namespace voldfs::dht {

namespace {

constexpr int kStaleStubsMax = 4;  // a stub whose object goes away while we ask: somebody unlinks; ask again

wire::Request ask_name(const wire::DirRef& dir, std::string_view name) {
  return wire::Request(wire::Op::kLookup, wire::NameBody{dir}, name);
}

// A directory that lies at a name's authority is that name only if this is its home: otherwise it is a copy that keeps
// the path of a former name.
bool is_name(const wire::EntryBody& body, uint16_t asked) {
  return body.kind == wire::EntryKind::kStub || body.type != wire::ObjectType::kDirectory || body.dir.home == asked;
}

// A directory's name while its authority is down, from the brick that has its copy.
Result<Resolved> ask_backup(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller) {
  const wire::DirRecord record = dir->record();
  const auto map = volume.map();
  const Layout* layout = map->layout(record.epoch);
  if (!layout) return fail(EHOSTDOWN);
  const std::vector<uint16_t> rank = layout->rank(record.id, name, 2);
  if (rank.size() < 2) return fail(EHOSTDOWN);
  auto reply = volume.call(rank[1], ask_name({record.id, 0, record.epoch, 0}, name), caller);
  if (!reply) return fail(EHOSTDOWN);
  auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  if (body->kind != wire::EntryKind::kObject || body->type != wire::ObjectType::kDirectory ||
      !(body->dir.role & wire::kRoleBackup) || body->dir.home != rank[0])
    return fail(EHOSTDOWN);  // whatever it is, it is not for this brick to say
  return resolved_from(*body, rank[1]);
}

// What the authority answers: itself, or, where that will do, for a directory its backup while it is down.
// `unclean`: it may have lost the name.
Result<Resolved> ask_authority(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller,
                               StandIn stand_in, Grant* missing, bool& unclean) {
  const bool has_backup = stand_in == StandIn::kWillDo && volume.dir_copies() > 1;
  const Caller quick = has_backup ? unless_down(caller) : caller;
  uint16_t asked = 0;
  wire::Reply refusal;
  const auto make = [&](const wire::DirRef& ref) { return ask_name(ref, name); };
  auto reply = volume.call_name(dir, name, IfAbsent::kNoEntry, make, quick, &asked, &refusal);
  if (!reply && reply.error().code == EHOSTDOWN && has_backup) {
    auto copy = ask_backup(volume, dir, name, quick);
    if (copy || copy.error().code != EHOSTDOWN) return copy;
    reply = volume.call_name(dir, name, IfAbsent::kNoEntry, make, caller, &asked, &refusal);
  }
  unclean = !reply && (refusal.header.flags & wire::kFlagUnclean);
  if (!reply && reply.error().code == ENOENT && missing) *missing = grant_of(refusal);
  if (!reply) return fail(reply.error());
  auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  if (!is_name(*body, asked)) return fail(ENOENT);
  Resolved found = resolved_from(*body, asked);
  found.grant = grant_of(*reply);
  if (body->kind != wire::EntryKind::kStub) return found;
  found.stub = true;
  found.object = {body->link.object, body->link.handle};
  found.type = body->link.type;
  found.brick = volume.ordinal_of(body->link.brick);
  if (body->link.state == wire::LinkState::kPending && !body->leaving) found.pending = body->link.txn;
  return found;
}

// What a transaction's record says of a name that is marked.
void lead_to(const Volume::Impl& volume, const wire::Link& link, Resolved& found) {
  found.marked = true;
  found.stub = true;
  found.type = link.type;
  found.brick = volume.ordinal_of(link.brick);
  found.object = {link.object, link.handle};
}

// The name carries a leaving mark. True: `found` has been put right; false: ask again.
Result<bool> resolve_mark(Volume::Impl& volume, const NodePtr& dir, std::string_view name, Resolved& found,
                          const Caller& caller) {
  const Id txn_id = found.body.link.txn;
  const uint16_t decides = volume.ordinal_of(found.body.link.brick);
  if (decides == 0) return fail(EIO);
  auto txn = txn_status(volume, decides, txn_id, caller);
  if (!txn && txn.error().code != wire::kTxnUnknown) return fail(txn.error());
  if (!txn) return unmark(volume, dir, name, decides, txn_id, caller).map([] { return false; });
  switch (txn->record.state) {
    case wire::TxnState::kCommitted:
      if (!txn->overdue(volume) && txn->record.kind == wire::TxnKind::kExchange) {
        lead_to(volume, txn->record.replaced, found);  // which this name leads to from the commit on
        return true;
      }
      if (!txn->overdue(volume)) return fail(ENOENT);
      return finish_committed(volume, *txn, caller).map([] { return false; });
    case wire::TxnState::kAborted:
      return abort_prepared(volume, *txn, caller).map([] { return false; });
    case wire::TxnState::kPrepared: break;
  }
  if (txn->overdue(volume))
    if (auto done = settle(volume, decides, txn_id, caller); done) return false;
  found.marked = true;
  if (found.body.kind == wire::EntryKind::kStub) lead_to(volume, txn->record.object, found);
  return true;
}

}  // namespace

Resolved resolved_from(const wire::EntryBody& body, uint16_t asked) {
  Resolved found;
  found.authority = asked;
  found.body = body;
  found.type = body.type;
  found.object = body.object;
  found.brick = body.type == wire::ObjectType::kDirectory && body.dir.home != 0 ? body.dir.home : asked;
  return found;
}

Result<Resolved> resolve(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller,
                         StandIn stand_in, Grant* missing) {
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  bool asked_once_more = false;
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    bool unclean = false;
    auto found = ask_authority(volume, dir, name, caller, stand_in, missing, unclean);
    if (!found) {
      if (found.error().code != ENOENT || (dir->record().epoch != 0 && !unclean)) return found;
      if (missing) *missing = {};
      auto elsewhere = search(volume, dir, name, unclean ? SearchFor::kLost : SearchFor::kAdopted, caller);
      if (!elsewhere) return fail(elsewhere.error());
      if (*elsewhere == Searched::kNothing || (*elsewhere == Searched::kAskOnceMore && asked_once_more)) return found;
      asked_once_more |= *elsewhere == Searched::kAskOnceMore;
      continue;
    }
    if (!found->stub && found->is_directory() && (found->body.dir.role & wire::kRoleFound)) {
      if (auto united = unite(volume, dir, name, found->object.id, caller); !united) return fail(united.error());
      continue;
    }
    if (found->body.leaving) {
      auto as_is = resolve_mark(volume, dir, name, *found, caller);
      if (!as_is) return fail(as_is.error());
      if (!*as_is) continue;
    }
    if (!found->pending.is_none()) {  // led to already; what is left of its cleanup is done by whoever comes late
      auto txn = txn_status(volume, found->authority, found->pending, caller);
      if (txn && txn->overdue(volume))
        if (auto done = settle(volume, found->authority, found->pending, caller); done) continue;
    }
    if (found->brick == 0) return fail(EIO);  // a stub to a brick that the map does not know
    return found;
  }
  return fail(EIO);
}

Result<wire::EntryBody> object_behind(Volume::Impl& volume, const NodePtr& dir, std::string_view name,
                                      const Resolved& name_is, const Caller& caller, Grant* grant) {
  const auto answered = [grant](const wire::Reply& reply) {
    if (grant) *grant = grant_of(reply);
    return reply.body<wire::EntryBody>();
  };
  if (name_is.is_directory()) {
    const wire::DirBody body{{name_is.object.id, 0, 0, 0}};
    auto reply = volume.call(name_is.brick, wire::Request(wire::Op::kDirGet, body), caller);
    if (reply) return answered(*reply);
    const int code = reply.error().code;
    return fail(code == wire::kDirAbsent || code == wire::kDirRemoved ? ESTALE : code);
  }
  if (name_is.object.handle.size != 0) {
    const wire::ObjectBody body{name_is.object, 0, 0};
    auto reply = volume.call(name_is.brick, wire::Request(wire::Op::kGetattr, body), caller);
    if (reply) return answered(*reply);
    if (reply.error().code != wire::kStaleHandle) return fail(reply.error());
  }
  auto reply = volume.call_dir(name_is.brick, dir, IfAbsent::kNoEntry,
                               [&](const wire::DirRef& ref) { return ask_name(ref, name); }, caller);
  if (!reply) return fail(reply.error().code == ENOENT ? ESTALE : reply.error().code);
  auto body = answered(*reply);
  if (body && (body->kind != wire::EntryKind::kObject || body->object.id != name_is.object.id)) return fail(ESTALE);
  return body;
}

Result<Entry> entry_of(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Resolved& found,
                       const Caller& caller) {
  wire::EntryBody body = found.body;
  Grant grant = found.grant;
  if (found.stub) {
    auto behind = object_behind(volume, dir, name, found, caller, &grant);
    if (!behind) return fail(behind.error());
    body = *behind;
  }
  auto entry = volume.entry_from(body, dir, name, found.brick, grant);
  if (entry && found.stub && !found.marked && found.grant.brick == found.authority) entry->name_grant = found.grant;
  if (!entry || !entry->node->is_directory()) return entry;
  auto attr = volume.merge_directory(entry->node, body, caller, entry->attr_grants);
  if (!attr) return fail(attr.error());
  entry->attr = *attr;
  return entry;
}

void Volume::Impl::will_make(const NodePtr& dir, std::string_view name) {
  dir->will_have(name);
  recent_names->forget(dir, name);
  look_ahead->forget(dir, name);
}

Result<Entry> Volume::Impl::lookup(const NodePtr& dir, std::string_view name, const Caller& caller, Grant* missing) {
  for (int tries = 0; tries < kStaleStubsMax; ++tries) {
    Grant absent;
    const uint64_t changes = dir->changes.load();
    auto found = resolve(*this, dir, name, caller, StandIn::kWillDo, &absent);
    if (!found && found.error().code == ENOENT) recent_names->note_missing(dir, name, absent, changes);
    if (missing) *missing = absent;
    if (!found) return fail(found.error());
    recent_names->note(dir, name, *found, found->grant);
    auto entry = entry_of(*this, dir, name, *found, caller);
    if (entry || entry.error().code != ESTALE) return entry;
    // Behind a rename that is not cleaned up, the object may still lie under its old path without a good handle.
    if (!found->pending.is_none())
      if (auto done = settle(*this, found->authority, found->pending, caller);
          !done && done.error().code != wire::kTxnUnknown)
        return fail(done.error());
  }
  return fail(EIO);  // a stub that leads to nothing: lost, but never "no such file"
}

namespace {

// The word of whoever would be asked for the name that it is missing, without asking.
std::optional<Grant> known_to_be_missing(const Volume::Impl& volume, const NodePtr& dir, std::string_view name) {
  const std::vector<Grant> grants = dir->grants_of_missing(name);
  if (grants.empty()) return std::nullopt;
  const wire::DirRecord record = dir->record();
  for (const uint16_t ordinal : volume.set_of(dir))
    if (std::none_of(grants.begin(), grants.end(), [&](const Grant& grant) { return grant.brick == ordinal; }))
      return std::nullopt;  // it has been made there since
  if (Grants::Delivery(volume.grants).seconds(dir->id(), grants) == 0) return std::nullopt;
  const uint16_t authority = volume.hashed(record, name);
  const auto own = std::find_if(grants.begin(), grants.end(), [&](const Grant& grant) { return grant.brick == authority; });
  return own != grants.end() ? *own : grants.front();  // home's, which it takes back before the set grows
}

}  // namespace

Result<Entry> Volume::lookup(const NodePtr& dir, std::string_view name, const Caller& caller, Grant* missing) {
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  const uint64_t changes = dir->changes.load();
  if (const auto known = known_to_be_missing(*impl_, dir, name)) {
    impl_->recent_names->note_missing(dir, name, *known, changes);
    if (missing) *missing = *known;
    return fail(ENOENT);
  }
  if (auto known = impl_->look_ahead->take(dir, name)) return std::move(*known);
  auto found = impl_->lookup(dir, name, caller, missing);
  if (found ? !found->node->is_directory() : found.error().code == ENOENT) impl_->look_ahead->asked(dir);
  return found;
}

// --- Waiting ------------------------------------------------------------------------------------------------

Result<void> wait_busy(int& tries, const Caller& caller) {
  if (tries >= kBusyRetriesMax) return fail(EBUSY);
  if (caller.gives_up()) return fail(EINTR);
  const uint32_t delay_ms = std::min(kBusyDelayMs << std::min(tries, 16), kBusyDelayMaxMs);
  ++tries;
  std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  return {};
}

Result<void> wait_for_name(Volume::Impl& volume, const NodePtr& dir, std::string_view name, int& tries,
                           const Caller& caller) {
  uint16_t asked = 0;
  auto reply = volume.call_name(dir, name, IfAbsent::kNoEntry,
                                [&](const wire::DirRef& ref) { return ask_name(ref, name); }, caller, &asked);
  if (!reply) return reply.error().code == ENOENT ? Result<void>{} : fail(reply.error());
  auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  Result<void> settled;
  if (body->leaving) {
    const uint16_t decides = volume.ordinal_of(body->link.brick);
    settled = settle(volume, decides, body->link.txn, caller);
    if (!settled && settled.error().code == wire::kTxnUnknown)
      settled = unmark(volume, dir, name, decides, body->link.txn, caller);
  } else if (body->kind == wire::EntryKind::kStub && body->link.state == wire::LinkState::kPending) {
    settled = settle(volume, asked, body->link.txn, caller);
    if (!settled && settled.error().code == wire::kTxnUnknown) settled = {};  // finished meanwhile
  }
  if (!settled && settled.error().code != EBUSY) return settled;
  return wait_busy(tries, caller);
}

}  // namespace voldfs::dht
