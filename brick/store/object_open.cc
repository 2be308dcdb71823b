#include "brick/store/object_open.h"

#include <fcntl.h>
#include <unistd.h>

#include "brick/store/name_lock.h"
#include "brick/store/store.h"

namespace voldfs::store {

namespace {

// Also a file opened for writing alone is read by a client's kernel, to fill pages that are partly written.
int brick_flags(uint32_t flags) {
  const int access = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC) ? O_RDONLY : O_RDWR;
  return access | static_cast<int>(flags & O_NOATIME);
}

Result<void> refuse_special(const Object& object) {
  switch (object.type()) {
    case wire::ObjectType::kFile: return {};
    case wire::ObjectType::kDirectory: return fail(EISDIR);
    case wire::ObjectType::kSymlink: return fail(ELOOP);
    default: return fail(ENXIO);
  }
}

// A file with the append-only attribute opens for writing only with O_APPEND (ext4(5), chattr +a).
Result<Object> find_for_open(Store& store, const wire::ObjectRef& ref, uint32_t flags) {
  auto object = find_object(store, 0, ref, 0, brick_flags(flags));
  if (!object && object.error().code == EPERM && (flags & O_APPEND)) {
    return find_object(store, 0, ref, 0, brick_flags(flags) | O_APPEND);
  }
  return object;
}

}  // namespace

Result<Opened> open_file(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t flags, uint32_t reclaim,
                         const Credentials& caller) {
  // Over both finding and inserting: nobody takes the last name away in between (open_files.h).
  auto lock = store.name_locks().object(ref.id);
  auto object = find_for_open(store, ref, flags);
  if (!object) return object.error().code == EMFILE ? fail(ENFILE) : fail(object.error());
  if (auto done = refuse_special(*object); !done) return fail(done.error());
  if ((flags & O_TRUNC) && reclaim == 0) {
    CallerScope scope(caller);
    if (::ftruncate(object->fd(), 0) < 0) return fail_errno();
  }
  unique_fd fd = object->release_fd();
  auto open = store.open_files().insert(session, ref.id, std::move(fd), static_cast<int>(flags), reclaim);
  if (!open) return fail(open.error());
  const uint32_t number = (*open)->number;
  return Opened{Object(ref, std::move(*open)), number};
}

}  // namespace voldfs::store
