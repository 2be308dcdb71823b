#include "brick/store/adoption.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/store/credentials.h"
#include "brick/store/name_lock.h"
#include "brick/store/names_create.h"
#include "brick/store/record.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

bool is_found(const wire::DirRecord& record) { return record.role & wire::kRoleFound; }
bool is_settled_home(const wire::DirRecord& record) { return (record.role & wire::kRoleHome) && !is_found(record); }

Result<void> check_record(const wire::DirRecord& record, uint16_t ordinal) {
  constexpr uint8_t kRoles = wire::kRoleHome | wire::kRoleBackup | wire::kRoleMember | wire::kRoleFound;
  if (record.id.is_none() || record.parent.is_none() || record.epoch != 0) return fail(EINVAL);
  if (record.role == 0 || (record.role & ~kRoles)) return fail(EINVAL);
  if (record.home == 0 || record.home > wire::kOrdinalMax || record.backup > wire::kOrdinalMax) return fail(EINVAL);
  const bool home = record.role & wire::kRoleHome;
  return home == (record.home == ordinal) ? Result<void>() : fail(EINVAL);
}

// The record that a part which is here gets.
Result<wire::DirRecord> join(Directory& dir, const wire::DirRecord& wanted) {
  return dir.update([&](wire::DirRecord& record) -> Result<void> {
    if (is_settled_home(record) || record.epoch != 0) return {};
    const wire::DirRecord before = record;
    if (is_found(before) || (wanted.role & wire::kRoleHome) || wanted.change >= before.change) record = wanted;
    record.subdirectories = before.subdirectories;
    if (!is_found(before)) record.role = (wanted.role | before.role) & static_cast<uint8_t>(~wire::kRoleSkeleton);
    if ((before.role & wire::kRoleFound) && !is_found(wanted)) record.role &= static_cast<uint8_t>(~wire::kRoleFound);
    record.state = wire::DirState::kLive;
    record.txn = {};
    return {};
  });
}

Result<DirectoryPtr> build(Store& store, const Directory& parent, const std::string& name, const wire::MaterializeBody& body,
                           std::span<const std::byte> xattrs) {
  wire::EntryBody met{};
  auto free = vacate(store, parent, name, met);
  if (!free && free.error().code != EEXIST && free.error().code != wire::kLeaving) return fail(free.error());
  // Whatever has the name has it: a home elsewhere than at its name would be no name. A copy's path is a convenience.
  if (!free && (body.record.role & wire::kRoleHome)) return fail(free.error());
  RootScope scope;
  auto built = build_copy(store, body, xattrs);
  if (!built) return built;
  if (auto placed = place_copy(store, parent, name, body.record.id, met); !placed) return fail(placed.error());
  return built;
}

}  // namespace

Result<wire::EntryBody> unite_directory(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                        std::span<const std::byte> xattrs) {
  const wire::DirRecord& wanted = body.record;
  if (auto checked = check_record(wanted, store.identity().ordinal); !checked) return fail(checked.error());
  if (store.directories().has_tombstone(wanted.id)) return fail(wire::kDirRemoved);
  const bool root = wanted.id == kRootId;
  auto parent = store.directories().find(wanted.parent);
  if (!parent) return fail(parent.error());
  if (!root) {
    if (auto named = check_new_name(**parent, name); !named) return fail(named.error());
  }
  EntriesGuard entries{{*parent, true}};
  auto lock = store.name_locks().name((*parent)->id(), name);
  if ((*parent)->removed()) return fail(wire::kDirRemoved);
  auto dir = store.directories().find(wanted.id);
  if (!dir && dir.error().code != wire::kDirAbsent) return fail(dir.error());
  const bool was_home = dir && is_settled_home((*dir)->record());
  if (dir && !was_home) {
    RootScope scope;
    if (auto taken = take_over_attributes(**dir, body.attr, xattrs); !taken) return fail(taken.error());
    if (auto joined = join(**dir, wanted); !joined) return fail(joined.error());
  }
  if (!dir) dir = build(store, **parent, name, body, xattrs);
  if (!dir) return fail(dir.error());
  // A name from now on, of which this brick is the authority.
  if (!was_home && !root && is_settled_home((*dir)->record())) {
    if (auto counted = (*parent)->count_subdirectory(+1); !counted) return fail(counted.error());
  }
  return describe_directory(**dir);
}

Result<wire::EntryBody> set_epoch(Store& store, const wire::DirRef& ref) {
  if (ref.epoch > 1) return fail(EINVAL);
  auto dir = store.directories().find(ref.id);
  if (!dir) return fail(dir.error());
  auto updated = (*dir)->update([&](wire::DirRecord& record) -> Result<void> {
    if (!is_settled_home(record)) return fail(wire::kDirAbsent);
    if (record.epoch > 1) return fail(EINVAL);
    if (record.epoch == ref.epoch) return {};
    if (record.change != ref.change) return fail(wire::kDirBehind);
    record.epoch = ref.epoch;
    ++record.change;
    return {};
  });
  if (!updated) return fail(updated.error());
  return describe_directory(**dir);
}

Result<wire::EntryBody> make_stub(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::Link& link,
                                  const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_new_name(*dir, name); !named) return fail(named.error());
  if (link.brick.is_none() || link.object.is_none() || link.type == wire::ObjectType::kNone) return fail(EINVAL);
  EntriesGuard entries{{dir, true}};
  auto lock = store.name_locks().name(dir->id(), name);
  if (dir->removed()) return fail(wire::kDirRemoved);
  if (auto free = vacate(store, *dir, name, met); !free) {
    const bool same = met.kind == wire::EntryKind::kStub && met.object.id == link.object;
    return same ? Result<wire::EntryBody>(met) : fail(free.error());
  }
  RootScope scope;
  const std::string built = Id::random().hex();
  unique_fd fd(openat(store.tmp(), built.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0));
  if (!fd) return fail_errno();
  wire::Link stored = link;
  stored.state = wire::LinkState::kCommitted;
  stored.txn = {};
  Result<void> put;
  KeepTimes times(dir->fd());
  note.begin({.object = link.object, .counts = link.type == wire::ObjectType::kDirectory});
  if (fchmod(fd.get(), kStubMode) != 0) put = fail_errno();
  if (put) put = set_xattr(fd.get(), kXattrLink, encode_link(stored));
  if (put && renameat2(store.tmp(), built.c_str(), dir->fd(), name.c_str(), RENAME_NOREPLACE) != 0) put = fail_errno();
  if (!put) {
    unlinkat(store.tmp(), built.c_str(), 0);
    return fail(put.error());
  }
  if (link.type == wire::ObjectType::kDirectory) {
    if (auto counted = dir->count_subdirectory(+1); !counted) return fail(counted.error());
  }
  auto entry = read_entry(store, *dir, name);
  if (entry) note.done_with(*entry);
  return entry;
}

}  // namespace voldfs::store
