#include <string_view>

#include "fuse/operations.h"

// Extended attributes, POSIX ACLs among them.
namespace voldfs::fuse {
namespace {

constexpr uint32_t kClearSetgid = 0x100;  // wire::XattrBody::flags

// A value, or its size when the caller asks with no room.
Result<void> reply_value(Request& request, const Result<std::vector<std::byte>>& value, size_t room) {
  if (!value) return fail(value.error());
  if (room == 0) return request.reply_xattr_size(value->size());
  if (value->size() > room) return fail(ERANGE);
  return request.reply_data(*value);
}

}  // namespace

Result<void> setxattr(Request& request, fuse_ino_t ino, const char* name, const char* value, size_t size, int flags) {
  auto wire_flags = static_cast<uint32_t>(flags);
  // libfuse does not pass on whether the kernel wants the setgid bit cleared along with an ACL.
  const auto* const raw = static_cast<const protocol::SetxattrIn*>(request.raw_argument());
  if (raw->setxattr_flags & protocol::kSetxattrAclKillSgid) wire_flags |= kClearSetgid;
  const auto done = request.volume().setxattr(request.node_to_change(ino), name, std::as_bytes(std::span(value, size)), wire_flags, request.caller());
  if (!done) return done;
  return request.reply_ok();
}

Result<void> getxattr(Request& request, fuse_ino_t ino, const char* name, size_t size) {
  if (ino == FUSE_ROOT_ID && std::string_view(name) == kStatusXattr) {
    const std::string status = status_document(request.mount());
    const auto bytes = std::as_bytes(std::span(status));
    return reply_value(request, std::vector<std::byte>(bytes.begin(), bytes.end()), size);
  }
  return reply_value(request, request.volume().getxattr(request.node(ino), name, request.caller()), size);
}

Result<void> listxattr(Request& request, fuse_ino_t ino, size_t size) {
  return reply_value(request, request.volume().listxattr(request.node(ino), request.caller()), size);
}

Result<void> removexattr(Request& request, fuse_ino_t ino, const char* name) {
  if (const auto done = request.volume().removexattr(request.node_to_change(ino), name, request.caller()); !done) return done;
  return request.reply_ok();
}

}  // namespace voldfs::fuse
