#include <linux/fs.h>

#include <optional>

#include "dht/ancestry.h"
#include "dht/look_ahead.h"
#include "dht/recent_names.h"
#include "dht/transaction.h"
#include "dht/volume_create.h"
#include "dht/volume_lookup.h"
#include "dht/volume_remove.h"

namespace voldfs::dht {

namespace {

constexpr int kRenameTriesMax = 32;  // names that lead elsewhere at each try

// One rename: what was asked, and at each try what the two names lead to.
struct Rename {
  Volume::Impl& volume;
  NodePtr from;
  std::string_view name;
  NodePtr to;
  std::string_view to_name;
  uint32_t flags;
  const Caller& caller;
  Resolved source{};
  Resolved target{};
  bool has_target = false;

  bool exchange() const { return flags & RENAME_EXCHANGE; }
  bool moves_directory() const {
    return source.is_directory() || (exchange() && has_target && target.is_directory());
  }
};

// What makes a try start over: a name leads elsewhere than it did, or somebody else works on it.
bool is_conflict(const Error& error) {
  switch (error.code) {
    case EBUSY: case wire::kLeaving: case wire::kOtherId: case wire::kStub: case wire::kTxnDecided:
    case wire::kDirRemoved: return true;
    default: return false;
  }
}

// `fresh`: what was remembered has turned out to be old.
Result<Resolved> look_at(Rename& rename, const NodePtr& dir, std::string_view name, bool fresh) {
  if (!fresh)
    if (auto known = rename.volume.recent_names->find(rename.volume.grants, dir, name))
      return *known ? Result<Resolved>(**known) : fail(ENOENT);
  return resolve(rename.volume, dir, name, rename.caller);
}

Result<void> look(Rename& rename, bool fresh) {
  auto source = look_at(rename, rename.from, rename.name, fresh);
  if (!source) return fail(source.error());
  rename.source = *source;
  auto target = look_at(rename, rename.to, rename.to_name, fresh);
  if (!target && target.error().code != ENOENT) return fail(target.error());
  rename.has_target = target.has_value();
  if (target) rename.target = *target;
  return {};
}

// Both names must be out of other transactions.
Result<void> settle_names(Rename& rename) {
  if (rename.source.marked || (rename.has_target && rename.target.marked)) return fail(EBUSY);
  for (const Resolved* name : {&rename.source, &rename.target}) {
    if (name->pending.is_none()) continue;
    if (auto done = settle(rename.volume, name->authority, name->pending, rename.caller);
        !done && done.error().code != wire::kTxnUnknown)
      return done;
    return fail(EBUSY);  // look again
  }
  return {};
}

Result<void> check(const Rename& rename) {
  if (!rename.has_target) return rename.exchange() ? fail(ENOENT) : Result<void>{};
  if (rename.flags & RENAME_NOREPLACE) return fail(EEXIST);
  if (rename.exchange()) return {};
  if (rename.source.is_directory() && !rename.target.is_directory()) return fail(ENOTDIR);
  if (!rename.source.is_directory() && rename.target.is_directory()) return fail(EISDIR);
  return {};
}

Result<Entry> directory_at(const Rename& rename, const NodePtr& dir, std::string_view name, const Resolved& found) {
  wire::EntryBody body = found.body;
  if (found.stub) {
    auto behind = object_behind(rename.volume, dir, name, found, rename.caller);
    if (!behind) return fail(behind.error());
    body = *behind;
  }
  return rename.volume.entry_from(body, nullptr, {}, found.brick);
}

wire::Request rename_request(const Rename& rename, const wire::DirRef& from, const Id& expected,
                             const Id& expected_target) {
  wire::RenameBody body{};
  body.from = from;
  body.to = rename.volume.dir_ref(rename.to);
  body.expected = expected;
  body.expected_target = expected_target;
  body.flags = rename.flags;
  return wire::Request(wire::Op::kRename, body, rename.name, rename.to_name);
}

// kDirAbsent may be of either directory.
Result<wire::RenameReply> send_rename(const Rename& rename, uint16_t ordinal, const Id& expected,
                                      const Id& expected_target) {
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    if (!rename.to->record().set.has(ordinal))  // as in call_dir()
      if (auto made = rename.volume.materialize(rename.to, ordinal, rename.caller); !made) return fail(made.error());
    auto reply = rename.volume.call(
        ordinal, rename_request(rename, rename.volume.dir_ref(rename.from), expected, expected_target), rename.caller);
    if (reply) return reply->body<wire::RenameReply>();
    const int code = reply.error().code;
    if (code != wire::kDirAbsent && code != wire::kDirBehind && code != wire::kEpochOld) return fail(reply.error());
    for (const NodePtr& dir : {rename.from, rename.to}) {
      Result<void> mended;
      if (code == wire::kEpochOld) mended = rename.volume.fetch_record(dir, rename.caller).map([](const wire::DirRecord&) {});
      else if (code == wire::kDirBehind) mended = rename.volume.refresh(dir, ordinal, rename.caller);
      else if (dir->record().home == ordinal) continue;
      else mended = rename.volume.materialize(dir, ordinal, rename.caller);
      if (!mended) return fail(mended.error());
    }
    if (code == wire::kEpochOld) return fail(EBUSY);  // the authorities may be others now
  }
  return fail(EIO);
}

// After the change on the disk: what the mount knows, and the copies' paths.
void note_moved(const Rename& rename, const wire::EntryBody& moved, const NodePtr& to, std::string_view name) {
  if (moved.kind != wire::EntryKind::kObject) return;
  if (moved.type != wire::ObjectType::kDirectory) {
    if (NodePtr node = rename.volume.nodes.find(moved.object.id)) node->set_name(to, name);
    return;
  }
  auto entry = rename.volume.entry_from(moved, to, name, moved.dir.home);
  if (!entry) return;
  rename.volume.move_copies(entry->node, to, name, Id{}, rename.caller);
  entry->node->forget_attrs();  // its own change time is another
}

// The same after a transaction.
void note_name(const Rename& rename, const Id& object, const NodePtr& to, std::string_view name) {
  const NodePtr node = rename.volume.nodes.find(object);
  if (!node) return;
  node->set_name(to, name);
  if (node->is_directory()) node->forget_attrs();
}

// A directory that gave way shows its end to those who have it open.
void note_replaced(const Rename& rename, const wire::EntryBody& replaced) {
  if (replaced.kind != wire::EntryKind::kObject || replaced.type != wire::ObjectType::kDirectory) return;
  if (const NodePtr node = rename.volume.nodes.find(replaced.object.id)) node->set_removed(replaced.attr);
}

// Both names have one authority and it has the objects: one request, as a local rename(2).
Result<void> rename_here(Rename& rename, const std::optional<TreeLock>& lock) {
  const Id expected_target = rename.has_target ? rename.target.object.id : Id{};
  Entry victim;
  const Id txn = Id::random();
  if (rename.has_target && rename.target.is_directory() && !rename.exchange()) {
    auto found = directory_at(rename, rename.to, rename.to_name, rename.target);
    if (!found) return fail(found.error());
    victim = *found;
    if (auto begun = begin_removal(rename.volume, victim.node, rename.to, rename.to_name, txn, rename.caller); !begun)
      return begun;
  }
  const Result<void> safe = lock ? lock->check_fresh() : Result<void>{};
  Result<wire::RenameReply> reply = fail(EBUSY);
  if (safe) reply = send_rename(rename, rename.source.authority, rename.source.object.id, expected_target);
  if (!reply) {
    if (victim.node && !is_unknown(reply.error()))
      if (auto back = cancel_removal(rename.volume, victim.node->id(), txn, rename.caller); !back) return back;
    return fail(reply.error());
  }
  if (victim.node) {
    if (auto gone = finish_removal(rename.volume, victim.node, rename.to, rename.to_name, txn, rename.caller); !gone) return gone;
    victim.node->set_removed(victim.attr);
  }
  note_moved(rename, reply->moved, rename.to, rename.to_name);
  if (rename.exchange()) note_moved(rename, reply->replaced, rename.from, rename.name);
  return {};
}

// Two authorities, or an object that lies elsewhere: a transaction at the new name's authority.
Result<void> rename_across(Rename& rename, const std::optional<TreeLock>& lock) {
  Transaction txn(rename.volume, rename.exchange() ? wire::TxnKind::kExchange : wire::TxnKind::kRename, rename.to,
                  rename.to_name, link_to(rename.volume, rename.source), rename.caller);
  txn.set_from(rename.from, rename.name);
  if (rename.has_target) txn.set_replaced(link_to(rename.volume, rename.target));
  if (auto prepared = txn.prepare(); !prepared) return prepared;
  Entry victim;
  if (rename.has_target && rename.target.is_directory() && !rename.exchange()) {
    auto found = directory_at(rename, rename.to, rename.to_name, rename.target);
    if (!found) return fail(found.error());
    victim = *found;
    if (auto begun = begin_removal(rename.volume, victim.node, rename.to, rename.to_name, txn.id(), rename.caller); !begun)
      return begun;
  }
  if (auto marked = txn.mark(); !marked) return marked;
  if (lock)
    if (auto safe = lock->check_fresh(); !safe) return safe;
  if (auto committed = txn.commit(); !committed) return committed;
  txn.finish();
  if (victim.node) victim.node->set_removed(victim.attr);
  note_name(rename, rename.source.object.id, rename.to, rename.to_name);
  if (rename.exchange()) note_name(rename, rename.target.object.id, rename.from, rename.name);
  return {};
}

Result<void> rename_once(Rename& rename, bool fresh) {
  if (auto known = look(rename, fresh); !known) return known;
  if (rename.has_target && rename.source.object.id == rename.target.object.id)
    return rename.flags & RENAME_NOREPLACE ? fail(EEXIST) : Result<void>{};  // two names of one file: rename(2)
  if (auto good = check(rename); !good) return good;
  if (auto settled = settle_names(rename); !settled) return settled;

  std::optional<TreeLock> lock;
  if (rename.moves_directory() && rename.from != rename.to) {
    lock.emplace(rename.volume, rename.caller);
    if (auto held = lock->acquire(); !held) return held;
    if (auto apart = check_not_below(rename.volume, rename.source.object.id, rename.to, rename.caller); !apart)
      return apart;
    if (rename.exchange())
      if (auto apart = check_not_below(rename.volume, rename.target.object.id, rename.from, rename.caller); !apart)
        return apart;
  }
  const bool here = rename.source.authority == rename.volume.hashed(rename.to, rename.to_name) && !rename.source.stub &&
                    (!rename.has_target || !rename.target.stub);
  return here ? rename_here(rename, lock) : rename_across(rename, lock);
}

// What was remembered of the two names serves their rename and is old after it, whatever came of it.
class RememberedNames {
 public:
  explicit RememberedNames(const Rename& rename) : rename_(rename) {}
  ~RememberedNames() {
    rename_.volume.recent_names->forget(rename_.from, rename_.name);
    rename_.volume.recent_names->forget(rename_.to, rename_.to_name);
    rename_.volume.look_ahead->forget(rename_.from, rename_.name);
    rename_.volume.look_ahead->forget(rename_.to, rename_.to_name);
  }
  RememberedNames(const RememberedNames&) = delete;
  RememberedNames& operator=(const RememberedNames&) = delete;

 private:
  const Rename& rename_;
};

// Most renames are of a file, to a name with the same authority (the rule of temporary names sees to that): the brick is asked
// without a look first, and refuses what needs more.
Result<bool> rename_at_once(Rename& rename) {
  if (rename.exchange() || rename.from->record().epoch == 0 || rename.to->record().epoch == 0) return false;
  const uint16_t ordinal = rename.volume.hashed(rename.from, rename.name);
  if (ordinal == 0 || ordinal != rename.volume.hashed(rename.to, rename.to_name)) return false;
  auto reply = send_rename(rename, ordinal, {}, {});
  if (reply) {
    note_moved(rename, reply->moved, rename.to, rename.to_name);
    note_replaced(rename, reply->replaced);
    return true;
  }
  if (is_conflict(reply.error()) || reply.error().code == ENOTEMPTY) return false;
  return fail(reply.error());
}

}  // namespace

Result<void> Volume::rename(const NodePtr& from, std::string_view name, const NodePtr& to, std::string_view to_name,
                            uint32_t flags, const Caller& caller) {
  if (flags & ~static_cast<uint32_t>(RENAME_NOREPLACE | RENAME_EXCHANGE)) return fail(EINVAL);
  if (flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) return fail(EINVAL);
  if (auto good = wire::check_name(name); !good) return good;
  if (auto good = wire::check_name(to_name); !good) return good;
  to->will_have(to_name);
  Rename rename{*impl_, from, name, to, to_name, flags, caller};
  const RememberedNames remembered(rename);
  if (auto done = rename_at_once(rename); !done) return fail(done.error());
  else if (*done) return {};

  int waits = 0;
  for (int tries = 0; tries < kRenameTriesMax; ++tries) {
    auto done = rename_once(rename, tries > 0);
    if (done || !(is_conflict(done.error()) || done.error().code == ENOTEMPTY)) return done;
    if (done.error().code == ENOTEMPTY) {
      // Perhaps only of what no name leads to.
      if (!rename.has_target || tries > 1) return done;
      auto victim = directory_at(rename, to, to_name, rename.target);
      if (!victim) return fail(victim.error());
      for (const uint16_t ordinal : impl_->set_of(victim->node))
        if (auto parked = park_orphans(*impl_, victim->node, ordinal, caller); !parked) return parked;
      continue;
    }
    if (done.error().code == wire::kDirRemoved) {
      for (const NodePtr& dir : {from, to})
        if (auto lives = impl_->revive(dir, dir->record().home, waits, caller); !lives) return lives;
    }
    if (auto waited = wait_for_name(*impl_, from, name, waits, caller); !waited) return waited;
    if (auto waited = wait_for_name(*impl_, to, to_name, waits, caller); !waited) return waited;
  }
  return fail(EBUSY);
}

}  // namespace voldfs::dht
