#include <fcntl.h>

#include "dht/open_file.h"
#include "fuse/operations.h"

// Opening, creating, closing; and whether the kernel may go on with the pages that it has.
namespace voldfs::fuse {
namespace {

// True when the file is what it was when it was opened last, and nobody has written to it through this mount
// since then. From here on, AUTO_INVAL_DATA watches.
bool pages_are_current(const dht::Grants& grants, const dht::OpenFile& file) {
  const auto now = dht::DataStamp::of(file.attr_at_open(), file.grant_at_open());
  const auto before = file.node()->exchange_data_stamp(now);
  if (!before.is_as(now)) return false;
  return before.settled || dht::Grants::Delivery(grants).seconds(file.node()->id(), {&before.grant, 1}) > 0;
}

// Also when it was written through this mount, by way of those pages. Then they must stay: the kernel unlocks a page that it has written to before
// the brick has it (fs/fuse/file.c, fuse_fill_write_pages), and if it is dropped then, who reads it next gets the old one, which stays.
bool pages_hold_what_is_written(const dht::Grants& grants, const dht::Node& node) {
  const dht::KernelPages* const pages = node.kernel_pages();
  return pages && pages->are_current(dht::Grants::Delivery(grants), node.id());
}

// Whether the kernel's page cache is left out. It must be for appends: the kernel puts an append's data into its
// pages where it believes the file to end, and another client may have appended meanwhile. It is for O_DIRECT, whose writes
// exclude each other otherwise (fs/fuse/file.c, fuse_cache_write_iter).
bool is_direct(const Mount& mount, int flags) {
  if (mount.behaviour.direct_io == DirectIo::kOn || (flags & O_DIRECT)) return true;
  return (flags & O_APPEND) && (flags & O_ACCMODE) != O_RDONLY;
}

// How the kernel is to serve the open.
void describe(const Mount& mount, const std::unique_ptr<FileHandle>& handle, fuse_file_info& info) {
  const dht::OpenFilePtr& file = handle->file;
  const auto mode = handle->backing.mode();
  info.backing_id = handle->backing.backing_id();
  handle->direct = mode == BackingFiles::Mode::kBesideIt || (mode == BackingFiles::Mode::kDaemon && is_direct(mount, info.flags));
  info.direct_io = handle->direct;
  info.parallel_direct_writes = handle->direct;
  const bool writes = (info.flags & O_ACCMODE) != O_RDONLY;
  if (mode == BackingFiles::Mode::kDaemon) file->node()->make_kernel_pages();
  else if (dht::KernelPages* const pages = file->node()->kernel_pages(); pages && writes) pages->forget();
  const bool current = mode == BackingFiles::Mode::kDaemon && (pages_are_current(mount.volume->grants(), *file) ||
                                                               pages_hold_what_is_written(mount.volume->grants(), *file->node()));
  // With a backing file the kernel takes no FOPEN_KEEP_CACHE (fs/fuse/iomode.c).
  info.keep_cache = mode == BackingFiles::Mode::kDaemon && !(info.flags & O_TRUNC) && current;
  // What the kernel writes itself nobody tells us of.
  if (mode == BackingFiles::Mode::kPassthrough && writes) static_cast<void>(file->node()->exchange_data_stamp({}));
}

std::unique_ptr<FileHandle> fill_handle(const Mount& mount, const dht::OpenFilePtr& file, fuse_file_info& info) {
  auto handle = std::make_unique<FileHandle>();
  handle->file = file;
  if (mount.backings) handle->backing = mount.backings->open(file->node(), file->take_descriptor());
  describe(mount, handle, info);
  return handle;
}

dht::Caller creator(const Request& request) {
  dht::Caller caller = request.caller();
  caller.takes_descriptor = request.mount().backings && request.mount().backings->is_on();
  return caller;
}

Result<void> reply_created(Request& request, const Result<dht::Created>& created, fuse_file_info& info) {
  if (!created) return fail(created.error());
  if (created->entry.pinned) request.mount().fresh_creates.note(request.caller().pid, created->entry);
  auto handle = fill_handle(request.mount(), created->file, info);
  if (dht::KernelPages* const pages = created->entry.node->kernel_pages(); pages && !created->entry.attr_grants.empty())
    pages->begin(created->entry.attr_grants.front());
  return request.reply_create(created->entry, info, std::move(handle));
}

}  // namespace

Result<void> open(Request& request, fuse_ino_t ino, fuse_file_info* info) {
  const dht::NodePtr node = request.node(ino);
  dht::Caller caller = request.caller();
  if (auto kept = request.mount().kept_opens->take(*node, static_cast<uint32_t>(info->flags), caller)) {
    describe(request.mount(), kept, *info);
    return request.reply_open(*info, std::move(kept));
  }
  caller.takes_descriptor = request.mount().backings && request.mount().backings->wants(*node);
  const auto file = request.volume().open(node, static_cast<uint32_t>(info->flags), caller);
  if (!file) return fail(file.error());
  return request.reply_open(*info, fill_handle(request.mount(), *file, *info));
}

Result<void> create(Request& request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  const auto flags = static_cast<uint32_t>(info->flags);
  return reply_created(request, request.volume().create(request.node_to_change(parent), name, mode, flags, creator(request)), *info);
}

Result<void> tmpfile(Request& request, fuse_ino_t parent, mode_t mode, fuse_file_info* info) {
  const auto flags = static_cast<uint32_t>(info->flags);
  return reply_created(request, request.volume().tmpfile(request.node(parent), mode, flags, creator(request)), *info);
}

// A close(2), of one of perhaps several descriptors: POSIX locks of the process go, and what is known of lost
// writes is told.
Result<void> flush(Request& request, fuse_ino_t, fuse_file_info* info) {
  const dht::OpenFilePtr file = open_file(info);
  file->node()->note_close();
  request.volume().drop_locks(file, wire::LockKind::kPosix, info->lock_owner, request.caller());
  if (const auto safe = request.volume().flush(file); !safe) return safe;
  return request.reply_ok();
}

// The last descriptor has gone.
Result<void> release(Request& request, fuse_ino_t, fuse_file_info* info) {
  std::unique_ptr<FileHandle> handle(file_handle(info));
  dht::Caller caller = request.caller();
  caller.interrupted = nullptr;
  // What was locked through this open, and not by `lock_owner`: that is the address of the kernel's open file, which a later one may
  // have by now.
  request.volume().drop_locks_of_open(handle->file, caller);
  if (!request.mount().kept_opens->keep(handle, caller)) request.release(*handle, caller);
  return request.reply_ok();
}

}  // namespace voldfs::fuse
