#include <algorithm>
#include <cstring>

#include "dht/durable_names.h"
#include "dht/file_call.h"

// The content of open files. Requests of up to wire::kDataMax bytes each, one after the other.
namespace voldfs::dht {

Result<size_t> Volume::read(const OpenFilePtr& file, uint64_t offset, std::span<std::byte> into, const Caller& caller) {
  size_t done = 0;
  while (done < into.size()) {
    const auto piece = into.subspan(done, std::min<size_t>(into.size() - done, wire::kDataMax));
    const auto reply = call_file(
        *impl_, file, false,
        [&](const wire::ObjectRef& object, uint32_t open) {
          return wire::Request(wire::Op::kRead, wire::IoBody{object, open, 0, offset + done, static_cast<uint32_t>(piece.size()), 0});
        },
        caller, piece);
    if (!reply) return done > 0 ? Result<size_t>(done) : fail(reply.error());
    const size_t got = reply->data.size();
    if (got > piece.size()) return fail(EPROTO);
    if (got > 0 && reply->data.data() != piece.data()) std::memcpy(piece.data(), reply->data.data(), got);
    done += got;
    if (got < piece.size()) break;  // the end of the file
  }
  return done;
}

// A piece that fails after others were written is told by the number of those, as write(2) does; the caller
// meets the error when it goes on.
Result<wire::WriteReply> Volume::write(const OpenFilePtr& file, uint64_t offset, std::span<const std::byte> data,
                                       uint32_t io_flags, const Caller& caller) {
  if (file->sync_failed()) return fail(EIO);
  wire::WriteReply all{};
  all.offset = offset;
  do {
    const auto piece = data.subspan(all.size, std::min<size_t>(data.size() - all.size, wire::kDataMax));
    const auto reply = call_file(
        *impl_, file, true,
        [&](const wire::ObjectRef& object, uint32_t open) {
          return wire::Request(wire::Op::kWrite,
                               wire::IoBody{object, open, io_flags, offset + all.size, static_cast<uint32_t>(piece.size()), 0},
                               {}, {}, piece);
        },
        caller);
    const auto written = reply ? reply->body<wire::WriteReply>() : fail(reply.error());
    if (!written) return all.size > 0 ? Result<wire::WriteReply>(all) : fail(written.error());
    if (written->size > piece.size()) return fail(EPROTO);
    if (all.size == 0) all.offset = written->offset;
    all.size += written->size;
    all.attr = written->attr;
    if (written->size < piece.size()) break;
  } while (all.size < data.size());
  return all;
}

Result<void> Volume::fsync(const OpenFilePtr& file, bool data_only, const Caller& caller) {
  constexpr uint32_t kDataOnly = 1;
  if (file->sync_failed()) return fail(EIO);
  const uint64_t begun = file->durability().begin_sync();
  const auto reply = call_file(
      *impl_, file, false,
      [&](const wire::ObjectRef& object, uint32_t open) {
        return wire::Request(wire::Op::kFsync, wire::IoBody{object, open, data_only ? kDataOnly : 0, 0, 0, 0});
      },
      caller);
  if (reply) file->durability().end_sync(begun, reply->header.verifier);
  const auto safe = file->take_loss();
  if (!reply) {
    if (reply.error().code != EINTR) file->set_sync_failed();
    return fail(reply.error());
  }
  if (!safe) return safe;
  return make_name_durable(*impl_, file->node(), caller);
}

// Names are durable where they are: on every brick of the set.
Result<void> Volume::fsync_directory(const NodePtr& dir, const Caller& caller) {
  if (dir->removed()) return {};
  wire::IoBody body{};
  body.object.id = dir->id();
  const auto answers = impl_->ask(impl_->set_of(dir), [&](uint16_t) { return wire::Request(wire::Op::kFsync, body); }, caller);
  for (const Answer& answer : answers) {
    // In the set, but not made there yet: nothing to make durable.
    if (!answer.status && answer.status.error().code != wire::kDirAbsent) return answer.status;
  }
  return make_name_durable(*impl_, dir, caller);
}

Result<Entry> Volume::fallocate(const OpenFilePtr& file, uint32_t mode, uint64_t offset, uint64_t length, const Caller& caller) {
  const auto reply = call_file(
      *impl_, file, true,
      [&](const wire::ObjectRef& object, uint32_t open) {
        return wire::Request(wire::Op::kFallocate, wire::FallocateBody{object, open, mode, offset, length});
      },
      caller);
  return entry_of_node(*impl_, file->node(), reply, file->brick());
}

Result<uint64_t> Volume::lseek(const OpenFilePtr& file, uint64_t offset, uint32_t whence, const Caller& caller) {
  const auto reply = call_file(
      *impl_, file, false,
      [&](const wire::ObjectRef& object, uint32_t open) {
        return wire::Request(wire::Op::kLseek, wire::LseekBody{object, open, whence, offset});
      },
      caller);
  if (!reply) return fail(reply.error());
  const auto found = reply->body<wire::OffsetReply>();
  if (!found) return fail(found.error());
  return found->offset;
}

// EXDEV: the files are on different bricks; the kernel then copies by reading and writing.
Result<wire::WriteReply> Volume::copy_range(const OpenFilePtr& from, uint64_t offset_from, const OpenFilePtr& to,
                                            uint64_t offset_to, uint64_t size, const Caller& caller) {
  if (from->brick() != to->brick()) return fail(EXDEV);
  const auto copy = [&](const wire::ObjectRef& object, uint32_t open) {
    wire::CopyRangeBody body{};
    body.from = impl_->object_ref(from->node()), body.open_from = from->number(), body.offset_from = offset_from;
    body.to = object, body.open_to = open, body.offset_to = offset_to;
    body.size = size;
    return wire::Request(wire::Op::kCopyRange, body);
  };
  const auto reply = call_file(*impl_, to, true, copy, caller);
  if (!reply) return fail(reply.error());
  return reply->body<wire::WriteReply>();
}

}  // namespace voldfs::dht
