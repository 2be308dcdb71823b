#include <algorithm>
#include <vector>

#include "fuse/limits.h"
#include "fuse/operations.h"
#include "fuse/workers.h"

// Directories being read. The kernel gives one descriptor's reads one after the other (fs/file.c,
// file_needs_f_pos_lock), so that a stream needs no lock of ours.
namespace voldfs::fuse {
namespace {

// A page of entries as the kernel wants it, in the worker's buffer.
class Page {
 public:
  Page(Request& request, DirectoryHandle& handle, size_t size)
      : request_(request), handle_(handle), room_(WorkerBuffers::current().payload().first(std::min(size, kPayloadMax))) {}

  // False: it is full, the entry is not in it.
  bool add(const dht::ListedEntry& listed) {
    struct stat attributes{};
    attributes.st_ino = listed.inode;
    attributes.st_mode = static_cast<mode_t>(listed.type) << 12;  // DT_* to S_IF*
    return took(fuse_add_direntry(request_.handle(), next(), left(), listed.name.c_str(), &attributes,
                                  static_cast<off_t>(listed.cookie)));
  }

  // The same with attributes, as if it had been looked up: the kernel counts a lookup of it.
  bool add_plus(const dht::ListedEntry& listed) {
    fuse_entry_param param{};  // ino 0: no lookup, a name alone
    param.attr.st_ino = listed.inode;
    param.attr.st_mode = static_cast<mode_t>(listed.type) << 12;
    const bool is_dot = listed.name == "." || listed.name == "..";
    const bool whole = listed.has_attr && listed.entry.node && !is_dot;
    if (whole) param = request_.entry_param(listed.entry);
    const size_t offset = used_;
    if (!took(fuse_add_direntry_plus(request_.handle(), next(), left(), listed.name.c_str(), &param,
                                     static_cast<off_t>(listed.cookie))))
      return false;
    if (whole) {
      request_.volume().nodes().count(listed.entry.node, 1);
      looked_.push_back({offset, listed.entry});
    }
    return true;
  }

  uint32_t size() const { return static_cast<uint32_t>(room_.size()); }

  // Where reading ended early, what was read before it is given first, the error comes with the next page.
  Result<void> reply(const Result<void>& read) {
    if (!read && used_ == 0) return read;
    return request_.reply_directory(handle_, room_.first(used_), looked_);
  }

 private:
  char* next() { return reinterpret_cast<char*>(room_.data()) + used_; }
  size_t left() const { return room_.size() - used_; }
  bool took(size_t needed) {
    if (needed > left()) return false;
    used_ += needed;
    return true;
  }

  Request& request_;
  DirectoryHandle& handle_;
  std::span<std::byte> room_;
  size_t used_ = 0;
  std::vector<Request::Looked> looked_;
};

}  // namespace

Result<void> opendir(Request& request, fuse_ino_t ino, fuse_file_info* info) {
  auto handle = std::make_unique<DirectoryHandle>();
  handle->node = request.node(ino);
  auto stream = request.volume().open_directory(handle->node, request.caller());
  if (!stream) return fail(stream.error());
  handle->stream = std::move(*stream);
  info->cache_readdir = 1;
  info->keep_cache = request.volume().is_listing_current(handle->node);
  return request.reply_open(*info, std::move(handle));
}

Result<void> readdir(Request& request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  DirectoryHandle& handle = *directory_handle(info);
  handle.last_page.end();
  Page page(request, handle, size);
  return page.reply(request.volume().read_directory(*handle.stream, static_cast<uint64_t>(offset), 0, request.caller(),
                                                    [&page](const dht::ListedEntry& listed) { return page.add(listed); }));
}

Result<void> readdirplus(Request& request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  DirectoryHandle& handle = *directory_handle(info);
  handle.last_page.end();
  Page page(request, handle, size);
  return page.reply(
      request.volume().read_directory(*handle.stream, static_cast<uint64_t>(offset), page.size(), request.caller(),
                                      [&page](const dht::ListedEntry& listed) { return page.add_plus(listed); }));
}

Result<void> releasedir(Request& request, fuse_ino_t, fuse_file_info* info) {
  const std::unique_ptr<DirectoryHandle> handle(directory_handle(info));
  return request.reply_ok();
}

Result<void> fsyncdir(Request& request, fuse_ino_t ino, int, fuse_file_info*) {
  if (const auto done = request.volume().fsync_directory(request.node(ino), request.caller()); !done) return done;
  return request.reply_ok();
}

}  // namespace voldfs::fuse
