#include "fuse/reply.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include "fuse/rate_limit.h"
#include "fuse/request.h"

namespace voldfs::fuse {

int to_errno(Error error) {
  if (error.is_errno() && error.code > 0) return error.code;
  static RateLimit limit(1'000'000);
  if (uint64_t skipped = 0; limit.allow(&skipped))
    spdlog::warn("fuse.reply unresolved brick status={} answered=EIO skipped={}", error.code, skipped);
  return EIO;
}

namespace {

// The kernel gave the request up before it had the reply: what the reply handed over is not its own.
Result<void> sent(int result) {
  if (result == 0) return {};
  return fail(-result);
}

}  // namespace

Result<void> Request::reply_ok() { return sent(fuse_reply_err(finish(), 0)); }

Result<void> Request::reply_error(Error error) { return sent(fuse_reply_err(finish(), to_errno(error))); }

Result<void> Request::reply_none() {
  fuse_reply_none(finish());
  return {};
}

Result<void> Request::reply_entry(const dht::Entry& entry) {
  const fuse_entry_param param = entry_param(entry);
  // Before the reply: the kernel may forget the node as soon as it has it.
  volume().nodes().count(entry.node, 1);
  const auto result = sent(fuse_reply_entry(finish(), &param));
  if (!result) volume().nodes().forget(entry.node.get(), 1);
  return result;
}

Result<void> Request::reply_negative() {
  fuse_entry_param param{};
  param.entry_timeout = mount_.behaviour.negative_timeout_s;
  return sent(fuse_reply_entry(finish(), &param));
}

Result<void> Request::reply_attr(const dht::Entry& entry) {
  const struct stat attributes = to_stat(entry.node->id(), entry.attr);
  return sent(fuse_reply_attr(finish(), &attributes, valid_s(entry.grant_ms, mount_.behaviour.attribute_timeout_s)));
}

Result<void> Request::reply_open(const fuse_file_info& info, std::unique_ptr<FileHandle> handle) {
  const dht::Caller who = caller();
  fuse_file_info out = info;
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  const auto result = sent(fuse_reply_open(finish(), &out));
  if (result)
    static_cast<void>(handle.release());  // the kernel's, until its RELEASE
  else
    volume().release(handle->file, who);
  return result;
}

Result<void> Request::reply_open(const fuse_file_info& info, std::unique_ptr<DirectoryHandle> handle) {
  fuse_file_info out = info;
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  const auto result = sent(fuse_reply_open(finish(), &out));
  if (result) static_cast<void>(handle.release());
  return result;
}

Result<void> Request::reply_create(const dht::Entry& entry, const fuse_file_info& info, std::unique_ptr<FileHandle> handle) {
  const dht::Caller who = caller();
  const fuse_entry_param param = entry_param(entry);
  fuse_file_info out = info;
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  volume().nodes().count(entry.node, 1);
  const auto result = sent(fuse_reply_create(finish(), &param, &out));
  if (result) {
    static_cast<void>(handle.release());
  } else {
    volume().release(handle->file, who);
    volume().nodes().forget(entry.node.get(), 1);
  }
  return result;
}

Result<void> Request::reply_readlink(const std::string& target) {
  return sent(fuse_reply_readlink(finish(), target.c_str()));
}

Result<void> Request::reply_data(std::span<const std::byte> data) {
  return sent(fuse_reply_buf(finish(), reinterpret_cast<const char*>(data.data()), data.size()));
}

Result<void> Request::reply_directory(std::span<const std::byte> page, std::span<const dht::NodePtr> counted) {
  const auto result = reply_data(page);
  if (!result)
    for (const dht::NodePtr& node : counted) volume().nodes().forget(node.get(), 1);
  return result;
}

Result<void> Request::reply_written(size_t size) { return sent(fuse_reply_write(finish(), size)); }

Result<void> Request::reply_offset(uint64_t offset) {
  return sent(fuse_reply_lseek(finish(), static_cast<off_t>(offset)));
}

Result<void> Request::reply_xattr_size(size_t size) { return sent(fuse_reply_xattr(finish(), size)); }

Result<void> Request::reply_statfs(const wire::StatfsReply& statfs) {
  struct statvfs out{};
  out.f_bsize = out.f_frsize = statfs.block_size;
  out.f_blocks = statfs.blocks;
  out.f_bfree = statfs.blocks_free;
  out.f_bavail = statfs.blocks_available;
  out.f_files = statfs.files;
  out.f_ffree = out.f_favail = statfs.files_free;
  out.f_namemax = statfs.name_max;
  return sent(fuse_reply_statfs(finish(), &out));
}

Result<void> Request::reply_lock(const struct flock& lock) { return sent(fuse_reply_lock(finish(), &lock)); }

Result<void> Request::reply_ioctl(const void* data, size_t size) {
  return sent(fuse_reply_ioctl(finish(), 0, data, size));
}

}  // namespace voldfs::fuse
