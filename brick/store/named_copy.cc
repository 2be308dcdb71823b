#include "brick/store/named_copy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "brick/base/unique_fd.h"
#include "brick/store/record.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"

namespace voldfs::store {

Result<std::optional<Id>> read_named_copy_at(int dir, const char* name, const Id& dir_id) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir, name, kXattrName, value);
  if (!size && size.error().code == ENODATA) return std::optional<Id>();
  if (!size) return fail(size.error());
  auto mark = decode_leaving(std::span(value).first(*size));
  if (!mark) return fail(mark.error());
  // Of a former place: what moves away leaves its name behind.
  if (mark->parent != dir_id || mark->name != name) return std::optional<Id>();
  return std::optional<Id>(mark->authority);
}

Result<void> take_stubs_name(int from_dir, const std::string& from_name, const Directory& to, const std::string& name,
                             const Id& home_brick) {
  // First, for it says nothing until the copy is there.
  auto set = set_xattr_at(from_dir, from_name.c_str(), kXattrName, encode_leaving({to.id(), Id{}, home_brick, name}));
  if (!set) return set;
  if (renameat2(from_dir, from_name.c_str(), to.fd(), name.c_str(), RENAME_EXCHANGE) != 0) return fail_errno();
  if (unlinkat(from_dir, from_name.c_str(), 0) != 0) return fail_errno();
  return {};
}

Result<void> give_name_to_stub(Store& store, const Directory& dir, const std::string& name, const Id& copy,
                               const Id& home_brick) {
  const std::string built = copy.hex();
  unlinkat(store.tmp(), built.c_str(), 0);  // of an attempt that was cut
  unique_fd fd(openat(store.tmp(), built.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0));
  if (!fd) return fail_errno();
  if (fchmod(fd.get(), kStubMode) != 0) return fail_errno();
  wire::Link link{};
  link.state = wire::LinkState::kCommitted;
  link.type = wire::ObjectType::kDirectory;
  link.brick = home_brick;
  link.object = copy;
  if (auto set = set_xattr(fd.get(), kXattrLink, encode_link(link)); !set) return set;
  if (renameat2(store.tmp(), built.c_str(), dir.fd(), name.c_str(), RENAME_EXCHANGE) != 0) return fail_errno();
  return {};
}

}  // namespace voldfs::store
