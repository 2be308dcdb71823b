#include "brick/store/names_rename.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "brick/store/credentials.h"
#include "brick/store/directory_move.h"
#include "brick/store/directory_remove.h"
#include "brick/store/name_lock.h"
#include "brick/store/names_create.h"
#include "brick/store/open_files.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr int kTargetTries = 100;  // a new name that leads to another directory each time it is looked at

// One rename under way: what the two names lead to.
struct Rename {
  Store& store;
  const DirectoryPtr& from;
  const std::string& old_name;
  const DirectoryPtr& to;
  const std::string& new_name;
  const wire::RenameBody& body;
  wire::EntryBody moved{};
  wire::EntryBody target{};  // kind 0: the new name leads to nothing

  bool exchange() const { return body.flags & RENAME_EXCHANGE; }
  bool has_target() const { return target.kind != wire::EntryKind{}; }
};

bool is_directory(const wire::EntryBody& entry) { return entry.type == wire::ObjectType::kDirectory; }
bool is_object(const wire::EntryBody& entry) { return entry.kind == wire::EntryKind::kObject; }

// The directory that the new name leads to, if it does; without the name's lock, which comes after its entries().
DirectoryPtr peek_directory(Store& store, const Directory& to, const std::string& name) {
  unique_fd fd(openat(to.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return nullptr;
  auto id = get_id(fd.get());
  if (!id) return nullptr;
  auto found = store.directories().find(*id);
  return found ? *found : nullptr;
}

Result<void> read_both(Rename& rename) {
  auto moved = read_entry(rename.store, *rename.from, rename.old_name);
  if (!moved) return fail(moved.error());
  if (is_mere_copy(*moved)) return fail(ENOENT);
  rename.moved = *moved;
  auto target = read_entry(rename.store, *rename.to, rename.new_name);
  if (target && !is_mere_copy(*target)) rename.target = *target;
  else if (!target && target.error().code != ENOENT) return fail(target.error());
  return {};
}

// A directory that is to be replaced.
Result<void> check_replaced_directory(const Rename& rename, wire::EntryBody& met) {
  const auto& record = rename.target.dir;
  const bool begun = record.state == wire::DirState::kRemoving;
  if (begun || is_alone(record, rename.store.identity().ordinal)) return {};
  met = rename.target;
  return fail(wire::kOtherId);
}

// What needs more than this brick (a stub's object that moves along, the volume's lock for a directory that changes its
// parent) is renamed only by a client that says what it renames.
Result<void> check_known(const Rename& rename) {
  if (!rename.body.expected.is_none()) return {};
  if (!is_object(rename.moved)) return fail(wire::kStub);
  return is_directory(rename.moved) && rename.from != rename.to ? fail(wire::kOtherId) : Result<void>();
}

Result<void> check_target(const Rename& rename, wire::EntryBody& met) {
  const bool noreplace = rename.body.flags & RENAME_NOREPLACE;
  if (!rename.has_target()) {
    if (rename.exchange()) return fail(ENOENT);
    return rename.body.expected_target.is_none() ? Result<void>() : fail(wire::kOtherId);
  }
  met = rename.target;
  if (rename.target.leaving) return fail(wire::kLeaving);
  if (noreplace) return fail(EEXIST);
  if (auto checked = check_entry(rename.target, rename.body.expected_target); !checked) return checked;
  if (rename.exchange()) return {};
  if (is_directory(rename.moved) && !is_directory(rename.target)) return fail(ENOTDIR);
  if (!is_directory(rename.moved) && is_directory(rename.target)) return fail(EISDIR);
  if (rename.target.kind == wire::EntryKind::kStub) {
    return rename.body.expected_target.is_none() ? fail(wire::kStub) : Result<void>();
  }
  return is_directory(rename.target) ? check_replaced_directory(rename, met) : Result<void>();
}

// A stub of a directory is a file to the kernel: the exchange puts either over the other.
bool kinds_differ(const Rename& rename) {
  const auto is_real_directory = [](const wire::EntryBody& entry) { return is_directory(entry) && is_object(entry); };
  return rename.has_target() && is_real_directory(rename.moved) != is_real_directory(rename.target);
}

Result<void> keep_if_open(const Rename& rename) {
  const auto& target = rename.target;
  const bool last_name_of_file = rename.has_target() && is_object(target) && target.type == wire::ObjectType::kFile &&
                                 target.attr.nlink <= 1 && !rename.exchange();
  if (!last_name_of_file || !rename.store.open_files().is_open(target.object.id)) return {};
  // A further link before the rename takes the name's: there is no instant without either.
  unique_fd fd(openat(rename.to->fd(), rename.new_name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno();
  return rename.store.open_files().keep_new(fd.get(), target.object.id);
}

Result<void> move(const Rename& rename) {
  const bool swap = rename.exchange() || kinds_differ(rename);
  const unsigned flags = swap ? RENAME_EXCHANGE : rename.has_target() ? 0u : RENAME_NOREPLACE;
  const int done = renameat2(rename.from->fd(), rename.old_name.c_str(), rename.to->fd(), rename.new_name.c_str(), flags);
  if (done != 0) return errno == EEXIST && rename.has_target() ? fail(ENOTEMPTY) : fail_errno();
  if (!swap || rename.exchange()) return {};
  const int remove_flag = is_object(rename.target) && is_directory(rename.target) ? AT_REMOVEDIR : 0;
  if (unlinkat(rename.from->fd(), rename.old_name.c_str(), remove_flag) != 0) return fail_errno();
  return {};
}

// rename(2) found one of the two below the other by this brick's paths; the client has seen that it is not so in the volume.
Result<void> untangle_both(const Rename& rename) {
  Result<void> freed = fail(EINVAL);
  for (const auto& [entry, below] : {std::pair(&rename.moved, &rename.to), std::pair(&rename.target, &rename.from)}) {
    if (freed || !is_object(*entry) || !is_directory(*entry)) continue;
    auto above = rename.store.directories().find(entry->object.id);
    if (!above) return fail(above.error());
    freed = untangle(rename.store, **above, *below);
  }
  return freed;
}

// Names that lead to directories, per parent.
Result<void> count(const Rename& rename) {
  const int moved = is_directory(rename.moved) ? 1 : 0;
  const int target = rename.has_target() && is_directory(rename.target) ? 1 : 0;
  const int from_change = rename.exchange() ? target - moved : -moved;
  const int to_change = rename.exchange() ? moved - target : moved - target;
  if (rename.from == rename.to) {
    const int change = from_change + to_change;
    return change != 0 ? rename.from->count_subdirectory(change) : Result<void>();
  }
  if (from_change != 0) {
    if (auto counted = rename.from->count_subdirectory(from_change); !counted) return counted;
  }
  return to_change != 0 ? rename.to->count_subdirectory(to_change) : Result<void>();
}

Result<void> set_parent(Store& store, const Id& id, const Id& parent) {
  auto directory = store.directories().find(id);
  if (!directory) return fail(directory.error());
  auto updated = (*directory)->update([&](wire::DirRecord& record) -> Result<void> {
    if (record.parent == parent) return {};
    record.parent = parent;
    ++record.change;
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

Result<wire::RenameReply> carry_out(Rename& rename, const ChangeNote& note) {
  auto& store = rename.store;
  auto objects = store.name_locks().object(rename.target.object.id);
  note.begin({.object = rename.moved.object.id,
          .object2 = rename.target.object.id,
          .mode = rename.target.attr.mode,
          .nlink = rename.target.attr.nlink,
          .counts = is_directory(rename.moved) || (rename.has_target() && is_directory(rename.target))});
  if (auto dropped = drop_dead_mark(rename.from->fd(), rename.old_name, *rename.to, rename.new_name); !dropped) return fail(dropped.error());
  if (rename.exchange()) {
    auto dropped = drop_dead_mark(rename.to->fd(), rename.new_name, *rename.from, rename.old_name);
    if (!dropped) return fail(dropped.error());
  }
  if (auto kept = keep_if_open(rename); !kept) return fail(kept.error());
  if (auto moved = move(rename); !moved) {
    if (store.open_files().is_nameless(rename.target.object.id)) {
      if (auto named = store.open_files().named(rename.target.object.id); !named) return fail(named.error());
    }
    return fail(moved.error());
  }
  const bool directory_goes = !rename.exchange() && rename.has_target() && is_object(rename.target) && is_directory(rename.target);
  if (auto done = finish_rename(store, rename.to, rename.moved, directory_goes ? rename.target.object.id : Id{}); !done) {
    return fail(done.error());
  }
  if (rename.exchange()) {
    if (auto done = finish_rename(store, rename.from, rename.target, Id{}); !done) return fail(done.error());
  }
  if (auto counted = count(rename); !counted) return fail(counted.error());
  wire::RenameReply reply{};
  auto moved = read_entry(store, *rename.to, rename.new_name);
  if (!moved) return fail(moved.error());
  reply.moved = *moved;
  reply.replaced = rename.target;
  if (rename.has_target() && !rename.exchange() && reply.replaced.attr.nlink > 0) --reply.replaced.attr.nlink;
  note.done_with(reply);
  return reply;
}

}  // namespace

Result<void> finish_rename(Store& store, const DirectoryPtr& to, const wire::EntryBody& moved, const Id& replaced_dir) {
  if (!replaced_dir.is_none()) {
    if (auto forgotten = store.directories().forget(replaced_dir, true); !forgotten) return forgotten;
  }
  if (!is_object(moved) || !is_directory(moved)) return {};
  return set_parent(store, moved.object.id, to->id());
}

Result<wire::RenameReply> rename_name(Store& store, const DirectoryPtr& from, const std::string& old_name,
                                      const DirectoryPtr& to, const std::string& new_name, const wire::RenameBody& body,
                                      const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_known_name(*from, old_name); !named) return fail(named.error());
  if (auto named = check_new_name(*to, new_name); !named) return fail(named.error());
  const uint32_t known = RENAME_NOREPLACE | RENAME_EXCHANGE;
  if ((body.flags & ~known) || (body.flags & known) == known) return fail(EINVAL);
  std::optional<Rename> tangled;
  for (int tries = 0; tries < kTargetTries; ++tries) {
    if (tangled) {  // without the locks
      if (auto freed = untangle_both(*tangled); !freed) return fail(freed.error());
      tangled.reset();
    }
    DirectoryPtr replaced = body.flags ? nullptr : peek_directory(store, *to, new_name);
    if (replaced == from || replaced == to) return fail(ENOTEMPTY);  // the new name is an ancestor
    EntriesGuard entries{{from}, {to}, {replaced, true}};
    if (from->removed() || to->removed()) return fail(wire::kDirRemoved);
    Rename rename{store, from, old_name, to, new_name, body};
    if (replaced) {
      // Before the names' locks, for it takes those of the names below; the rename itself refuses what is not empty.
      auto cleared = clear_copies(store, *replaced);
      if (!cleared && cleared.error().code != ENOTEMPTY) return fail(cleared.error());
    }
    auto lock = store.name_locks().names(from->id(), old_name, to->id(), new_name);
    if (auto read = read_both(rename); !read) return fail(read.error());
    met = rename.moved;
    if (auto checked = check_entry(rename.moved, body.expected); !checked) return fail(checked.error());
    if (auto known = check_known(rename); !known) return fail(known.error());
    // rename(2): two names of one file stay as they are.
    const bool same = rename.has_target() && rename.moved.object.id == rename.target.object.id;
    if (same && !(body.flags & RENAME_NOREPLACE)) return wire::RenameReply{rename.moved, {}};
    if (auto checked = check_target(rename, met); !checked) return fail(checked.error());
    const bool replaces_directory =
        !body.flags && rename.has_target() && is_object(rename.target) && is_directory(rename.target);
    if (replaces_directory && (!replaced || replaced->id() != rename.target.object.id)) continue;
    // A skeleton or a copy where there is no name.
    wire::EntryBody occupant{};
    if (!rename.has_target()) {
      if (auto free = vacate(store, *to, new_name, occupant); !free) return fail(free.error());
    }
    auto done = carry_out(rename, note);
    if (done || done.error().code != EINVAL || body.expected.is_none()) return done;
    tangled.emplace(rename);
  }
  return fail(EBUSY);
}

}  // namespace voldfs::store
