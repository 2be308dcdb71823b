#include "brick/store/txn_commit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/store/credentials.h"
#include "brick/store/directory_move.h"
#include "brick/store/directory_remove.h"
#include "brick/store/name_lock.h"
#include "brick/store/names_create.h"
#include "brick/store/open_files.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/exchange.h"
#include "brick/wire/message.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

bool is_directory(const wire::EntryBody& entry) { return entry.type == wire::ObjectType::kDirectory; }
bool is_object(const wire::EntryBody& entry) { return entry.kind == wire::EntryKind::kObject; }

NameLocks::Guard lock_txn(Store& store, const Id& txn) { return store.name_locks().name(txn, {}); }

// What the new name leads to now; kind 0: nothing.
struct Target {
  wire::EntryBody entry{};
  bool exists() const { return entry.kind != wire::EntryKind{}; }
};

Result<Target> read_target(Store& store, const Directory& to, const TxnValue& txn, wire::EntryBody& met) {
  auto found = read_entry(store, to, txn.new_name);
  if (!found && found.error().code != ENOENT) return fail(found.error());
  Target target;
  if (found && !is_mere_copy(*found)) target.entry = *found;
  met = target.entry;
  // Its own mark, of an exchange, is no hindrance.
  const Id marker = txn.record.flags & wire::kTxnFollower ? wire::other_half(txn.record.txn) : txn.record.txn;
  const bool own_mark = target.entry.leaving && target.entry.link.txn == marker;
  if (target.entry.leaving && !own_mark) return fail(wire::kLeaving);
  if (target.entry.object.id != txn.record.replaced.object) return fail(wire::kOtherId);
  return target;
}

Result<void> check_replaced(Store& store, const TxnValue& txn, const Target& target) {
  if (!target.exists() || txn.record.kind == wire::TxnKind::kExchange) return {};
  if (!is_object(target.entry) || !is_directory(target.entry)) return {};
  const auto& record = target.entry.dir;
  const bool may_go = record.state == wire::DirState::kRemoving || is_alone(record, store.identity().ordinal);
  return may_go ? Result<void>() : fail(wire::kOtherId);
}

Result<void> keep_if_open(Store& store, const Directory& to, const TxnValue& txn, const Target& target) {
  const auto& entry = target.entry;
  const bool last_name = is_object(entry) && entry.type == wire::ObjectType::kFile && entry.attr.nlink <= 1;
  if (!last_name || !store.open_files().is_open(entry.object.id)) return {};
  unique_fd fd(openat(to.fd(), txn.new_name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno();
  return store.open_files().keep_new(fd.get(), entry.object.id);
}

// What an exchange took the place of, at T.stub now, waits in .voldfs/parked for its new path. A directory's name is a stub from here
// on, wherever its own entry will lie; where that becomes its name again, move_directory() says so.
Result<void> park_exchanged(Store& store, const std::string& stub, const Id& id) {
  auto directory = store.directories().find(id);
  if (directory) {
    if (auto noted = note_off_hash(**directory, true); !noted) return noted;
    // The mark was of the old name, which the directory may come back to.
    auto unmarked = remove_xattr((*directory)->fd(), kXattrLeaving);
    if (!unmarked && unmarked.error().code != ENODATA) return unmarked;
  } else if (directory.error().code != wire::kDirAbsent && directory.error().code != wire::kDirRemoved) {
    return fail(directory.error());
  }
  return park(store, store.txn(), stub, id.hex());
}

// What lies at the name is a directory, whatever the name says that it is: home, or a copy in a stub's place.
bool is_directory_at(int dir, const std::string& name) {
  struct stat stat;
  return fstatat(dir, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(stat.st_mode);
}

// The commit point: one rename(2). Where the stub cannot go over what is there (a directory), or what is there
// lives on under the other name (an exchange), the two change places, and the rest is tidying.
Result<void> put_stub(Store& store, const Directory& to, const TxnValue& txn, const Target& target) {
  const std::string stub = stub_name(txn.record.txn);
  const bool is_copy = target.exists() && !is_object(target.entry) && is_directory_at(to.fd(), txn.new_name);
  const bool lives_on = is_copy || (txn.record.kind == wire::TxnKind::kExchange && target.exists() && is_object(target.entry));
  const bool swap = lives_on || (is_object(target.entry) && is_directory(target.entry));
  if (!swap) {
    if (auto kept = keep_if_open(store, to, txn, target); !kept) return kept;
  }
  const unsigned flags = swap ? RENAME_EXCHANGE : target.exists() ? 0u : RENAME_NOREPLACE;
  if (renameat2(store.txn(), stub.c_str(), to.fd(), txn.new_name.c_str(), flags) != 0) return fail_errno();
  if (!swap) return {};
  if (lives_on) return park_exchanged(store, stub, target.entry.object.id);
  // The tombstone first: while T.stub is there, what a kill cut here is repeated.
  if (auto forgotten = store.directories().forget(target.entry.object.id, true); !forgotten) return forgotten;
  if (unlinkat(store.txn(), stub.c_str(), AT_REMOVEDIR) != 0) return fail_errno();
  return {};
}

// What a kill right after the commit point left in T.stub.
Result<void> tidy_committed(Store& store, const TxnValue& txn) {
  const std::string stub = stub_name(txn.record.txn);
  auto id = get_id_at(store.txn(), stub.c_str());
  if (!id) return {};
  auto directory = store.directories().find(*id);
  const bool is_copy = directory && !((*directory)->record().role & wire::kRoleHome);
  if (is_copy || txn.record.kind == wire::TxnKind::kExchange) return park_exchanged(store, stub, *id);
  if (auto forgotten = store.directories().forget(*id, true); !forgotten) return forgotten;
  if (unlinkat(store.txn(), stub.c_str(), AT_REMOVEDIR) != 0) return fail_errno();
  return {};
}

Result<void> count_committed(const DirectoryPtr& to, const TxnValue& txn, const Target& target) {
  const int change = (txn.record.object.type == wire::ObjectType::kDirectory ? 1 : 0) -
                     (target.exists() && is_directory(target.entry) ? 1 : 0);
  return change != 0 ? to->count_subdirectory(change) : Result<void>();
}

// Whether the object carries a mark of a name that it still has. One that was moved by a cleanup that was cut keeps its mark for
// a while.
Result<bool> has_live_mark(Store& store, int dir, const std::string& name, const Id& object) {
  auto value = read_xattr_at(dir, name.c_str(), kXattrLeaving);
  if (!value && value.error().code == ENODATA) return false;
  if (!value) return fail(value.error());
  auto mark = decode_leaving(*value);
  if (!mark) return fail(mark.error());
  auto parent = store.directories().find(mark->parent);
  if (!parent) return false;
  auto id = get_id_at((*parent)->fd(), mark->name.c_str());
  return id && *id == object;
}

// The directory that the commit is to replace, whose entries() come before the names' locks.
DirectoryPtr replaced_directory(Store& store, const TxnValue& txn) {
  const bool directory = txn.record.replaced.type == wire::ObjectType::kDirectory;
  if (!directory || txn.record.kind == wire::TxnKind::kExchange) return nullptr;
  auto found = store.directories().find(txn.record.replaced.object);
  return found ? *found : nullptr;
}

Result<TxnValue> commit_locked(Store& store, const DirectoryPtr& to, const DirectoryPtr& replaced, const Id& id,
                               const ChangeNote& note, wire::EntryBody& met) {
  auto txn = read_txn(store, id);
  if (!txn || txn->record.state == wire::TxnState::kAborted) return txn;
  if (txn->record.state == wire::TxnState::kCommitted) {
    if (auto tidied = tidy_committed(store, *txn); !tidied) return fail(tidied.error());
    return txn;
  }
  if (to->removed()) return fail(wire::kDirRemoved);
  auto target = read_target(store, *to, *txn, met);
  if (!target) return fail(target.error());
  if (auto checked = check_replaced(store, *txn, *target); !checked) return fail(checked.error());
  const bool is_replaced = is_object(target->entry) && is_directory(target->entry) &&
                           txn->record.kind != wire::TxnKind::kExchange;
  if (is_replaced && !replaced) return fail(EAGAIN);
  if (is_replaced) {
    // Emptied of copies already; rmdir(2) comes after the commit point, so that now is the time to be sure.
    if (auto empty = check_empty(*replaced); !empty) return fail(empty.error());
  }
  wire::EntryBody occupant{};
  if (!target->exists()) {
    if (auto free = vacate(store, *to, txn->new_name, occupant); !free) return fail(free.error());
  }
  auto object = store.name_locks().object(target->entry.object.id);
  const bool counts = txn->record.object.type == wire::ObjectType::kDirectory || is_directory(target->entry);
  note.begin({.object = id, .counts = counts, .dir = to->id()});
  if (auto put = put_stub(store, *to, *txn, *target); !put) return fail(put.error());
  if (auto counted = count_committed(to, *txn, *target); !counted) return fail(counted.error());
  txn->record.state = wire::TxnState::kCommitted;
  note.done([&](wire::ReplyBuilder& reply) {
    reply.set_body(txn->record);
    reply.name = txn->old_name, reply.name2 = txn->new_name;
  });
  return txn;
}

}  // namespace

Result<TxnValue> prepare_txn(Store& store, const TxnValue& txn) {
  const auto& record = txn.record;
  if (record.txn.is_none() || record.object.object.is_none() || record.object.brick.is_none()) return fail(EINVAL);
  if (record.object.handle.size > sizeof record.object.handle.bytes) return fail(EINVAL);
  auto to = store.directories().find(record.to.dir);
  if (!to) return fail(to.error());
  if (auto named = check_new_name(**to, txn.new_name); !named) return fail(named.error());
  if (!txn.old_name.empty()) {
    if (auto named = wire::check_name(txn.old_name); !named) return fail(named.error());
  }
  auto lock = lock_txn(store, record.txn);
  if (auto have = read_txn(store, record.txn)) {
    if (have->record.state != wire::TxnState::kPrepared) return fail(wire::kTxnDecided);
    return have;
  }
  wire::Link link = record.object;
  link.state = wire::LinkState::kPending;
  link.txn = record.txn;
  link.reserved = 0, link.reserved2 = 0;
  if (auto written = write_txn(store, txn, link); !written) return fail(written.error());
  return read_txn(store, record.txn);
}

Result<TxnValue> commit_txn(Store& store, const Id& id, const ChangeNote& note, wire::EntryBody& met) {
  auto known = txn_status(store, id);
  if (!known) return known;
  auto to = store.directories().find(known->record.to.dir);
  if (!to) return fail(to.error());
  const auto clear = replaced_directory(store, *known);
  EntriesGuard entries{{*to}, {clear, true}};
  if (clear && known->record.state == wire::TxnState::kPrepared) {
    if (auto cleared = clear_copies(store, *clear); !cleared) return fail(cleared.error());
  }
  RootScope scope;
  // Both in one call, for they may share a stripe.
  auto locks = store.name_locks().names((*to)->id(), known->new_name, id, {});
  return commit_locked(store, *to, clear, id, note, met);
}

Result<TxnValue> complete_commit(Store& store, const Id& id) {
  RootScope scope;
  auto lock = lock_txn(store, id);
  auto txn = read_txn(store, id);
  if (!txn || txn->record.state != wire::TxnState::kCommitted) return txn;
  if (auto tidied = tidy_committed(store, *txn); !tidied) return fail(tidied.error());
  return txn;
}

Result<TxnValue> decide_abort(Store& store, const Id& id) {
  RootScope scope;
  auto lock = lock_txn(store, id);
  auto txn = read_txn(store, id);
  if (!txn || txn->record.state != wire::TxnState::kPrepared) return txn;
  if (auto aborted = abort_txn(store, id); !aborted) return fail(aborted.error());
  return read_txn(store, id);
}

Result<TxnValue> txn_status(Store& store, const Id& txn) {
  auto lock = lock_txn(store, txn);
  return read_txn(store, txn);
}

Result<void> end_txn(Store& store, const Id& id) {
  RootScope scope;
  auto lock = lock_txn(store, id);
  auto txn = read_txn(store, id);
  if (!txn && txn.error().code == wire::kTxnUnknown) return {};
  if (!txn) return fail(txn.error());
  if (txn->record.state == wire::TxnState::kPrepared) return fail(EBUSY);
  if (txn->record.state == wire::TxnState::kCommitted) {
    if (auto tidied = tidy_committed(store, *txn); !tidied) return tidied;
  }
  return finish_txn(store, id);
}

Result<wire::EntryBody> mark_leaving(Store& store, const DirectoryPtr& dir, const std::string& name,
                                     const wire::MarkBody& body, wire::EntryBody& met) {
  if (auto named = check_known_name(*dir, name); !named) return fail(named.error());
  if (body.txn.is_none() || body.authority.is_none()) return fail(EINVAL);
  auto lock = store.name_locks().name(dir->id(), name);
  auto entry = read_entry(store, *dir, name);
  if (!entry) return entry;
  met = *entry;
  if (!body.expected.is_none() && entry->object.id != body.expected) return fail(wire::kOtherId);
  if (entry->leaving) return entry->link.txn == body.txn ? entry : fail(wire::kLeaving);
  if (is_mere_copy(*entry)) return fail(ENOENT);
  auto object_lock = store.name_locks().object(entry->object.id);
  // One mark an inode: that of another hard link's name is in the way for as long as it lasts.
  auto other = has_live_mark(store, dir->fd(), name, entry->object.id);
  if (!other) return fail(other.error());
  if (*other) return fail(EBUSY);
  const Leaving mark{dir->id(), body.txn, body.authority, name};
  auto set = set_xattr_at(dir->fd(), name.c_str(), kXattrLeaving, encode_leaving(mark));
  if (!set) return fail(set.error());
  entry->leaving = 1;
  return entry;
}

Result<void> unmark_leaving(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::MarkBody& body) {
  if (auto named = check_known_name(*dir, name); !named) return named;
  auto lock = store.name_locks().name(dir->id(), name);
  auto mark = read_leaving_at(dir->fd(), name.c_str(), dir->id());
  if (!mark && mark.error().code == ENOENT) return {};
  if (!mark) return fail(mark.error());
  if (!*mark || (*mark)->txn != body.txn) return {};
  return remove_xattr_at(dir->fd(), name.c_str(), kXattrLeaving);
}

Result<void> leave_name(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::MarkBody& body,
                        const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_known_name(*dir, name); !named) return named;
  EntriesGuard entries{{dir, true}};
  auto lock = store.name_locks().name(dir->id(), name);
  auto entry = read_entry(store, *dir, name);
  if (!entry && entry.error().code == ENOENT) return {};  // left before
  if (!entry) return fail(entry.error());
  // Another mark, or none: the name left before, and is somebody else's by now.
  if (!entry->leaving || entry->link.txn != body.txn) return {};
  met = *entry;
  auto object_lock = store.name_locks().object(entry->object.id);
  RootScope scope;
  // A home that says already that its name is a stub elsewhere is not counted: this was cut before, and the names counted anew.
  const bool counts = is_directory(*entry) && !(is_object(*entry) && (entry->dir.role & wire::kRoleOffHash));
  note.begin({.object = entry->object.id, .counts = counts});
  if (!is_object(*entry) && !is_directory_at(dir->fd(), name)) {
    if (unlinkat(dir->fd(), name.c_str(), 0) != 0) return fail_errno();
  } else {
    if (is_directory(*entry)) {
      auto directory = store.directories().find(entry->object.id);
      if (!directory) return fail(directory.error());
      if (auto noted = note_off_hash(**directory, true); !noted) return noted;
    }
    const std::string parked = entry->object.id.hex();
    unique_fd object(openat(dir->fd(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!object) return fail_errno();
    if (auto done = park(store, dir->fd(), name, parked); !done) return done;
    // After the name has gone: the other way round a kill would leave it alive.
    auto unmarked = remove_xattr(object.get(), kXattrLeaving);
    if (!unmarked && unmarked.error().code != ENODATA) return unmarked;
  }
  if (auto counted = counts ? dir->count_subdirectory(-1) : Result<void>(); !counted) return counted;
  note.done();
  return {};
}

}  // namespace voldfs::store
