#include "brick/store/names_remove.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/store/attr.h"
#include "brick/store/credentials.h"
#include "brick/store/name_lock.h"
#include "brick/store/names_create.h"
#include "brick/store/open_files.h"
#include "brick/store/settled_txns.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {

Result<void> drop_name(Store& store, int dir, const std::string& name, const wire::EntryBody& entry, wire::Attr* attr_after) {
  const bool is_file = entry.kind == wire::EntryKind::kObject && entry.type == wire::ObjectType::kFile;
  const bool last = entry.attr.nlink <= 1;
  unique_fd object;  // of what has other names: the only way to see it afterwards
  if (entry.kind == wire::EntryKind::kObject && !last && attr_after) {
    object.reset(openat(dir, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!object) return fail_errno();
  }
  if (is_file && last && store.open_files().is_open(entry.object.id)) {
    if (auto kept = store.open_files().keep(dir, name.c_str(), entry.object.id); !kept) return kept;
  } else if (unlinkat(dir, name.c_str(), 0) != 0) {
    if (errno != EISDIR || entry.kind != wire::EntryKind::kStub) return fail_errno();
    // A named copy, which is no name in .voldfs/parked. Without the caller's rights, as the copy itself.
    RootScope scope;
    if (auto parked = park(store, dir, name, entry.object.id.hex()); !parked) return parked;
  }
  if (!attr_after) return {};
  *attr_after = entry.attr;
  if (attr_after->nlink > 0) --attr_after->nlink;
  if (!object) return {};
  auto attr = get_attr(object.get());
  if (!attr) return fail(attr.error());
  *attr_after = *attr;
  if (store.open_files().is_nameless(entry.object.id) && attr_after->nlink > 0) --attr_after->nlink;
  return {};
}

Result<wire::EntryBody> unlink_name(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::UnlinkBody& body, const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_known_name(*dir, name); !named) return fail(named.error());
  auto lock = store.name_locks().name(dir->id(), name);
  auto entry = read_entry(store, *dir, name);
  // Also where there is nothing to take away: a step of the transaction that would make it may be under way still.
  if (!entry && entry.error().code == ENOENT) store.settled_txns().add(body.txn, body.expected);
  if (!entry) return entry;
  met = *entry;
  if (auto checked = check_entry(*entry, body.expected); !checked) return fail(checked.error());
  const bool stub = entry->kind == wire::EntryKind::kStub;
  if (stub && !(body.flags & kUnlinkStub)) return fail(wire::kStub);
  if (!stub && entry->type == wire::ObjectType::kDirectory) return fail(EISDIR);
  auto object_lock = store.name_locks().object(entry->object.id);
  if (store.settled_txns().contains(body.txn, entry->object.id)) return fail(wire::kTxnUnknown);  // it has been named so again
  const bool counts = stub && entry->type == wire::ObjectType::kDirectory;
  note.begin({.object = entry->object.id, .mode = entry->attr.mode, .nlink = entry->attr.nlink, .counts = counts});
  if (auto dropped = drop_name(store, dir->fd(), name, *entry, &entry->attr); !dropped) return fail(dropped.error());
  if (counts) {
    if (auto counted = dir->count_subdirectory(-1); !counted) return fail(counted.error());
  }
  store.settled_txns().add(body.txn, entry->object.id);
  note.done_with(*entry);
  return entry;
}

Result<void> park_name(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::UnlinkBody& body,
                       const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_known_name(*dir, name); !named) return fail(named.error());
  EntriesGuard entries{{dir, true}};
  auto lock = store.name_locks().name(dir->id(), name);
  auto entry = read_entry(store, *dir, name);
  if (!entry) return fail(entry.error());
  met = *entry;
  if (auto checked = check_entry(*entry, body.expected); !checked) return checked;
  auto object_lock = store.name_locks().object(entry->object.id);
  const bool is_file = entry->kind == wire::EntryKind::kObject && entry->type != wire::ObjectType::kDirectory;
  const uint32_t kept = is_file && store.open_files().is_nameless(entry->object.id) ? 1 : 0;
  const bool is_one_too_many = is_file && !(body.flags & kParkLedTo) && entry->attr.nlink > 1 + kept;
  RootScope scope;
  KeepTimes times(dir->fd());
  const bool leads_to_directory = entry->kind == wire::EntryKind::kStub && entry->type == wire::ObjectType::kDirectory;
  note.begin({.object = entry->object.id, .counts = leads_to_directory});
  if (is_one_too_many) {
    if (unlinkat(dir->fd(), name.c_str(), 0) != 0) return fail_errno();
  } else if (auto parked = park(store, dir->fd(), name, parked_name(*entry, dir->id(), name)); !parked) {
    return parked;
  }
  if (auto counted = leads_to_directory ? dir->count_subdirectory(-1) : Result<void>(); !counted) return counted;
  note.done();
  return {};
}

namespace {

// Where a file lies that is to be settled: under its old name, or parked.
struct Source {
  DirectoryPtr dir;  // null: parked
  int fd = -1;
  std::string name;
  bool was_name = false;  // it carries the transaction's mark: with it the old name goes, a change that a user has made
};

Result<Source> find_source(Store& store, const wire::SettleBody& body, const DirectoryPtr& from, const std::string& old_name) {
  if (from && !old_name.empty()) {
    auto id = get_id_at(from->fd(), old_name.c_str());
    if (id && *id == body.object.id) {
      auto mark = read_leaving_at(from->fd(), old_name.c_str(), from->id());
      if (!mark) return fail(mark.error());
      return Source{from, from->fd(), old_name, *mark && (*mark)->txn == body.txn};
    }
  }
  const std::string parked = body.object.id.hex();
  auto id = get_id_at(store.parked(), parked.c_str());
  if (id && *id == body.object.id) return Source{nullptr, store.parked(), parked, false};
  return fail(ENOENT);
}

// Whether what lies at the new place may go: the stub that led to the file, what it replaced.
bool may_be_replaced(const wire::EntryBody& there, const wire::SettleBody& body) {
  if (there.kind == wire::EntryKind::kStub) return there.object.id == body.object.id;
  return !body.replaced.is_none() && there.object.id == body.replaced && there.type != wire::ObjectType::kDirectory;
}

Result<void> move_into_place(Store& store, const Source& source, const DirectoryPtr& to, const std::string& new_name,
                             const Result<wire::EntryBody>& there) {
  const bool replaces_file = there && there->kind == wire::EntryKind::kObject;
  if (replaces_file && there->attr.nlink <= 1 && store.open_files().is_open(there->object.id)) {
    unique_fd fd(openat(to->fd(), new_name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return fail_errno();
    if (auto kept = store.open_files().keep_new(fd.get(), there->object.id); !kept) return kept;
  }
  if (auto dropped = drop_dead_mark(source.fd, source.name, *to, new_name); !dropped) return dropped;
  if (renameat(source.fd, source.name.c_str(), to->fd(), new_name.c_str()) != 0) return fail_errno();
  return {};
}

}  // namespace

Result<wire::EntryBody> settle_object(Store& store, const wire::SettleBody& body, const std::string& old_name,
                                      const std::string& new_name, wire::EntryBody& met) {
  auto to = store.directories().find(body.to_dir);
  if (!to) return fail(to.error());
  DirectoryPtr from;
  if (!body.from_dir.is_none()) {
    auto found = store.directories().find(body.from_dir);
    if (found) from = *found;
    else if (found.error().code != wire::kDirAbsent && found.error().code != wire::kDirRemoved) return fail(found.error());
  }
  if (auto named = check_new_name(**to, new_name); !named) return fail(named.error());
  if (from && !old_name.empty()) {
    if (auto named = check_known_name(*from, old_name); !named) return fail(named.error());
  }
  EntriesGuard entries{{*to, true}, {from, true}};
  auto lock = store.name_locks().names(from ? from->id() : Id{}, old_name, (*to)->id(), new_name);
  auto there = read_entry(store, **to, new_name);
  if (!there && there.error().code != ENOENT) return there;
  if (!there || is_mere_copy(*there)) {  // a directory that is no name here, which a former path of it has left in the way
    const KeepTimes times((*to)->fd());
    if (auto free = vacate(store, **to, new_name, met); !free) return fail(free.error());
    there = fail(ENOENT);
  }
  auto objects = store.name_locks().objects(body.object.id, there ? there->object.id : Id{});
  auto source = find_source(store, body, from, old_name);
  const bool settled = there && there->kind == wire::EntryKind::kObject && there->object.id == body.object.id;
  if (!source && settled) store.settled_txns().add(body.txn, body.object.id);  // a kill may have come in between
  if (!source) return settled ? there : fail(source.error());
  if (store.settled_txns().contains(body.txn, body.object.id)) return settled ? there : fail(ENOENT);  // it has been renamed since
  // Settled before, and at the old name is another link of the file: a user's, made since.
  if (settled && source->dir && !source->was_name) return there;
  RootScope scope;
  const KeepTimes to_times(source->was_name && from == *to ? -1 : (*to)->fd());
  const KeepTimes from_times(source->was_name ? -1 : source->fd);
  if (settled) {
    // Both are links of the file, and rename(2) would leave both.
    if (source->fd == (*to)->fd() && source->name == new_name) return there;
    if (unlinkat(source->fd, source->name.c_str(), 0) != 0) return fail_errno();
  } else {
    if (there && !may_be_replaced(*there, body)) {
      met = *there;
      return fail(there->leaving ? wire::kLeaving : wire::kOtherId);
    }
    if (auto moved = move_into_place(store, *source, *to, new_name, there); !moved) return fail(moved.error());
  }
  // The mark, if there is one, was of the old name.
  auto unmarked = remove_xattr_at((*to)->fd(), new_name.c_str(), kXattrLeaving);
  if (!unmarked && unmarked.error().code != ENODATA) return fail(unmarked.error());
  auto entry = read_entry(store, **to, new_name);
  if (entry) entry->existed = source->was_name;
  if (entry) store.settled_txns().add(body.txn, body.object.id);
  return entry;
}

}  // namespace voldfs::store
