#include "brick/server/ops_io.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "brick/store/handle.h"
#include "brick/store/object.h"
#include "brick/store/object_io.h"
#include "brick/store/store.h"

namespace voldfs::server {

namespace {

// IoBody::flags.
constexpr uint32_t kAppend = 1, kDataSync = 2, kSync = 4, kKillPrivileges = 8;
constexpr uint32_t kFsyncDataOnly = 1;

Result<store::Object> find_file(Call& call, const wire::ObjectRef& ref, uint32_t open, int flags) {
  return store::find_file(call.store, call.session_id, ref, open, flags);
}

store::WriteHow write_how(const wire::IoBody& body, const store::Object& file) {
  store::WriteHow how;
  how.append = (body.flags & kAppend) != 0;
  how.data_sync = (body.flags & kDataSync) != 0;
  how.sync = (body.flags & kSync) != 0;
  if (const auto& open = file.open()) {
    how.sync |= (open->flags & O_SYNC) == O_SYNC;
    how.data_sync |= (open->flags & O_DSYNC) != 0;
  }
  return how;
}

void answer_written(Call& call, const store::Written& written) {
  wire::WriteReply reply{};
  reply.offset = written.offset, reply.size = written.size, reply.attr = written.attr;
  call.reply.set_body(reply);
}

}  // namespace

Result<void> op_read(Call& call) {
  auto body = call.request.as<wire::IoBody>();
  if (!body) return fail(body.error());
  if (body->size > call.reply.data_room.size()) return fail(EINVAL);
  auto file = find_file(call, body->object, body->open, O_RDONLY);
  if (!file) return fail(file.error());
  auto size = store::read_file(*file, call.reply.data_room.first(body->size), body->offset);
  if (!size) return fail(size.error());
  call.reply.header.data_size = static_cast<uint32_t>(*size);
  return {};
}

Result<void> op_write(Call& call) {
  auto body = call.request.as<wire::IoBody>();
  if (!body) return fail(body.error());
  if (body->size != call.request.data.size()) return fail(EPROTO);
  auto file = find_file(call, body->object, body->open, O_RDWR);
  if (!file) return fail(file.error());
  const store::WriteHow how = write_how(*body, *file);
  auto caller = store::Credentials::of(call.request.header);
  caller.plain = (body->flags & kKillPrivileges) != 0;
  auto written = store::write_file(call.store, *file, call.request.data, body->offset, how, caller, [&](uint64_t at) {
    if (!how.append) return;  // at a given place a second run does no harm
    Intent intent;
    intent.op = static_cast<uint16_t>(wire::Op::kWrite);
    intent.flags = body->flags;
    intent.object = file->id();
    intent.offset = at;
    intent.size = body->size;
    // How the next life finds the file; without it the append cannot be decided there.
    if (auto handle = call.store.handles().make(file->fd(), file->id(), file->type())) {
      std::memcpy(intent.name2, &*handle, sizeof *handle);
      intent.name2_size = sizeof *handle;
    }
    call.note.write(intent);
  });
  if (!written) return fail(written.error());
  answer_written(call, *written);
  return {};
}

Result<void> op_fsync(Call& call) {
  auto body = call.request.as<wire::IoBody>();
  if (!body) return fail(body.error());
  auto object = store::find_object(call.store, call.session_id, body->object, body->open, O_RDONLY);
  if (!object) return fail(object.error());
  return store::sync_object(*object, (body->flags & kFsyncDataOnly) != 0);
}

Result<void> op_fallocate(Call& call) {
  auto body = call.request.as<wire::FallocateBody>();
  if (!body) return fail(body.error());
  auto file = find_file(call, body->object, body->open, O_RDWR);
  if (!file) return fail(file.error());
  const auto caller = store::Credentials::of(call.request.header);
  if (auto done = store::allocate(*file, body->mode, body->offset, body->length, caller); !done) return done;
  auto entry = store::entry_of(call.store, *file);
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_lseek(Call& call) {
  auto body = call.request.as<wire::LseekBody>();
  if (!body) return fail(body.error());
  auto file = find_file(call, body->object, body->open, O_RDONLY);
  if (!file) return fail(file.error());
  auto offset = store::seek_data(*file, body->whence, body->offset);
  if (!offset) return fail(offset.error());
  call.reply.set_body(wire::OffsetReply{*offset});
  return {};
}

Result<void> op_copy_range(Call& call) {
  auto body = call.request.as<wire::CopyRangeBody>();
  if (!body) return fail(body.error());
  if (body->flags != 0) return fail(EINVAL);  // none is defined (copy_file_range(2))
  auto from = find_file(call, body->from, body->open_from, O_RDONLY);
  if (!from) return fail(from.error());
  auto to = find_file(call, body->to, body->open_to, O_RDWR);
  if (!to) return fail(to.error());
  auto written = store::copy_range(call.store, *from, body->offset_from, *to, body->offset_to, body->size,
                                   store::Credentials::of(call.request.header));
  if (!written) return fail(written.error());
  answer_written(call, *written);
  return {};
}

}  // namespace voldfs::server
