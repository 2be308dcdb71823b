#pragma once

#include <cstdint>
#include <memory>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/store/directories.h"
#include "brick/store/open_files.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

class Store;

// What an operation acts upon, open for as long as this lives: through an open of the session, through the
// directory cache, or through a descriptor of its own. Not shared between threads.
class Object {
 public:
  Object(const wire::ObjectRef& ref, std::shared_ptr<OpenFile> open);
  Object(const wire::ObjectRef& ref, DirectoryPtr directory);
  Object(const wire::ObjectRef& ref, unique_fd fd, wire::ObjectType type);

  const Id& id() const { return ref_.id; }
  const wire::ObjectRef& ref() const { return ref_; }
  // A file's is O_RDONLY or O_RDWR as asked for, a directory's O_RDONLY, that of anything else O_PATH.
  int fd() const { return fd_; }
  wire::ObjectType type() const { return type_; }
  bool is_file() const { return type_ == wire::ObjectType::kFile; }
  const DirectoryPtr& directory() const { return directory_; }      // null: none
  const std::shared_ptr<OpenFile>& open() const { return open_; }   // null: not through an open
  // Its own descriptor, for an open that is to keep it; the object has none afterwards.
  unique_fd release_fd() { return std::move(own_); }

 private:
  wire::ObjectRef ref_;
  std::shared_ptr<OpenFile> open_;
  DirectoryPtr directory_;
  unique_fd own_;
  int fd_ = -1;
  wire::ObjectType type_ = wire::ObjectType::kNone;
};

// Finds what a request names: by its open's number if that is not 0, else by handle, else by id (directories,
// files without a name). `flags`: O_RDONLY or O_RDWR, for a file that is not reached through an open.
// kOpenUnknown, kStaleHandle, kDirAbsent, kDirRemoved; EBADF: the open is only for reading, and O_RDWR was asked for.
Result<Object> find_object(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t open, int flags);

// For reads, writes and what else concerns data: a file, EIO after a failed fsync. EISDIR, EINVAL for others.
Result<Object> find_file(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t open, int flags);

// Its attributes; the link count of a file that has no name any more is 0.
Result<wire::Attr> attr_of(Store& store, const Object& object);
// All that the kernel of a client will want to know: attributes, handle, record.
Result<wire::EntryBody> entry_of(Store& store, const Object& object);

}  // namespace voldfs::store
