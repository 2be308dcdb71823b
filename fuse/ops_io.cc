#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "dht/open_file.h"
#include "fuse/limits.h"
#include "fuse/operations.h"
#include "fuse/workers.h"

// Reading, writing, and what else is done to a file's content.
namespace voldfs::fuse {
namespace {

// Of a WRITE's `flags`, wire::IoBody::flags.
constexpr uint32_t kIoAppend = 1, kIoDataSync = 2, kIoSync = 4, kIoKillPrivileges = 8;
// A longer copy_file_range is cut: the caller goes on behind it, and can be interrupted.
constexpr size_t kCopyMax = 64u << 20;

uint32_t io_flags(const fuse_file_info& info, const protocol::WriteIn& raw) {
  if (info.writepage) return 0;  // a page that a mapping changed: it has its place, and fsync follows by itself
  uint32_t flags = 0;
  if (info.flags & O_APPEND) flags |= kIoAppend;
  if ((info.flags & O_SYNC) == O_SYNC)
    flags |= kIoSync;
  else if (info.flags & O_DSYNC)
    flags |= kIoDataSync;
  if (raw.write_flags & protocol::kWriteKillPrivileges) flags |= kIoKillPrivileges;
  return flags;
}

}  // namespace

Result<void> read(Request& request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  const auto into = WorkerBuffers::current().payload().first(std::min(size, kPayloadMax));
  const auto got = request.volume().read(open_file(info), static_cast<uint64_t>(offset), into, request.caller());
  if (!got) return fail(got.error());
  request.mount().metrics.bytes_read.fetch_add(*got, std::memory_order_relaxed);
  return request.reply_data(into.first(*got));
}

Result<void> write(Request& request, fuse_ino_t ino, const char* data, size_t size, off_t offset, fuse_file_info* info) {
  const FileHandle& handle = *file_handle(info);
  const dht::NodePtr node = request.node(ino);
  const uint32_t flags = io_flags(*info, *static_cast<const protocol::WriteIn*>(request.raw_argument()));
  static_cast<void>(node->exchange_data_stamp({}));
  if (dht::KernelPages* const pages = node->kernel_pages(); pages && handle.direct) pages->forget();
  const auto written = request.volume().write(handle.file, static_cast<uint64_t>(offset),
                                              std::as_bytes(std::span(data, size)), flags, request.caller());
  if (!written) return fail(written.error());
  request.mount().metrics.bytes_written.fetch_add(written->size, std::memory_order_relaxed);
  // An append went elsewhere than the kernel believes: pages that it has there are old, and when the descriptor became
  // O_APPEND only after its open, those at its own place are wrong. They are locked until the reply.
  const bool misplaced = (flags & kIoAppend) && written->offset != static_cast<uint64_t>(offset);
  if (misplaced) request.mount().caches->drop_pages_soon(node, std::min<int64_t>(offset, static_cast<int64_t>(written->offset)));
  return request.reply_written(written->size);
}

// What the kernel has written itself is made durable where it was written, once its name is.
Result<void> fsync(Request& request, fuse_ino_t, int data_only, fuse_file_info* info) {
  FileHandle& handle = *file_handle(info);
  const bool name_is_durable = handle.file->node()->is_name_durable(0);  // files have no counter of changes
  if (handle.backing.mode() == BackingFiles::Mode::kPassthrough && name_is_durable && !handle.file->sync_failed()) {
    const int fd = handle.backing.descriptor();
    if ((data_only ? ::fdatasync(fd) : ::fsync(fd)) == 0) return request.reply_ok();
    const Error error = Error::from_errno();
    handle.file->set_sync_failed();
    return fail(error);
  }
  if (const auto done = request.volume().fsync(open_file(info), data_only != 0, request.caller()); !done) return done;
  return request.reply_ok();
}

// The kernel drops its pages of a range that was punched or zeroed, after the reply and under the inode's lock.
Result<void> fallocate(Request& request, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* info) {
  static_cast<void>(request.node(ino)->exchange_data_stamp({}));
  const auto done = request.volume().fallocate(open_file(info), static_cast<uint32_t>(mode), static_cast<uint64_t>(offset),
                                               static_cast<uint64_t>(length), request.caller());
  if (!done) return fail(done.error());
  return request.reply_ok();
}

Result<void> lseek(Request& request, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  if (const FileHandle& handle = *file_handle(info); handle.backing.mode() == BackingFiles::Mode::kPassthrough) {
    const off_t found = ::lseek(handle.backing.descriptor(), offset, whence);  // moves a position that nobody uses
    if (found < 0) return fail_errno();
    return request.reply_offset(static_cast<uint64_t>(found));
  }
  const auto found = request.volume().lseek(open_file(info), static_cast<uint64_t>(offset), static_cast<uint32_t>(whence), request.caller());
  if (!found) return fail(found.error());
  return request.reply_offset(*found);
}

// Files on different bricks: EXDEV, and the kernel copies through its pages. What it has of the target's range it
// drops after the reply.
Result<void> copy_file_range(Request& request, fuse_ino_t, off_t from_offset, fuse_file_info* from_info, fuse_ino_t to,
                             off_t to_offset, fuse_file_info* to_info, size_t size, int flags) {
  if (flags != 0) return fail(EINVAL);
  static_cast<void>(request.node(to)->exchange_data_stamp({}));
  const auto copied =
      request.volume().copy_range(open_file(from_info), static_cast<uint64_t>(from_offset), open_file(to_info),
                                  static_cast<uint64_t>(to_offset), std::min(size, kCopyMax), request.caller());
  if (!copied) return fail(copied.error());
  return request.reply_written(copied->size);
}

}  // namespace voldfs::fuse
