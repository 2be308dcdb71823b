#include "fuse/reply.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <cstring>

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

void set_validity(fuse_entry_param& param, const Validity& valid) {
  param.entry_timeout = valid.name_s;
  param.attr_timeout = valid.attr_s;
}

// Seconds as the protocol has them.
uint64_t whole(double seconds) { return static_cast<uint64_t>(seconds); }
uint32_t rest(double seconds) { return static_cast<uint32_t>((seconds - static_cast<double>(whole(seconds))) * 1e9); }

}  // namespace

Result<void> Request::reply_ok() { return sent(fuse_reply_err(finish(), 0)); }

Result<void> Request::reply_error(Error error) { return sent(fuse_reply_err(finish(), to_errno(error))); }

Result<void> Request::reply_none() {
  fuse_reply_none(finish());
  return {};
}

Result<void> Request::reply_entry(const dht::Entry& entry) {
  fuse_entry_param param = entry_param(entry);
  // Before the reply: the kernel may forget the node as soon as it has it.
  volume().nodes().count(entry.node, 1);
  Result<void> result;
  {
    const dht::Grants::Delivery delivery(volume().grants());
    set_validity(param, validity(mount_, entry, delivery));
    result = sent(fuse_reply_entry(finish(), &param));
  }
  if (!result) volume().nodes().forget(entry.node.get(), 1);
  return result;
}

Result<void> Request::reply_negative(const dht::NodePtr& dir, const dht::Grant& missing) {
  fuse_entry_param param{};
  const dht::Grants::Delivery delivery(volume().grants());
  const auto& fixed_s = mount_.behaviour.negative_timeout_s;
  param.entry_timeout = fixed_s ? *fixed_s : delivery.seconds(dir->id(), {&missing, 1});
  if (param.entry_timeout == 0) return reply_error(Error(ENOENT));
  return sent(fuse_reply_entry(finish(), &param));
}

Result<void> Request::reply_attr(const dht::Entry& entry) {
  const struct stat attributes = to_stat(entry.node->id(), entry.attr);
  const dht::Grants::Delivery delivery(volume().grants());
  return sent(fuse_reply_attr(finish(), &attributes, validity(mount_, entry, delivery).attr_s));
}

Result<void> Request::reply_open(const fuse_file_info& info, std::unique_ptr<FileHandle> handle) {
  const dht::Caller who = caller();
  fuse_file_info out = info;
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  const auto result = sent(fuse_reply_open(finish(), &out));
  if (result)
    static_cast<void>(handle.release());  // the kernel's, until its RELEASE
  else
    release(*handle, who);
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
  fuse_entry_param param = entry_param(entry);
  fuse_file_info out = info;
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  volume().nodes().count(entry.node, 1);
  Result<void> result;
  {
    const dht::Grants::Delivery delivery(volume().grants());
    set_validity(param, validity(mount_, entry, delivery));
    result = sent(fuse_reply_create(finish(), &param, &out));
  }
  if (result) {
    static_cast<void>(handle.release());
  } else {
    release(*handle, who);
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

Result<void> Request::reply_directory(DirectoryHandle& handle, std::span<std::byte> page, std::span<const Looked> looked) {
  Result<void> result;
  {
    const dht::Grants::Delivery delivery(volume().grants());
    for (const Looked& each : looked) {
      const Validity valid = validity(mount_, each.entry, delivery);
      const protocol::EntryValidity out{whole(valid.name_s), whole(valid.attr_s), rest(valid.name_s), rest(valid.attr_s)};
      std::memcpy(page.data() + each.offset + protocol::kEntryValidityOffset, &out, sizeof out);
    }
    if (!looked.empty()) handle.last_page.begin(volume().delivered_pages(), handle.node->id());
    result = reply_data(page);
  }
  if (result) return {};
  handle.last_page.end();
  for (const Looked& each : looked) volume().nodes().forget(each.entry.node.get(), 1);
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
