#include "brick/server/ops_object.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "brick/server/hand_out.h"
#include "brick/store/object.h"
#include "brick/store/object_attr.h"
#include "brick/store/xattr.h"
#include "brick/store/object_open.h"
#include "brick/store/store.h"

namespace voldfs::server {

namespace {

Result<void> answer_entry(Call& call, const store::Object& object) {
  auto entry = store::entry_of(call.store, object);
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);
  return {};
}

Result<store::Object> find(Call& call, const wire::ObjectRef& ref, uint32_t open) {
  return store::find_object(call.store, call.session_id, ref, open, O_RDONLY);
}

// An entry with mode 0 for what is not here; other errors too, for the client asks for each such one alone then.
wire::EntryBody entry_or_absent(Call& call, const wire::ObjectRef& ref) {
  auto object = find(call, ref, 0);
  if (object) {
    if (auto entry = store::entry_of(call.store, *object)) return *entry;
  }
  wire::EntryBody absent{};
  absent.object = ref;
  return absent;
}

// The same for all bricks on one file system: its UUID, or what stands for it.
Id file_system_id(const std::string& file_system) {
  if (auto uuid = Id::parse(file_system)) return *uuid;
  const XXH128_hash_t hash = XXH3_128bits(file_system.data(), file_system.size());
  return Id::from_bytes(&hash);
}

}  // namespace

Result<void> op_getattr(Call& call) {
  auto body = call.request.as<wire::ObjectBody>();
  if (!body) return fail(body.error());
  auto object = find(call, body->object, body->open);
  if (!object) return fail(object.error());
  auto entry = store::entry_of(call.store, *object);
  auto kinds = store::xattr_kinds(object->fd());
  if (!entry || !kinds) return fail(entry ? kinds.error() : entry.error());
  store::note_xattrs(*kinds, entry->attr);
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_getattr_many(Call& call) {
  const std::span<const std::byte> refs = call.request.data;
  const size_t count = refs.size() / sizeof(wire::ObjectRef);
  if (refs.size() % sizeof(wire::ObjectRef) != 0) return fail(EPROTO);
  if (count * sizeof(wire::EntryBody) > call.reply.data_room.size()) return fail(E2BIG);
  for (size_t i = 0; i < count; ++i) {
    wire::ObjectRef ref;
    std::memcpy(&ref, refs.data() + i * sizeof ref, sizeof ref);
    const wire::EntryBody entry = entry_or_absent(call, ref);
    std::memcpy(call.reply.data_room.data() + i * sizeof entry, &entry, sizeof entry);
  }
  call.reply.header.data_size = static_cast<uint32_t>(count * sizeof(wire::EntryBody));
  return {};
}

Result<void> op_setattr(Call& call) {
  auto body = call.request.as<wire::SetattrBody>();
  if (!body) return fail(body.error());
  auto object = find(call, body->object, body->open);
  if (!object) return fail(object.error());
  const auto caller = store::Credentials::of(call.request.header);
  if (auto done = store::set_attr(call.store, *object, *body, caller); !done) return done;
  return answer_entry(call, *object);
}

Result<void> op_readlink(Call& call) {
  auto body = call.request.as<wire::ObjectBody>();
  if (!body) return fail(body.error());
  auto object = find(call, body->object, body->open);
  if (!object) return fail(object.error());
  auto target = store::read_link(*object);
  if (!target) return fail(target.error());
  const auto bytes = std::as_bytes(std::span(*target));
  call.reply.data.assign(bytes.begin(), bytes.end());
  return {};
}

Result<void> op_open(Call& call) {
  auto body = call.request.as<wire::OpenBody>();
  if (!body) return fail(body.error());
  const bool reclaim = (call.request.header.flags & wire::kFlagReclaim) != 0;
  if (reclaim != (body->open != 0)) return fail(EINVAL);
  auto opened = store::open_file(call.store, call.session_id, body->object, body->flags, body->open,
                                 store::Credentials::of(call.request.header));
  if (!opened) return fail(opened.error());
  auto entry = store::entry_of(call.store, opened->object);
  if (!entry) {
    // Nobody would ever close it; what the close says changes nothing about the error to tell.
    (void)call.store.open_files().close(call.session_id, opened->number);
    return fail(entry.error());
  }
  entry->open = opened->number;
  call.reply.set_body(*entry);
  return {};
}

namespace {

Result<void> release(Call& call, uint32_t open) {
  auto closed = call.store.open_files().close(call.session_id, open);
  if (!closed) return fail(closed.error());
  if (call.server != nullptr) take_back(*call.server, std::move(*closed), true);
  return {};
}

}  // namespace

Result<void> release_all(Call& call, std::span<const std::byte> numbers) {
  uint32_t open;
  if (numbers.size() % sizeof open != 0) return fail(EPROTO);
  Result<void> closed;
  for (size_t at = 0; at < numbers.size(); at += sizeof open) {
    std::memcpy(&open, numbers.data() + at, sizeof open);
    const auto one = release(call, open);
    if (closed) closed = one;
  }
  return closed;
}

Result<void> op_release(Call& call) {
  auto body = call.request.as<wire::OpenRef>();
  if (!body) return fail(body.error());
  const auto first = release(call, body->open);
  const auto others = release_all(call, call.request.data);
  if (call.request.header.flags & wire::kFlagResend) return {};  // the first one did it
  return first ? others : first;
}

Result<void> op_flags_get(Call& call) {
  auto body = call.request.as<wire::ObjectBody>();
  if (!body) return fail(body.error());
  auto object = find(call, body->object, body->open);
  if (!object) return fail(object.error());
  auto flags = store::get_flags(*object);
  if (!flags) return fail(flags.error());
  call.reply.set_body(wire::OffsetReply{*flags});
  return {};
}

Result<void> op_flags_set(Call& call) {
  auto body = call.request.as<wire::SetattrBody>();
  if (!body) return fail(body.error());
  auto object = find(call, body->object, body->open);
  if (!object) return fail(object.error());
  if (auto done = store::set_flags(call.store, *object, body->attr_flags, body->change); !done) return done;
  return answer_entry(call, *object);
}

Result<void> op_statfs(Call& call) {
  struct statvfs found;
  if (::fstatvfs(call.store.root(), &found) < 0) return fail_errno();
  wire::StatfsReply reply{};
  reply.file_system = file_system_id(call.store.identity().file_system);
  reply.blocks = found.f_blocks, reply.blocks_free = found.f_bfree, reply.blocks_available = found.f_bavail;
  reply.files = found.f_files, reply.files_free = found.f_ffree;
  reply.block_size = static_cast<uint32_t>(found.f_frsize);
  reply.name_max = wire::kNameMax;
  reply.reserve_blocks = found.f_blocks / 100 * call.store.min_free_percent();
  call.reply.set_body(reply);
  return {};
}

}  // namespace voldfs::server
