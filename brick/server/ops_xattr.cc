#include "brick/server/ops_xattr.h"

#include <fcntl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "brick/store/object.h"
#include "brick/store/object_attr.h"
#include "brick/store/store.h"

namespace voldfs::server {

namespace {

constexpr uint32_t kClearSetgid = 0x100;  // FUSE_SETXATTR_ACL_KILL_SGID

Result<store::Object> find(Call& call, const wire::XattrBody& body) {
  return store::find_object(call.store, call.session_id, body.object, body.open, O_RDONLY);
}

Result<std::string> xattr_name(const Call& call) {
  const std::string_view name = call.request.name;
  if (name.empty() || name.find('\0') != std::string_view::npos) return fail(EINVAL);
  if (name.size() > XATTR_NAME_MAX) return fail(ERANGE);
  return std::string(name);
}

// What the brick's next life has to know to tell whether the attribute was added, or taken away.
std::function<void()> note_xattr(Call& call, const wire::XattrBody& body) {
  return [&call, body] {
    Intent intent;
    intent.op = call.request.header.op;
    intent.flags = body.flags;
    intent.object = body.object.id;
    intent.offset = body.change;
    const std::string_view name = call.request.name;
    intent.name_size = static_cast<uint16_t>(name.size());
    std::memcpy(intent.name, name.data(), name.size());
    std::memcpy(intent.name2, &body.object.handle, sizeof body.object.handle);
    intent.name2_size = sizeof body.object.handle;
    call.note.write(intent);
  };
}

Result<void> answer_entry(Call& call, const store::Object& object) {
  auto entry = store::entry_of(call.store, object);
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);
  return {};
}

}  // namespace

Result<void> op_getxattr(Call& call) {
  auto body = call.request.as<wire::XattrBody>();
  if (!body) return fail(body.error());
  auto name = xattr_name(call);
  if (!name) return fail(name.error());
  auto object = find(call, *body);
  if (!object) return fail(object.error());
  const size_t room = std::min<size_t>(body->size_max, call.reply.data_room.size());
  auto size = store::get_user_xattr(*object, *name, call.reply.data_room.first(room));
  if (!size) return fail(size.error());
  if (body->size_max == 0) {
    call.reply.set_body(wire::OffsetReply{*size});
  } else {
    call.reply.header.data_size = static_cast<uint32_t>(*size);
  }
  return {};
}

Result<void> op_setxattr(Call& call) {
  auto body = call.request.as<wire::XattrBody>();
  if (!body) return fail(body.error());
  auto name = xattr_name(call);
  if (!name) return fail(name.error());
  if (body->flags & ~(XATTR_CREATE | XATTR_REPLACE | kClearSetgid)) return fail(EINVAL);
  auto object = find(call, *body);
  if (!object) return fail(object.error());
  const store::XattrChange change{body->change, static_cast<int>(body->flags & (XATTR_CREATE | XATTR_REPLACE)),
                                  (body->flags & kClearSetgid) != 0};
  if (auto done = store::set_user_xattr(call.store, *object, *name, call.request.data, change, note_xattr(call, *body)); !done) return done;
  return answer_entry(call, *object);
}

Result<void> op_listxattr(Call& call) {
  auto body = call.request.as<wire::XattrBody>();
  if (!body) return fail(body.error());
  auto object = find(call, *body);
  if (!object) return fail(object.error());
  const bool trusted = call.request.header.uid == 0;
  auto names = store::list_user_xattrs(*object, trusted);
  if (!names) return fail(names.error());
  if (body->size_max == 0) {
    call.reply.set_body(wire::OffsetReply{names->size()});
    return {};
  }
  if (names->size() > body->size_max) return fail(ERANGE);
  const auto bytes = std::as_bytes(std::span(*names));
  call.reply.data.assign(bytes.begin(), bytes.end());
  return {};
}

Result<void> op_removexattr(Call& call) {
  auto body = call.request.as<wire::XattrBody>();
  if (!body) return fail(body.error());
  auto name = xattr_name(call);
  if (!name) return fail(name.error());
  auto object = find(call, *body);
  if (!object) return fail(object.error());
  if (auto done = store::remove_user_xattr(call.store, *object, *name, body->change, note_xattr(call, *body)); !done) return done;
  return answer_entry(call, *object);
}

}  // namespace voldfs::server
