#include "brick/store/object_attr.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>

#include "brick/store/attr.h"
#include "brick/store/name_lock.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"

namespace voldfs::store {

namespace {

constexpr uint32_t kSetAll = wire::kSetMode | wire::kSetUid | wire::kSetGid | wire::kSetSize | wire::kSetAtime |
                             wire::kSetMtime | wire::kSetAtimeNow | wire::kSetMtimeNow | wire::kSetCtime |
                             wire::kKillPrivileges;

// The flags that mean the same on every brick, and leave it to the file system below how data is stored.
constexpr uint32_t kSafeFlags = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_NOATIME_FL | FS_NODUMP_FL | FS_SYNC_FL |
                                FS_DIRSYNC_FL | FS_TOPDIR_FL;

// chmod and truncate have no form for an O_PATH descriptor, and truncate(2), unlike ftruncate(2), leaves the
// times alone when the size stays, as the caller expects who asked for the size alone.
class MagicLink {
 public:
  explicit MagicLink(int fd) { std::snprintf(text_, sizeof text_, "/proc/self/fd/%d", fd); }
  const char* c_str() const { return text_; }

 private:
  char text_[32];
};

Result<void> set_size(const Object& object, const wire::SetattrBody& body, const Credentials& caller) {
  if (object.type() == wire::ObjectType::kDirectory) return fail(EISDIR);
  if (!object.is_file() || body.attr.size > LLONG_MAX) return fail(EINVAL);
  Credentials credentials = caller;
  credentials.plain = (body.valid & wire::kKillPrivileges) != 0;
  CallerScope scope(credentials);
  if (::truncate(MagicLink(object.fd()).c_str(), static_cast<off_t>(body.attr.size)) < 0) return fail_errno();
  return {};
}

Result<void> set_owner(const Object& object, const wire::SetattrBody& body) {
  const uid_t uid = body.valid & wire::kSetUid ? body.attr.uid : static_cast<uid_t>(-1);
  const gid_t gid = body.valid & wire::kSetGid ? body.attr.gid : static_cast<gid_t>(-1);
  if (::fchownat(object.fd(), "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) return fail_errno();
  return {};
}

Result<void> set_mode(const Object& object, uint32_t mode) {
  if (object.type() == wire::ObjectType::kSymlink) return fail(EOPNOTSUPP);
  if (::fchmod(object.fd(), mode & 07777) == 0) return {};
  if (errno != EBADF || ::chmod(MagicLink(object.fd()).c_str(), mode & 07777) < 0) return fail_errno();  // EBADF: O_PATH
  return {};
}

timespec wanted_time(uint32_t valid, uint32_t set, uint32_t now, int64_t seconds, uint32_t nanoseconds) {
  if (valid & now) return {0, UTIME_NOW};
  if (valid & set) return {seconds, static_cast<long>(nanoseconds)};
  return {0, UTIME_OMIT};
}

Result<void> set_times(const Object& object, const wire::SetattrBody& body) {
  constexpr uint32_t kNanoseconds = 1'000'000'000;  // from there on UTIME_NOW and UTIME_OMIT could hide
  const wire::Attr& attr = body.attr;
  if (attr.atime_ns >= kNanoseconds || attr.mtime_ns >= kNanoseconds) return fail(EINVAL);
  const timespec times[2] = {
      wanted_time(body.valid, wire::kSetAtime, wire::kSetAtimeNow, attr.atime, attr.atime_ns),
      wanted_time(body.valid, wire::kSetMtime, wire::kSetMtimeNow, attr.mtime, attr.mtime_ns),
  };
  if (::utimensat(object.fd(), "", times, AT_EMPTY_PATH) < 0) return fail_errno();
  return {};
}

constexpr uint32_t kTimes = wire::kSetAtime | wire::kSetMtime | wire::kSetAtimeNow | wire::kSetMtimeNow;

// In the order in which a later one undoes nothing of an earlier: a new size and a new owner take suid and
// sgid away, and a size changes the times.
Result<void> apply_attr(const Object& object, const wire::SetattrBody& body, const Credentials& caller) {
  if (body.valid & ~kSetAll) return fail(EINVAL);
  if (body.valid & wire::kSetSize) {
    if (auto done = set_size(object, body, caller); !done) return done;
  }
  RootScope root;
  if (body.valid & (wire::kSetUid | wire::kSetGid)) {
    if (auto done = set_owner(object, body); !done) return done;
  }
  if (body.valid & wire::kSetMode) {
    if (auto done = set_mode(object, body.attr.mode); !done) return done;
  }
  if (body.valid & kTimes) return set_times(object, body);
  return {};
}

// Carries out a change of an object; of a directory under its lock and counted, after it has happened: a
// client that hears of no end of it sends it again. A copy that has missed a change before this one has to hear of that first.
template <class Apply>
Result<void> counted(Store& store, const Object& object, uint64_t change, Apply apply, bool times = false) {
  if (!object.directory()) return apply();
  Directory& directory = *object.directory();
  auto lock = store.name_locks().object(directory.id());
  const wire::DirRecord record = directory.record();
  const bool counts = change == 0;
  if (counts && !(record.role & wire::kRoleHome)) return fail(EINVAL);
  if (!counts && change < record.change) return {};  // overtaken by a newer one
  if (!counts && change > record.change + 1) return fail(wire::kDirBehind);
  if (auto done = apply(); !done) return done;
  auto updated = directory.update([&](wire::DirRecord& now) -> Result<void> {
    now.change = counts ? now.change + 1 : std::max(now.change, change);
    if (times) now.times_change = static_cast<uint32_t>(now.change);
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

}  // namespace

Result<void> set_attr(Store& store, const Object& object, const wire::SetattrBody& body, const Credentials& caller) {
  return counted(store, object, body.change, [&] { return apply_attr(object, body, caller); }, (body.valid & kTimes) != 0);
}

Result<std::string> read_link(const Object& object) {
  if (object.type() != wire::ObjectType::kSymlink) return fail(EINVAL);
  std::string target(wire::kTextMax, '\0');
  const ssize_t size = ::readlinkat(object.fd(), "", target.data(), target.size());
  if (size < 0) return fail_errno();
  target.resize(static_cast<size_t>(size));
  return target;
}

Result<size_t> get_user_xattr(const Object& object, const std::string& name, std::span<std::byte> value) {
  if (is_internal_xattr(name)) return fail(ENODATA);
  return get_xattr(object.fd(), name.c_str(), value);
}

namespace {

// So that nobody else adds or removes an attribute between the look at it and the change. Of a directory counted() has it.
NameLocks::Guard lock_file(Store& store, const Object& object) {
  return object.directory() ? NameLocks::Guard{} : store.name_locks().object(object.id());
}

Result<bool> has_xattr(const Object& object, const std::string& name) {
  auto size = get_xattr(object.fd(), name.c_str(), {});
  if (size) return true;
  return size.error().code == ENODATA ? Result<bool>(false) : fail(size.error());
}

}  // namespace

Result<void> set_user_xattr(Store& store, const Object& object, const std::string& name,
                            std::span<const std::byte> value, const XattrChange& change, const std::function<void()>& before) {
  if (is_internal_xattr(name)) return fail(EPERM);
  RootScope root;
  auto lock = lock_file(store, object);
  return counted(store, object, change.change, [&]() -> Result<void> {
    if (change.flags & XATTR_CREATE) {
      auto there = has_xattr(object, name);
      if (!there) return fail(there.error());
      if (*there) return fail(EEXIST);
      before();
    }
    if (auto done = set_xattr(object.fd(), name.c_str(), value, change.flags); !done) return done;
    if (!change.clear_setgid) return {};
    auto attr = get_attr(object.fd());
    if (!attr) return fail(attr.error());
    return attr->mode & S_ISGID ? set_mode(object, attr->mode & ~static_cast<uint32_t>(S_ISGID)) : Result<void>();
  });
}

Result<void> remove_user_xattr(Store& store, const Object& object, const std::string& name, uint64_t change,
                               const std::function<void()>& before) {
  if (is_internal_xattr(name)) return fail(EPERM);
  RootScope root;
  auto lock = lock_file(store, object);
  return counted(store, object, change, [&]() -> Result<void> {
    auto there = has_xattr(object, name);
    if (!there) return fail(there.error());
    if (*there) before();  // what is not there may be removed all the same: an ACL
    return remove_xattr(object.fd(), name.c_str());
  });
}

Result<std::string> list_user_xattrs(const Object& object, bool trusted) {
  auto all = list_xattrs(object.fd());
  if (!all) return all;
  std::string shown;
  for (size_t at = 0; at < all->size();) {
    const std::string_view name(all->c_str() + at);
    at += name.size() + 1;
    if (is_internal_xattr(name) || (!trusted && name.starts_with("trusted."))) continue;
    shown.append(name).push_back('\0');
  }
  return shown;
}

Result<uint32_t> get_flags(const Object& object) {
  if (!object.is_file() && !object.directory()) return fail(ENOTTY);
  int flags = 0;
  if (::ioctl(object.fd(), FS_IOC_GETFLAGS, &flags) < 0) return fail_errno();
  return static_cast<uint32_t>(flags);
}

Result<void> set_flags(Store& store, const Object& object, uint32_t flags, uint64_t change) {
  auto have = get_flags(object);
  if (!have) return fail(have.error());
  // A brick itself changes the directories that it has: what lies below comes and goes, and so does what it notes of them.
  const uint32_t may_change = object.directory() ? kSafeFlags & ~(FS_APPEND_FL | FS_IMMUTABLE_FL) : kSafeFlags;
  if ((*have ^ flags) & ~may_change) return fail(EOPNOTSUPP);
  RootScope root;
  return counted(store, object, change, [&]() -> Result<void> {
    int wanted = static_cast<int>(flags);
    if (::ioctl(object.fd(), FS_IOC_SETFLAGS, &wanted) < 0) return fail_errno();
    return {};
  });
}

}  // namespace voldfs::store
