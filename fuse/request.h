#pragma once

#include <fuse_lowlevel.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "dht/volume.h"
#include "fuse/fuse_protocol.h"
#include "fuse/handles.h"
#include "fuse/mount.h"

namespace voldfs::fuse {

inline FileHandle* file_handle(const fuse_file_info* info) { return info ? reinterpret_cast<FileHandle*>(info->fh) : nullptr; }
inline DirectoryHandle* directory_handle(const fuse_file_info* info) { return reinterpret_cast<DirectoryHandle*>(info->fh); }
inline dht::OpenFilePtr open_file(const fuse_file_info* info) {
  const FileHandle* const handle = file_handle(info);
  return handle ? handle->file : nullptr;
}

// One request of the kernel while a worker is at it. An operation answers it by exactly one reply_*, or returns
// an error, which run() makes the reply. The worker's thread only.
class Request {
 public:
  explicit Request(fuse_req_t request);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Mount& mount() const { return mount_; }
  dht::Volume& volume() const { return *mount_.volume; }
  // The node that the kernel means; it counts lookups of it, so that it is there.
  dht::NodePtr node(fuse_ino_t number) const;
  // As node(), of a directory whose attributes or names this request changes: until it is answered, no other answer lets the
  // kernel keep the directory's attributes. Twice at most.
  dht::NodePtr node_to_change(fuse_ino_t number);
  // Who asks; a wait for a brick that is down is ended by a signal that ends the process, and by no other.
  dht::Caller caller() const;
  // Ends an open that the kernel has, or has not got.
  void release(FileHandle& handle, const dht::Caller& who);
  // The request's own structure as it came, for what libfuse leaves out of it.
  const void* raw_argument() const;

  // Replies (reply.cc). Each counts or uncounts lookups as the kernel does.
  Result<void> reply_ok();
  Result<void> reply_error(Error error);
  Result<void> reply_none();
  Result<void> reply_entry(const dht::Entry& entry);
  Result<void> reply_negative(const dht::NodePtr& dir, const dht::Grant& missing);
  Result<void> reply_attr(const dht::Entry& entry);
  Result<void> reply_open(const fuse_file_info& info, std::unique_ptr<FileHandle> handle);
  Result<void> reply_open(const fuse_file_info& info, std::unique_ptr<DirectoryHandle> handle);
  Result<void> reply_create(const dht::Entry& entry, const fuse_file_info& info, std::unique_ptr<FileHandle> handle);
  Result<void> reply_readlink(const std::string& target);
  Result<void> reply_data(std::span<const std::byte> data);
  // Entries of a page that are whole lookup results: where they stand in it.
  struct Looked {
    size_t offset;
    dht::Entry entry;
  };
  Result<void> reply_directory(DirectoryHandle& handle, std::span<std::byte> page, std::span<const Looked> looked);
  Result<void> reply_written(size_t size);
  Result<void> reply_offset(uint64_t offset);
  Result<void> reply_xattr_size(size_t size);
  Result<void> reply_statfs(const wire::StatfsReply& statfs);
  Result<void> reply_lock(const struct flock& lock);
  Result<void> reply_ioctl(const void* data, size_t size);

  // Without validity, which the moment of the reply decides.
  fuse_entry_param entry_param(const dht::Entry& entry) const;
  bool is_replied() const { return request_ == nullptr; }
  // libfuse's request, for a reply by somebody else, later, after Interrupts::end(unique()); this one is done with it. `ticket`: what an
  // INTERRUPT is told as from here on. `interrupted`: one has come before.
  fuse_req_t park(uint64_t ticket, bool& interrupted);
  uint64_t unique() const { return unique_; }
  fuse_req_t handle() const { return request_; }

  // Set by the session before libfuse decodes a request.
  inline static thread_local const protocol::InHeader* raw = nullptr;

 private:
  fuse_req_t finish();

  fuse_req_t request_;
  const uint64_t unique_ = raw->unique;
  Mount& mount_;
  std::atomic<bool> interrupted_ = false;
  std::optional<dht::Changing> changing_[2];
};

// The number by which the kernel knows a node. 1 is the mount's root.
fuse_ino_t node_number(const Mount& mount, const dht::Node& node);
// For how long the kernel may keep what it is about to be given, in seconds. `delivery` is held until it has it.
struct Validity {
  double name_s, attr_s;
};
Validity validity(const Mount& mount, const dht::Entry& entry, const dht::Grants::Delivery& delivery);

// What stat(2) says of it.
struct stat to_stat(const Id& id, const wire::Attr& attr);

}  // namespace voldfs::fuse
