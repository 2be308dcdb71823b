#include "brick/store/directory_move.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <optional>

#include "brick/store/credentials.h"
#include "brick/store/directory_remove.h"
#include "brick/store/name_lock.h"
#include "brick/store/named_copy.h"
#include "brick/store/names_create.h"
#include "brick/store/names_entry.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr size_t kDepthMax = 4096;  // of PATH_MAX: what is deeper is a loop
constexpr int kMoveTries = 10;  // a directory that others move at the same time

// The parent that a directory has here; null when it is in .voldfs/parked.
DirectoryPtr parent_of(Store& store, const PhysicalPlace& place) {
  auto id = get_id(place.parent.get());
  if (!id) return nullptr;
  auto found = store.directories().find(*id);
  return found ? *found : nullptr;
}

// The new place's stub gives way to the directory that it leads to, and lies where that was for a moment: in .voldfs/parked,
// where a kill cannot make a name of it.
Result<void> take_stubs_place(Store& store, PhysicalPlace place, Directory& dir, const Directory& to, const std::string& name,
                              const Id& home_brick) {
  if (!is_parked(store, place)) {
    if (auto parked = park(store, place.parent.get(), place.name, dir.id().hex()); !parked) return parked;
    auto found = find_place(dir);
    if (!found) return fail(found.error());
    place = std::move(*found);
  }
  if (auto dropped = drop_dead_mark(dir.fd(), to, name); !dropped) return dropped;
  if (!(dir.record().role & wire::kRoleHome)) return take_stubs_name(place.parent.get(), place.name, to, name, home_brick);
  if (auto noted = note_off_hash(dir, false); !noted) return noted;
  if (renameat2(place.parent.get(), place.name.c_str(), to.fd(), name.c_str(), RENAME_EXCHANGE) != 0) return fail_errno();
  if (unlinkat(place.parent.get(), place.name.c_str(), 0) != 0) return fail_errno();
  return {};
}

// What `trusted.voldfs.name` says of that name.
Result<void> forget_name(const Directory& dir, const Directory& to, const std::string& name) {
  auto value = read_xattr(dir.fd(), kXattrName);
  if (!value && value.error().code == ENODATA) return {};
  if (!value) return fail(value.error());
  auto mark = decode_leaving(*value);
  if (!mark) return fail(mark.error());
  return mark->parent == to.id() && mark->name == name ? remove_xattr(dir.fd(), kXattrName) : Result<void>();
}

enum class Moved {
  kStays,    // what lies there has the better claim
  kToPath,   // its name is elsewhere
  kToName,   // it is what its name leads to
};

Result<Moved> move_entry(Store& store, PhysicalPlace place, Directory& dir, const DirectoryPtr& to, const std::string& name) {
  wire::EntryBody met{};
  auto free = vacate(store, *to, name, met);
  if (!free && free.error().code != EEXIST && free.error().code != wire::kLeaving) return fail(free.error());
  if (!free && met.object.id != dir.id()) return Moved::kStays;
  if (!free && met.kind == wire::EntryKind::kStub) {
    if (met.leaving) return Moved::kStays;  // it is about to lead to nothing
    auto taken = take_stubs_place(store, std::move(place), dir, *to, name, met.link.brick);
    return taken ? Result<Moved>(Moved::kToName) : fail(taken.error());
  }
  if (!free) return Moved::kToName;  // it is there
  // Where it was what the name led to, long ago, it is not that again.
  if (auto forgotten = forget_name(dir, *to, name); !forgotten) return fail(forgotten.error());
  if (auto dropped = drop_dead_mark(dir.fd(), *to, name); !dropped) return fail(dropped.error());
  const int done = renameat2(place.parent.get(), place.name.c_str(), to->fd(), name.c_str(), RENAME_NOREPLACE);
  if (done == 0) return Moved::kToPath;
  // Below itself by the paths here, which are not the volume's: it stays where it is.
  return errno == EINVAL || errno == EEXIST ? Result<Moved>(Moved::kStays) : fail_errno();
}

Result<bool> is_leaving(const PhysicalPlace& place, const DirectoryPtr& from, const Id& txn) {
  if (!from || txn.is_none()) return false;
  auto mark = read_leaving_at(place.parent.get(), place.name.c_str(), from->id());
  if (!mark) return fail(mark.error());
  return *mark && (*mark)->txn == txn;
}

// Whether `below` lies below the directory, by the paths that they have here.
Result<bool> lies_below(const Store& store, const Directory& below, const Directory& dir) {
  struct stat root, wanted, at;
  if (fstat(store.root(), &root) != 0 || fstat(dir.fd(), &wanted) != 0 || fstat(below.fd(), &at) != 0) return fail_errno();
  unique_fd fd(fcntl(below.fd(), F_DUPFD_CLOEXEC, 0));
  for (size_t depth = 0; fd && depth < kDepthMax; ++depth) {
    if (at.st_ino == wanted.st_ino) return true;
    if (at.st_ino == root.st_ino) return false;
    fd.reset(openat(fd.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (fd && fstat(fd.get(), &at) != 0) return fail_errno();
  }
  return fd ? fail(ELOOP) : fail_errno();
}

// Its name leads to it where it lies: it is home, and the name is no stub, or it is what the name leads to in a stub's place.
Result<bool> lies_under_its_name(const Directory& dir, const Directory& parent, const std::string& name) {
  const wire::DirRecord record = dir.record();
  if (record.role & wire::kRoleHome) return record.parent == parent.id() && !(record.role & wire::kRoleOffHash);
  auto home = read_named_copy_at(parent.fd(), name.c_str(), parent.id());
  if (!home) return fail(home.error());
  return home->has_value();
}

}  // namespace

Result<void> untangle(Store& store, const Directory& above, const DirectoryPtr& below) {
  RootScope scope;
  DirectoryPtr at = below;
  for (size_t depth = 0; depth < kDepthMax; ++depth) {
    auto place = find_place(*at);
    if (!place) return fail(place.error());
    const DirectoryPtr parent = parent_of(store, *place);
    if (!parent) return fail(EINVAL);  // it is not below
    auto named = lies_under_its_name(*at, *parent, place->name);
    if (!named && named.error().code == ENOENT) return {};  // others are at it: look again
    if (!named) return fail(named.error());
    if (!*named) {
      EntriesGuard entries{{parent, true}};
      auto lock = store.name_locks().name(parent->id(), place->name);
      auto still = get_id_at(parent->fd(), place->name.c_str());
      if (!still || *still != at->id()) return {};  // others are at it: look again
      const KeepTimes times(parent->fd());
      return park(store, parent->fd(), place->name, at->id().hex());
    }
    if (parent->id() == above.id()) return fail(EINVAL);
    at = parent;
  }
  return fail(ELOOP);
}

Result<void> note_off_hash(Directory& dir, bool off_hash) {
  auto updated = dir.update([&](wire::DirRecord& record) -> Result<void> {
    if (!(record.role & wire::kRoleHome)) return {};
    record.role = static_cast<uint8_t>(off_hash ? record.role | wire::kRoleOffHash : record.role & ~wire::kRoleOffHash);
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

Result<bool> has_another_name(Store& store, const Directory& dir, const Id& parent, const std::string& name, const Id& txn) {
  auto place = find_place(dir);
  if (!place) return fail(place.error());
  const DirectoryPtr from = parent_of(store, *place);
  if (!from || (from->id() == parent && place->name == name)) return false;
  auto was_name = is_leaving(*place, from, txn);
  if (!was_name || *was_name) return was_name ? Result<bool>(false) : was_name;
  return lies_under_its_name(dir, *from, place->name);
}

Result<bool> move_directory(Store& store, const DirectoryPtr& dir, const Id& parent, const std::string& name, const Id& txn,
                            const ChangeNote* note) {
  auto to = store.directories().find(parent);
  if (!to && (to.error().code == wire::kDirAbsent || to.error().code == wire::kDirRemoved)) return false;
  if (!to) return fail(to.error());
  if (auto named = check_new_name(**to, name); !named) return fail(named.error());
  RootScope scope;
  for (int tries = 0; tries < kMoveTries; ++tries) {
    auto place = find_place(*dir);
    if (!place) return fail(place.error());
    const DirectoryPtr from = parent_of(store, *place);
    if (from == *to && place->name == name) return true;
    // Not so in the volume: the new parent has still to come to its own place.
    auto tangled = lies_below(store, **to, *dir);
    if (!tangled) return fail(tangled.error());
    if (*tangled) return false;
    EntriesGuard entries{{from, true}, {*to, true}};
    auto lock = store.name_locks().names(from ? from->id() : Id{}, place->name, (*to)->id(), name);
    auto still = get_id_at(place->parent.get(), place->name.c_str());
    if (!still || *still != dir->id()) continue;
    auto was_name = is_leaving(*place, from, txn);
    if (!was_name) return fail(was_name.error());
    auto is_name = from && !*was_name ? lies_under_its_name(*dir, *from, place->name) : Result<bool>(false);
    if (!is_name) return fail(is_name.error());
    if (*is_name) return true;  // another rename has come since: this one's path is not its name's any more
    const KeepTimes to_times(*was_name && from == *to ? -1 : (*to)->fd());
    unique_fd left(fcntl(place->parent.get(), F_DUPFD_CLOEXEC, 0));
    if (!left) return fail_errno();
    const KeepTimes from_times(*was_name ? -1 : left.get());
    // With the old name goes its count. A home that says already that its name is elsewhere is not counted: this was cut before, and
    // the names counted anew.
    const bool counts = *was_name && !(dir->record().role & wire::kRoleOffHash);
    if (counts) {
      if (note) note->begin({.object = dir->id(), .counts = true, .dir = from->id()});
      if (auto noted = note_off_hash(*dir, true); !noted) return fail(noted.error());
    }
    auto moved = move_entry(store, std::move(*place), *dir, *to, name);
    if (!moved) return fail(moved.error());
    if (*moved != Moved::kToPath && counts) {
      if (auto noted = note_off_hash(*dir, false); !noted) return fail(noted.error());
    }
    if (*moved == Moved::kStays) spdlog::info("directory-stays directory={} name={}", dir->id().hex(), name);
    if (*moved == Moved::kStays || !*was_name) return true;
    auto unmarked = remove_xattr(dir->fd(), kXattrLeaving);
    if (!unmarked && unmarked.error().code != ENODATA) return fail(unmarked.error());
    if (auto counted = counts ? from->count_subdirectory(-1) : Result<void>(); !counted) return fail(counted.error());
    return true;
  }
  return fail(EBUSY);
}

}  // namespace voldfs::store
