#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "brick/store/credentials.h"
#include "brick/store/object.h"

// Changes of what an object carries beside its data. Those of a directory are counted at its home; at another
// brick `change` is home's counter after the change, and a change that is older than what the brick has is
// not applied.
namespace voldfs::store {

// The fields that `body.valid` names (wire::kSet*). Size under the caller's credentials, the rest as root. EINVAL: the
// size of something that is no file, or fields that do not exist.
Result<void> set_attr(Store& store, const Object& object, const wire::SetattrBody& body, const Credentials& caller);

// The target of a symbolic link; EINVAL for anything else.
Result<std::string> read_link(const Object& object);

// A user's attributes. EPERM for changes of voldfs's own, which otherwise do not exist (ENODATA).
struct XattrChange {
  uint64_t change = 0;          // of a directory
  int flags = 0;                // XATTR_CREATE, XATTR_REPLACE
  bool clear_setgid = false;    // the caller is not of the file's group: the new ACL takes S_ISGID away
};
Result<size_t> get_user_xattr(const Object& object, const std::string& name, std::span<std::byte> value);
// `before`: called when it is clear that the change will be made, right before it, where a second run would be refused.
Result<void> set_user_xattr(Store& store, const Object& object, const std::string& name,
                            std::span<const std::byte> value, const XattrChange& change, const std::function<void()>& before);
Result<void> remove_user_xattr(Store& store, const Object& object, const std::string& name, uint64_t change,
                               const std::function<void()>& before);
// Names, each ended by NUL. `trusted`: also trusted.*, which only an administrator sees.
Result<std::string> list_user_xattrs(const Object& object, bool trusted);

// FS_IOC_GETFLAGS and FS_IOC_SETFLAGS. ENOTTY: the file system has none; EOPNOTSUPP: a flag that changes how the
// brick's file system stores the file, or the object can have none.
Result<uint32_t> get_flags(const Object& object);
Result<void> set_flags(Store& store, const Object& object, uint32_t flags, uint64_t change);

}  // namespace voldfs::store
