#include "brick/store/names_create.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "brick/store/attr.h"
#include "brick/store/handle.h"
#include "brick/store/name_lock.h"
#include "brick/store/object_open.h"
#include "brick/store/open_files.h"
#include "brick/store/settled_txns.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr mode_t kPermissions = 07777;

// A change in a directory that was removed meanwhile fails with ENOENT.
Error in_directory(const Directory& dir, Error error) {
  return error.code == ENOENT && dir.removed() ? Error(wire::kDirRemoved) : error;
}

// The answer for a new object of which the descriptor (O_PATH too) is at hand.
Result<wire::EntryBody> describe(Store& store, int fd, const Id& id) {
  wire::EntryBody entry{};
  auto attr = get_attr(fd);
  if (!attr) return fail(attr.error());
  entry.kind = wire::EntryKind::kObject;
  entry.type = type_of_mode(attr->mode);
  entry.attr = *attr;
  auto kinds = xattr_kinds(fd);  // of a default ACL of its directory
  if (!kinds) return fail(kinds.error());
  note_xattrs(*kinds, entry.attr);
  auto handle = store.handles().make(fd, id, entry.type);
  if (!handle) return fail(handle.error());
  entry.object = {id, *handle};
  return entry;
}

Result<wire::EntryBody> open_existing(Store& store, const wire::CreateBody& body, const Maker& maker,
                                      const wire::EntryBody& found) {
  if (found.leaving) return fail(wire::kLeaving);
  if (body.flags & O_EXCL) return fail(EEXIST);
  if (found.kind == wire::EntryKind::kStub) return fail(wire::kStub);
  if (found.type == wire::ObjectType::kDirectory) return fail(EISDIR);
  if (found.type != wire::ObjectType::kFile) return fail(ESTALE);
  auto opened = open_file(store, maker.session, found.object, body.flags & ~(O_CREAT | O_EXCL), 0, maker.caller);
  if (!opened) return fail(opened.error());
  wire::EntryBody entry = found;
  entry.existed = 1;
  entry.open = opened->number;
  auto attr = get_attr(opened->object.fd());
  if (!attr) return fail(attr.error());
  entry.attr = *attr;
  return entry;
}

// Gives a new file its id and takes the open in. The name goes again if that fails.
Result<wire::EntryBody> complete_file(Store& store, unique_fd fd, const wire::CreateBody& body, const Maker& maker) {
  if (auto set = set_id(fd.get(), body.id); !set) return fail(set.error());
  auto entry = describe(store, fd.get(), body.id);
  if (!entry) return entry;
  auto open = store.open_files().insert(maker.session, body.id, std::move(fd), static_cast<int>(body.flags));
  if (!open) return fail(open.error());
  entry->open = (*open)->number;
  return entry;
}

int creation_flags(uint32_t flags) {
  // Readable too: a client's kernel fills pages that are partly written.
  const int access = (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
  return access | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
}

}  // namespace

Result<void> vacate(Store& store, const Directory& dir, const std::string& name, wire::EntryBody& met) {
  // First what is nearly always so, and what read_entry() says of a skeleton too.
  if (faccessat(dir.fd(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? Result<void>() : fail_errno();
  auto found = read_entry(store, dir, name);
  if (found && !is_mere_copy(*found)) {
    met = *found;
    return fail(found->leaving ? static_cast<int>(wire::kLeaving) : EEXIST);
  }
  if (!found && found.error().code != ENOENT) return fail(found.error());
  // A copy, or a skeleton, which read_entry() does not tell of.
  auto id = get_id_at(dir.fd(), name.c_str());
  if (!id) return fail(id.error());
  RootScope scope;
  return park(store, dir.fd(), name, id->hex());
}

Result<wire::EntryBody> create_file(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::CreateBody& body, const Maker& maker, const ChangeNote& note,
                                    wire::EntryBody& met) {
  if (auto named = check_new_name(*dir, name); !named) return fail(named.error());
  if (body.id.is_none()) return fail(EINVAL);
  if (body.mode & S_IFMT & ~S_IFREG) return fail(EINVAL);
  EntriesGuard entries{{dir}};
  auto lock = store.name_locks().name(dir->id(), name);
  if (dir->removed()) return fail(wire::kDirRemoved);
  auto free = vacate(store, *dir, name, met);
  if (!free && free.error().code != EEXIST) return fail(free.error());
  if (!free) return open_existing(store, body, maker, met);
  if (auto room = store.check_room(); !room) return fail(room.error());
  note.begin({.object = body.id});
  unique_fd fd;
  {
    CallerScope scope(maker.caller);
    fd.reset(openat(dir->fd(), name.c_str(), creation_flags(body.flags) | O_CREAT | O_EXCL, body.mode & kPermissions));
    if (!fd) return fail(in_directory(*dir, Error::from_errno()));
  }
  auto entry = complete_file(store, std::move(fd), body, maker);
  if (entry) note.done_with(*entry);
  else unlinkat(dir->fd(), name.c_str(), 0);
  return entry;
}

Result<wire::EntryBody> make_node(Store& store, const DirectoryPtr& dir, const std::string& name,
                                  const wire::MakeBody& body, const std::string& target, const Maker& maker,
                                  const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_new_name(*dir, name); !named) return fail(named.error());
  if (body.id.is_none() || S_ISDIR(body.mode)) return fail(EINVAL);
  if (target.find('\0') != std::string::npos) return fail(EINVAL);
  EntriesGuard entries{{dir}};
  auto lock = store.name_locks().name(dir->id(), name);
  if (dir->removed()) return fail(wire::kDirRemoved);
  if (auto free = vacate(store, *dir, name, met); !free) return fail(free.error());
  if (auto room = store.check_room(); !room) return fail(room.error());
  note.begin({.object = body.id});
  {
    CallerScope scope(maker.caller);
    const dev_t device = makedev(static_cast<unsigned>(body.rdev >> 32), static_cast<unsigned>(body.rdev));
    const int made = target.empty() ? mknodat(dir->fd(), name.c_str(), body.mode, device)
                                    : symlinkat(target.c_str(), dir->fd(), name.c_str());
    if (made != 0) return fail(in_directory(*dir, Error::from_errno()));
  }
  Result<wire::EntryBody> entry;
  if (auto set = set_id_at(dir->fd(), name.c_str(), body.id); !set) entry = fail(set.error());
  else entry = read_entry(store, *dir, name);
  if (entry) note.done_with(*entry);
  else unlinkat(dir->fd(), name.c_str(), 0);
  return entry;
}

Result<wire::EntryBody> make_tmpfile(Store& store, const DirectoryPtr& dir, const wire::CreateBody& body,
                                     const Maker& maker, const ChangeNote& note) {
  if (body.id.is_none()) return fail(EINVAL);
  EntriesGuard entries{{dir}};
  if (dir->removed()) return fail(wire::kDirRemoved);
  if (auto room = store.check_room(); !room) return fail(room.error());
  note.begin({.object = body.id});
  unique_fd fd;
  {
    CallerScope scope(maker.caller);
    constexpr int kFlags = O_TMPFILE | O_RDWR | O_CLOEXEC;
    fd.reset(openat(dir->fd(), ".", kFlags, body.mode & kPermissions));
    if (!fd) return fail(in_directory(*dir, Error::from_errno()));
  }
  auto lock = store.name_locks().object(body.id);
  const int raw_fd = fd.get();  // stays open: the open holds it
  auto entry = complete_file(store, std::move(fd), body, maker);
  if (!entry) return entry;
  if (auto kept = store.open_files().keep_new(raw_fd, body.id); !kept) {
    if (auto closed = store.open_files().close(maker.session, entry->open); !closed) return fail(closed.error());
    return fail(kept.error());
  }
  entry->attr.nlink = 0;
  return entry;
}

Result<wire::EntryBody> link_object(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::LinkBody& body, const ChangeNote& note, wire::EntryBody& met) {
  if (auto named = check_new_name(*dir, name); !named) return fail(named.error());
  EntriesGuard entries{{dir}};
  auto lock = store.name_locks().name(dir->id(), name);
  auto object_lock = store.name_locks().object(body.object.id);
  if (dir->removed()) return fail(wire::kDirRemoved);
  if (auto free = vacate(store, *dir, name, met); !free) return fail(free.error());
  auto object = find_object(store, 0, body.object, 0, O_RDONLY);
  if (!object) return fail(object.error());
  if (object->type() == wire::ObjectType::kDirectory) return fail(EPERM);
  if (store.settled_txns().contains(body.txn, body.object.id)) return fail(wire::kTxnDecided);
  if (auto dropped = drop_dead_mark(object->fd(), *dir, name); !dropped) return fail(dropped.error());
  note.begin({.object = body.object.id});
  if (linkat(object->fd(), "", dir->fd(), name.c_str(), AT_EMPTY_PATH) != 0) {
    return fail(in_directory(*dir, Error::from_errno()));
  }
  if (store.open_files().is_nameless(body.object.id)) {
    if (auto named = store.open_files().named(body.object.id); !named) return fail(named.error());
  }
  auto entry = describe(store, object->fd(), body.object.id);
  if (entry) note.done_with(*entry);
  return entry;
}

}  // namespace voldfs::store
