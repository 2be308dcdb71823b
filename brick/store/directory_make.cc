#include "brick/store/directory_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/store/attr.h"
#include "brick/store/directory_move.h"
#include "brick/store/directory_remove.h"
#include "brick/store/name_lock.h"
#include "brick/store/named_copy.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/message.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr mode_t kPermissions = 07777;

bool is_home(const wire::DirRecord& record) { return record.role & wire::kRoleHome; }

Result<void> check_record(const wire::DirRecord& record) {
  if (record.id.is_none() || record.id == kRootId || record.parent.is_none()) return fail(EINVAL);
  constexpr uint8_t kRoles = wire::kRoleHome | wire::kRoleBackup | wire::kRoleMember | wire::kRoleSkeleton;
  if (record.role == 0 || (record.role & ~kRoles)) return fail(EINVAL);
  if (record.home == 0 || record.home > wire::kOrdinalMax || record.backup > wire::kOrdinalMax) return fail(EINVAL);
  return {};
}

Result<void> take_over_xattrs(int fd, std::span<const std::byte> xattrs) {
  auto list = wire::parse_xattrs(xattrs);
  if (!list) return fail(list.error());
  return replace_xattrs(fd, *list);
}

// Owner before mode, for chown takes S_ISUID and S_ISGID away; ACLs after it, for chmod changes their mask; times last.
Result<void> take_over(int fd, const wire::Attr& attr, std::span<const std::byte> xattrs) {
  if (fchown(fd, attr.uid, attr.gid) != 0) return fail_errno();
  if (fchmod(fd, attr.mode & kPermissions) != 0) return fail_errno();
  if (auto taken = take_over_xattrs(fd, xattrs); !taken) return taken;
  const timespec times[2] = {{attr.atime, attr.atime_ns}, {attr.mtime, attr.mtime_ns}};
  if (futimens(fd, times) != 0) return fail_errno();
  return {};
}

Result<unique_fd> open_directory(int dir, const std::string& name) {
  unique_fd fd(openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno();
  return fd;
}

// The change itself, once it is clear that the name is free.
Result<DirectoryPtr> make_in_place(Store& store, const Directory& parent, const std::string& name,
                                   const wire::MkdirBody& body, std::span<const std::byte> xattrs, const Maker& maker) {
  {
    CallerScope scope(maker.caller);
    if (mkdirat(parent.fd(), name.c_str(), body.mode & kPermissions) != 0) {
      return errno == ENOENT && parent.removed() ? fail(wire::kDirRemoved) : fail_errno();
    }
  }
  auto establish = [&]() -> Result<DirectoryPtr> {
    auto fd = open_directory(parent.fd(), name);
    if (!fd) return fail(fd.error());
    if (!xattrs.empty()) {
      if (auto taken = take_over_xattrs(fd->get(), xattrs); !taken) return fail(taken.error());
    }
    wire::DirRecord record = body.record;
    record.state = wire::DirState::kLive;
    record.subdirectories = 0;
    record.txn = {};
    return store.directories().establish(std::move(*fd), record);
  };
  auto made = establish();
  if (!made) {
    unlinkat(parent.fd(), name.c_str(), AT_REMOVEDIR);
    auto forgotten = store.directories().forget(body.record.id, false);
    if (!forgotten) return fail(forgotten.error());
  }
  return made;
}

// What a copy that is here already becomes by a record that comes with an operation.
Result<void> merge(const DirectoryPtr& dir, const wire::DirRecord& wanted) {
  auto updated = dir->update([&](wire::DirRecord& record) -> Result<void> {
    if (is_home(record)) return {};  // home knows best
    const bool newer = wanted.change >= record.change;
    uint8_t role = record.role | (wanted.role & ~wire::kRoleHome);
    if (role & ~wire::kRoleSkeleton) role &= static_cast<uint8_t>(~wire::kRoleSkeleton);
    const uint32_t subdirectories = record.subdirectories;
    if (newer) record = wanted;
    record.role = role;
    record.subdirectories = subdirectories;
    record.state = wire::DirState::kLive;
    record.txn = {};
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

}  // namespace

Result<DirectoryPtr> build_copy(Store& store, const wire::MaterializeBody& body, std::span<const std::byte> xattrs) {
  const std::string name = body.record.id.hex();
  unlinkat(store.tmp(), name.c_str(), AT_REMOVEDIR);  // of an attempt that was cut
  if (mkdirat(store.tmp(), name.c_str(), 0700) != 0) return fail_errno();
  auto fd = open_directory(store.tmp(), name);
  if (!fd) return fail(fd.error());
  if (auto taken = take_over(fd->get(), body.attr, xattrs); !taken) return fail(taken.error());
  wire::DirRecord record = body.record;
  record.state = wire::DirState::kLive;
  record.subdirectories = 0;
  record.txn = {};
  return store.directories().establish(std::move(*fd), record);
}

Result<void> place_copy(Store& store, const Directory& parent, const std::string& name, const Id& id,
                        const wire::EntryBody& met) {
  RootScope scope;
  KeepTimes times(parent.fd());
  const std::string built = id.hex();
  const int done = renameat2(store.tmp(), built.c_str(), parent.fd(), name.c_str(), RENAME_NOREPLACE);
  if (done == 0) return {};
  if (errno != EEXIST) return fail_errno();
  if (met.kind == wire::EntryKind::kStub && met.object.id == id && !met.leaving)
    return take_stubs_name(store.tmp(), built, parent, name, met.link.brick);
  // Files, stubs and homes have the better claim: a copy's path is a convenience.
  return park(store, store.tmp(), built, built);
}

Result<void> take_over_attributes(const Directory& dir, wire::Attr attr, std::span<const std::byte> xattrs) {
  auto own = get_attr(dir.fd());
  if (!own) return fail(own.error());
  attr.atime = own->atime, attr.atime_ns = own->atime_ns, attr.mtime = own->mtime, attr.mtime_ns = own->mtime_ns;
  return take_over(dir.fd(), attr, xattrs);
}

Result<wire::EntryBody> describe_directory(const Directory& dir) {
  wire::EntryBody entry{};
  auto attr = get_attr(dir.fd());
  if (!attr) return fail(attr.error());
  entry.kind = wire::EntryKind::kObject;
  entry.type = wire::ObjectType::kDirectory;
  entry.object.id = dir.id();
  entry.attr = *attr;
  entry.dir = dir.record();
  return entry;
}

Result<wire::EntryBody> make_directory(Store& store, const DirectoryPtr& parent, const std::string& name,
                                       const wire::MkdirBody& body, std::span<const std::byte> xattrs, const Maker& maker,
                                       const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_new_name(*parent, name); !named) return fail(named.error());
  if (auto checked = check_record(body.record); !checked) return fail(checked.error());
  const bool home = is_home(body.record);
  // A copy leaves the parent's times alone, which takes that nobody else changes them meanwhile.
  EntriesGuard entries{{parent, !home}};
  auto lock = store.name_locks().name(parent->id(), name);
  if (parent->removed()) return fail(wire::kDirRemoved);
  auto here = store.directories().find(body.record.id);
  if (!here && here.error().code != wire::kDirAbsent) return fail(here.error());
  if (here) {
    if (home && !is_home((*here)->record())) return fail(EEXIST);
    if (auto merged = merge(*here, body.record); !merged) return fail(merged.error());
    auto entry = describe_directory(**here);
    if (entry) entry->existed = 1;  // others may know of it, and have made names in it
    return entry;
  }
  auto free = vacate(store, *parent, name, met);
  if (!free && (home || free.error().code != EEXIST)) return fail(free.error());
  if (!free) {
    lock = {};  // a backup's path is a convenience: it goes to .voldfs/parked
    wire::MaterializeBody copy{body.record, {}};
    copy.attr.mode = body.mode, copy.attr.uid = maker.caller.uid, copy.attr.gid = maker.caller.gid;
    RootScope scope;
    auto built = build_copy(store, copy, xattrs);
    if (!built) return fail(built.error());
    if (auto placed = park(store, store.tmp(), body.record.id.hex(), body.record.id.hex()); !placed) return fail(placed.error());
    return describe_directory(**built);
  }
  note.begin({.object = body.record.id, .counts = home});
  std::optional<KeepTimes> times;
  if (!home) times.emplace(parent->fd());
  auto made = make_in_place(store, *parent, name, body, xattrs, maker);
  if (!made) return fail(made.error());
  if (home) {
    if (auto counted = parent->count_subdirectory(+1); !counted) return fail(counted.error());
  }
  auto entry = describe_directory(**made);
  if (entry) note.done_with(*entry);
  return entry;
}

Result<wire::EntryBody> materialize(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                    std::span<const std::byte> xattrs) {
  if (auto checked = check_record(body.record); !checked) return fail(checked.error());
  if (is_home(body.record)) return fail(EINVAL);
  if (store.directories().has_tombstone(body.record.id)) return fail(wire::kDirRemoved);
  auto parent = store.directories().find(body.record.parent);
  if (auto here = store.directories().find(body.record.id)) {
    // One that has missed a rename comes to its new place, which takes that its parent is here.
    if (!parent && (*here)->record().change < body.record.change) return fail(parent.error());
    return refresh_directory(store, body, name, xattrs);
  }
  if (!parent) return fail(parent.error());
  if (auto named = check_new_name(**parent, name); !named) return fail(named.error());
  EntriesGuard entries{{*parent, true}};
  auto lock = store.name_locks().name((*parent)->id(), name);
  // A skeleton that was of no use to anyone is made again.
  if ((*parent)->removed()) return fail(store.directories().has_tombstone((*parent)->id()) ? wire::kDirRemoved : wire::kDirAbsent);
  auto here = store.directories().find(body.record.id);
  if (here) {  // made by somebody else meanwhile
    if (auto merged = merge(*here, body.record); !merged) return fail(merged.error());
    return describe_directory(**here);
  }
  if (here.error().code != wire::kDirAbsent) return fail(here.error());
  wire::EntryBody met{};
  auto free = vacate(store, **parent, name, met);
  if (!free && free.error().code != EEXIST && free.error().code != wire::kLeaving) return fail(free.error());
  RootScope scope;
  auto built = build_copy(store, body, xattrs);
  if (!built) return fail(built.error());
  if (auto placed = place_copy(store, **parent, name, body.record.id, met); !placed) return fail(placed.error());
  return describe_directory(**built);
}

namespace {

// A copy takes over what home has. The user-visible times of a member are its own, for the latest of the set count; unless a
// user has set them since.
Result<void> catch_up(const Directory& dir, const wire::DirRecord& before, const wire::MaterializeBody& body,
                      std::span<const std::byte> xattrs) {
  wire::Attr attr = body.attr;
  auto own = get_attr(dir.fd());
  if (!own) return fail(own.error());
  if (before.times_change >= body.record.times_change)
    attr.atime = own->atime, attr.atime_ns = own->atime_ns, attr.mtime = own->mtime, attr.mtime_ns = own->mtime_ns;
  return take_over(dir.fd(), attr, xattrs);
}

}  // namespace

Result<wire::EntryBody> refresh_directory(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                          std::span<const std::byte> xattrs) {
  const bool root = body.record.id == kRootId;  // which every brick has, at its place
  if (auto checked = root ? Result<void>() : check_record(body.record); !checked) return fail(checked.error());
  auto dir = store.directories().find(body.record.id);
  if (!dir) return fail(dir.error());
  if (is_home((*dir)->record())) return describe_directory(**dir);
  bool is_behind;
  {
    EntriesGuard entries{{*dir, true}};
    auto lock = store.name_locks().object((*dir)->id());
    RootScope scope;
    const auto before = (*dir)->record();
    // Of an adopted root every brick has a record of its own, of the same age.
    is_behind = root ? before.change <= body.record.change : before.change < body.record.change;
    if (is_behind) {
      if (auto caught = catch_up(**dir, before, body, xattrs); !caught) return fail(caught.error());
    }
    // The record last: until then the copy counts as behind.
    if (auto merged = merge(*dir, body.record); !merged) return fail(merged.error());
  }
  if (is_behind && !name.empty() && !root) {
    if (auto moved = move_directory(store, *dir, body.record.parent, name, Id{}, nullptr); !moved) return fail(moved.error());
  }
  return describe_directory(**dir);
}

Result<wire::EntryBody> update_directory(Store& store, const wire::DirUpdateBody& body, const std::string& name,
                                         const ChangeNote& note) {
  auto dir = store.directories().find(body.id);
  if (!dir) return fail(dir.error());
  if (body.id == kRootId || body.parent.is_none() || body.parent == body.id) return fail(EINVAL);
  if (is_home((*dir)->record())) {
    auto later = has_another_name(store, **dir, body.parent, name, body.txn);
    if (!later) return fail(later.error());
    if (*later) return fail(wire::kTxnUnknown);
  }
  auto dropped = drop_empty_skeleton(store, *dir);
  if (!dropped) return fail(dropped.error());
  if (*dropped) return fail(wire::kDirAbsent);
  auto updated = (*dir)->update([&](wire::DirRecord& record) -> Result<void> {
    if (is_home(record)) {
      if (record.parent == body.parent && record.txn == body.txn) return {};  // said before
      ++record.change;
      if (record.state == wire::DirState::kLive) record.txn = body.txn;
    } else {
      if (body.change < record.change) return {};
      record.change = body.change;
    }
    record.parent = body.parent;
    return {};
  });
  if (!updated) return fail(updated.error());
  auto moved = move_directory(store, *dir, body.parent, name, body.txn, &note);
  if (!moved) return fail(moved.error());
  auto entry = describe_directory(**dir);
  if (entry) entry->existed = *moved;
  return entry;
}

Result<wire::EntryBody> grow_set(Store& store, const wire::SetGrowBody& body) {
  if (body.ordinal == 0 || body.ordinal > wire::kOrdinalMax) return fail(EINVAL);
  auto dir = store.directories().find(body.id);
  if (!dir) return fail(dir.error());
  // A removal that has begun asks the set as it is: nobody joins it then.
  EntriesGuard entries{{*dir}};
  auto updated = (*dir)->update([&](wire::DirRecord& record) -> Result<void> {
    if (record.state == wire::DirState::kRemoving) return fail(wire::kDirRemoved);
    if (is_home(record)) {
      if (record.set.has(body.ordinal)) return {};
      ++record.change;
    } else if (record.role & wire::kRoleBackup) {
      if (body.change > record.change + 1) return fail(wire::kDirBehind);  // other changes were missed
      record.change = std::max(record.change, body.change);
    } else {
      return fail(wire::kDirAbsent);
    }
    record.set.add(body.ordinal);
    return {};
  });
  if (!updated) return fail(updated.error());
  if (body.ordinal == store.identity().ordinal && !(updated->role & wire::kRoleMember)) {
    updated = (*dir)->update([](wire::DirRecord& record) -> Result<void> {
      record.role |= wire::kRoleMember;
      return {};
    });
    if (!updated) return fail(updated.error());
  }
  return describe_directory(**dir);
}

}  // namespace voldfs::store
