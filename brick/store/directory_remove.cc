#include "brick/store/directory_remove.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <memory>
#include <vector>

#include "brick/store/credentials.h"
#include "brick/store/name_lock.h"
#include "brick/store/named_copy.h"
#include "brick/store/record.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr int kPlaceTries = 10;  // a path that is renamed while it is read

// What a directory that is met in one that is to go is worth: none of its names is one of the outer one's.
Result<bool> is_copy(const Directory& dir, const char* name) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir.fd(), name, kXattrDir, value);
  if (!size && size.error().code == ENODATA) return false;
  if (!size) return fail(size.error());
  auto record = decode_directory(std::span(value).first(*size), Id{});
  if (!record) return fail(record.error());
  if (record->role & wire::kRoleHome) return (record->role & wire::kRoleOffHash) != 0;
  auto named = read_named_copy_at(dir.fd(), name, dir.id());
  if (!named) return fail(named.error());
  return !named->has_value();
}

using Stream = std::unique_ptr<DIR, int (*)(DIR*)>;

Result<Stream> open_stream(int dir) {
  unique_fd own(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own) return fail_errno();
  Stream stream(fdopendir(own.get()), closedir);
  if (!stream) return fail_errno();
  static_cast<void>(own.release());
  return stream;
}

Result<std::vector<std::string>> entries_of(const Directory& dir) {
  auto stream = open_stream(dir.fd());
  if (!stream) return fail(stream.error());
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream->get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    // The first thing that is not a directory decides; so does not a list of a million names come about.
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) return fail(ENOTEMPTY);
    names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return fail_errno();
  return names;
}

Result<void> clear_copy(Store& store, const Directory& dir, const std::string& name) {
  auto copy = is_copy(dir, name.c_str());
  if (!copy && copy.error().code == ENOENT) return {};
  if (!copy) return fail(copy.error());
  if (!*copy) return fail(ENOTEMPTY);
  auto id = get_id_at(dir.fd(), name.c_str());
  if (!id) return fail(id.error().code == ENODATA ? Error(ENOTEMPTY) : id.error());
  auto lock = store.name_locks().name(dir.id(), name);
  // An empty skeleton is of no use to anyone; what lives on elsewhere keeps what it has here.
  auto found = store.directories().find(*id);
  const bool skeleton = found && (*found)->record().role == wire::kRoleSkeleton;
  if (skeleton && unlinkat(dir.fd(), name.c_str(), AT_REMOVEDIR) == 0) return store.directories().forget(*id, false);
  return park(store, dir.fd(), name, id->hex());
}

// rmdir(2) of a directory where it lies, and its tombstone. entries() of it is held exclusively, and clear_copies() has been
// here.
Result<void> remove_at(Store& store, const DirectoryPtr& target, int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return errno == EEXIST ? fail(ENOTEMPTY) : fail_errno();
  return store.directories().forget(target->id(), true);
}

// The same, wherever it lies.
Result<void> remove_anywhere(Store& store, const DirectoryPtr& target) {
  const auto place = find_place(*target);
  return place ? remove_at(store, target, place->parent.get(), place->name) : fail(place.error());
}

// The same, by its name if that leads to it.
Result<void> remove_named(Store& store, const DirectoryPtr& target, const Directory& parent, const std::string& name) {
  const auto there = get_id_at(parent.fd(), name.c_str());
  return there && *there == target->id() ? remove_at(store, target, parent.fd(), name) : remove_anywhere(store, target);
}

// Home's entry at the name: what the request wants to remove, and nothing else. Where the directory's name is a stub on another
// brick, its path here says nothing: it may be another's.
Result<void> check_name_of(Store& store, const Directory& parent, const std::string& name, const wire::RmdirBody& body,
                           bool is_name, wire::EntryBody& met) {
  if (auto named = check_known_name(parent, name); !named || !is_name) return named;
  auto entry = read_entry(store, parent, name);
  if (!entry && entry.error().code == ENOENT) return {};  // home elsewhere than at its name: found by id
  if (!entry) return fail(entry.error());
  met = *entry;
  if (entry->kind == wire::EntryKind::kStub) return {};  // leads to the directory, or the client would not ask here
  if (entry->leaving) return fail(wire::kLeaving);
  if (entry->type != wire::ObjectType::kDirectory) return fail(ENOTDIR);
  if (entry->object.id != body.id && !is_mere_copy(*entry)) return fail(wire::kOtherId);
  return {};
}

// The removal is this transaction's until that commits or is cancelled.
Result<void> note_removing(Directory& target, const Id& txn) {
  auto updated = target.update([&](wire::DirRecord& record) -> Result<void> {
    if (record.state == wire::DirState::kMoving) return fail(EBUSY);
    record.state = wire::DirState::kRemoving;
    record.txn = txn;
    return {};
  });
  return updated ? Result<void>() : fail(updated.error());
}

// What is home's alone goes; of what others hold too, the removal begins (met.dir says so). `by_name`: the client does not know what
// the name leads to, and has found it here by its path.
Result<void> remove_or_begin(Store& store, const DirectoryPtr& parent, const DirectoryPtr& target, const std::string& name,
                             const wire::RmdirBody& body, bool by_name, const ChangeNote& note, wire::EntryBody& met) {
  EntriesGuard entries{{target, true}};
  const auto record = target->record();
  if (!(record.role & wire::kRoleHome)) return fail(wire::kDirAbsent);
  // Before the name's lock, for it takes those of the names below.
  if (auto cleared = clear_copies(store, *target); !cleared) return cleared;
  auto lock = store.name_locks().name(parent->id(), name);
  const bool is_name = !(record.role & wire::kRoleOffHash);
  if (auto checked = check_name_of(store, *parent, name, body, is_name, met); !checked) return checked;
  const bool counts = is_name && met.kind == wire::EntryKind::kObject && met.object.id == body.id;
  if (by_name && !counts) return fail(wire::kOtherId);
  if (!is_alone(record, store.identity().ordinal)) {
    if (auto begun = note_removing(*target, body.txn); !begun) return begun;
    met.kind = wire::EntryKind::kObject, met.type = wire::ObjectType::kDirectory;
    met.object.id = body.id, met.dir = target->record();
    return {};
  }
  note.begin({.object = body.id, .backup = record.backup, .counts = counts});
  if (auto removed = remove_named(store, target, *parent, name); !removed) return removed;
  if (auto counted = counts ? parent->count_subdirectory(-1) : Result<void>(); !counted) return counted;
  note.done_with(met);
  return {};
}

Result<void> begin_removal(Store& store, const DirectoryPtr& target, const wire::RmdirBody& body) {
  EntriesGuard entries{{target, true}};
  if (!(target->record().role & wire::kRoleHome)) return fail(wire::kDirAbsent);
  if (auto cleared = clear_copies(store, *target); !cleared) return cleared;
  return note_removing(*target, body.txn);
}

Result<void> commit_removal(Store& store, const DirectoryPtr& parent, const DirectoryPtr& target, const std::string& name,
                            const wire::RmdirBody& body, const ChangeNote& note, wire::EntryBody& met) {
  EntriesGuard entries{{target, true}};
  if (auto cleared = clear_copies(store, *target); !cleared) return cleared;
  auto lock = store.name_locks().name(parent->id(), name);
  const auto record = target->record();
  const bool is_name = !(record.role & wire::kRoleOffHash);
  if (auto checked = check_name_of(store, *parent, name, body, is_name, met); !checked) return checked;
  if (record.state != wire::DirState::kRemoving || record.txn != body.txn) return fail(wire::kTxnDecided);
  const bool counts = is_name && met.kind == wire::EntryKind::kObject && met.object.id == body.id;
  note.begin({.object = body.id, .counts = counts});
  if (auto removed = remove_named(store, target, *parent, name); !removed) return removed;
  if (auto counted = counts ? parent->count_subdirectory(-1) : Result<void>(); !counted) return counted;
  note.done();
  return {};
}

// The name goes on without the copy: it ends by the removal of its stub. True: that lies where the copy did, which has made way.
Result<bool> leave_stub(Store& store, const Directory& parent, const std::string& name, const Directory& target) {
  auto lock = store.name_locks().name(parent.id(), name);
  auto home = read_named_copy_at(parent.fd(), name.c_str(), parent.id());
  if (!home) return fail(home.error());
  if (!*home) return false;
  if (auto empty = check_empty(target); !empty) return fail(empty.error());
  return give_name_to_stub(store, parent, name, target.id(), **home).map([] { return true; });
}

// The parent too, for its times are put back.
Result<void> remove_member(Store& store, const DirectoryPtr& target) {
  if (target->record().role & wire::kRoleHome) return fail(EINVAL);
  RootScope scope;
  for (int tries = 0; tries < kPlaceTries; ++tries) {
    auto place = find_place(*target);
    if (!place) return target->removed() ? Result<void>() : fail(place.error());
    auto parent_id = get_id(place->parent.get());  // none: it is parked
    auto parent = parent_id ? store.directories().find(*parent_id) : Result<DirectoryPtr>(nullptr);
    EntriesGuard entries{{target, true}, {parent ? *parent : nullptr, true}};
    if (target->removed()) return {};
    auto still = get_id_at(place->parent.get(), place->name.c_str());
    if (!still || *still != target->id()) continue;
    if (auto cleared = clear_copies(store, *target); !cleared) return cleared;
    KeepTimes times(place->parent.get());
    const auto left = parent && *parent ? leave_stub(store, **parent, place->name, *target) : Result<bool>(false);
    if (!left) return fail(left.error());
    return *left ? remove_anywhere(store, target) : remove_at(store, target, place->parent.get(), place->name);
  }
  return fail(EBUSY);
}

Result<void> cancel_removal(const DirectoryPtr& target, const wire::RmdirBody& body) {
  auto updated = target->update([&](wire::DirRecord& record) -> Result<void> {
    if (record.state != wire::DirState::kRemoving || record.txn != body.txn) return {};
    record.state = wire::DirState::kLive;
    record.txn = {};
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

}  // namespace

bool is_alone(const wire::DirRecord& record, uint16_t ordinal) {
  wire::BrickSet others = record.set;
  others.remove(ordinal);
  for (uint8_t byte : others.bits) {
    if (byte != 0) return false;
  }
  return true;
}

Result<void> clear_copies(Store& store, const Directory& dir) {
  auto names = entries_of(dir);
  if (!names) return fail(names.error());
  if (names->empty()) return {};
  RootScope scope;
  KeepTimes times(dir.fd());
  for (const std::string& name : *names) {
    if (auto cleared = clear_copy(store, dir, name); !cleared) return cleared;
  }
  return {};
}

Result<bool> drop_empty_skeleton(Store& store, const DirectoryPtr& dir) {
  const auto is_skeleton = [&dir] { return dir->record().role == wire::kRoleSkeleton; };
  if (!is_skeleton()) return false;
  RootScope scope;
  auto place = find_place(*dir);
  if (!place) return dir->removed() ? Result<bool>(true) : fail(place.error());
  auto parent_id = get_id(place->parent.get());  // none: it is parked
  auto parent = parent_id ? store.directories().find(*parent_id) : Result<DirectoryPtr>(nullptr);
  EntriesGuard entries{{dir, true}, {parent ? *parent : nullptr, true}};
  auto still = get_id_at(place->parent.get(), place->name.c_str());
  if (!is_skeleton() || !still || *still != dir->id()) return false;
  if (parent && *parent) {  // in the place of its stub it is the name
    auto named = read_named_copy_at((*parent)->fd(), place->name.c_str(), (*parent)->id());
    if (!named || *named) return named ? Result<bool>(false) : fail(named.error());
  }
  KeepTimes times(place->parent.get());
  if (unlinkat(place->parent.get(), place->name.c_str(), AT_REMOVEDIR) != 0)
    return errno == ENOTEMPTY || errno == EEXIST ? Result<bool>(false) : fail_errno();
  if (auto forgotten = store.directories().forget(dir->id(), false); !forgotten) return fail(forgotten.error());
  return true;
}

Result<void> check_empty(const Directory& dir) {
  auto names = entries_of(dir);
  if (!names) return fail(names.error());
  return names->empty() ? Result<void>() : fail(ENOTEMPTY);
}

namespace {

// The last name of the path by which the kernel knows it. ENAMETOOLONG: the path is longer than PATH_MAX, which is no limit of a directory's depth.
Result<std::string> name_by_path(int dir) {
  const std::string link = "/proc/self/fd/" + std::to_string(dir);
  char path[PATH_MAX];
  const ssize_t size = readlink(link.c_str(), path, sizeof path);
  if (size < 0) return fail_errno();
  if (size == sizeof path) return fail(ENAMETOOLONG);
  const std::string_view text(path, static_cast<size_t>(size));
  return std::string(text.substr(text.rfind('/') + 1));
}

// Looked for in its parent.
Result<std::string> name_in(int parent, ino_t inode) {
  auto stream = open_stream(parent);
  if (!stream) return fail(stream.error());
  errno = 0;
  while (const dirent* entry = readdir(stream->get())) {
    if (entry->d_ino == inode && entry->d_name != std::string_view(".") && entry->d_name != std::string_view("..")) return std::string(entry->d_name);
    errno = 0;
  }
  return errno != 0 ? fail_errno() : fail(ENOENT);
}

}  // namespace

Result<PhysicalPlace> find_place(const Directory& dir) {
  for (int i = 0; i < kPlaceTries; ++i) {
    auto name = name_by_path(dir.fd());
    if (!name && name.error().code != ENAMETOOLONG) return fail(name.error());
    PhysicalPlace place;
    place.parent.reset(openat(dir.fd(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!place.parent) return fail_errno();
    struct stat here, there;
    if (fstat(dir.fd(), &here) != 0) return fail_errno();
    if (here.st_nlink == 0) return fail(ENOENT);
    if (!name) name = name_in(place.parent.get(), here.st_ino);
    if (!name && name.error().code == ENOENT) continue;  // it was renamed
    if (!name) return fail(name.error());
    place.name = std::move(*name);
    if (fstatat(place.parent.get(), place.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        here.st_ino == there.st_ino && here.st_dev == there.st_dev) {
      return place;
    }
  }
  return fail(EBUSY);
}

bool is_parked(const Store& store, const PhysicalPlace& place) {
  struct stat here, parked;
  return fstat(place.parent.get(), &here) == 0 && fstat(store.parked(), &parked) == 0 &&
         here.st_ino == parked.st_ino && here.st_dev == parked.st_dev;
}

namespace {

// The id of the directory that the name is here; kOtherId: it is none, and has to be looked at.
Result<Id> directory_at(const Directory& parent, const std::string& name) {
  if (auto named = check_known_name(parent, name); !named) return fail(named.error());
  struct stat stat;
  if (fstatat(parent.fd(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno();
  if (!S_ISDIR(stat.st_mode)) return fail(wire::kOtherId);
  auto id = get_id_at(parent.fd(), name.c_str());
  return id ? id : fail(wire::kOtherId);
}

}  // namespace

Result<void> remove_directory(Store& store, const DirectoryPtr& parent, const std::string& name,
                              const wire::RmdirBody& asked, const ChangeNote& note, wire::EntryBody& met) {
  using Phase = wire::RemovePhase;
  wire::RmdirBody body = asked;
  if (body.id.is_none()) {
    if (body.phase != Phase::kWhole || !parent) return fail(EINVAL);
    auto id = directory_at(*parent, name);
    if (!id) return fail(id.error());
    body.id = *id;
  }
  if (body.id == kRootId) return fail(EBUSY);
  auto target = store.directories().find(body.id);
  if (!target && body.phase == Phase::kMember && target.error().code == wire::kDirAbsent) {
    return store.directories().make_tombstone(body.id);
  }
  if (!target && body.phase == Phase::kCancel) return store.directories().remove_tombstone(body.id);
  if (!target && target.error().code == wire::kDirRemoved && body.phase != Phase::kWhole) return {};
  if (!target) return fail(target.error());
  // What lies here by the path of a former name is not what the name leads to.
  if (asked.id.is_none() && ((*target)->record().role & wire::kRoleOffHash)) return fail(wire::kOtherId);
  switch (body.phase) {
    case Phase::kWhole:
      return parent ? remove_or_begin(store, parent, *target, name, body, asked.id.is_none(), note, met) : fail(EINVAL);
    case Phase::kBegin: return begin_removal(store, *target, body);
    case Phase::kMember: return remove_member(store, *target);
    case Phase::kCommit:
      return parent ? commit_removal(store, parent, *target, name, body, note, met) : fail(EINVAL);
    case Phase::kCancel: return cancel_removal(*target, body);
  }
  return fail(EINVAL);
}

}  // namespace voldfs::store
