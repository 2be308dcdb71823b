#include "brick/store/object_io.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "brick/store/attr.h"
#include "brick/store/name_lock.h"
#include "brick/store/store.h"

namespace voldfs::store {

namespace {

bool fits(uint64_t offset, uint64_t size) { return offset <= LLONG_MAX && size <= LLONG_MAX - offset; }

// Writes all of it unless something stops it; then what was written until then counts, and only the first
// byte's error is told.
Result<size_t> write_all(int fd, std::span<const std::byte> data, uint64_t offset, int rwf) {
  size_t done = 0;
  while (done < data.size()) {
    const iovec piece{const_cast<std::byte*>(data.data() + done), data.size() - done};
    const ssize_t size = ::pwritev2(fd, &piece, 1, static_cast<off_t>(offset + done), rwf);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && done == 0) return fail_errno();
    if (size <= 0) break;
    done += static_cast<size_t>(size);
  }
  return done;
}

int rwf_flags(const WriteHow& how) {
  return (how.sync ? RWF_SYNC : how.data_sync ? RWF_DSYNC : 0) | (how.append ? RWF_APPEND : 0);
}

// Where an append went that was to go to `planned`: the kernel put it at the end, also when somebody who needs
// no lock (a write beyond the end, a process on the brick's host) has moved that end meanwhile.
uint64_t append_offset(uint64_t planned, size_t size, const wire::Attr& after) {
  return after.size >= planned + size ? after.size - size : planned;
}

}  // namespace

Result<size_t> read_file(const Object& file, std::span<std::byte> out, uint64_t offset) {
  if (!fits(offset, out.size())) return fail(EINVAL);
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t size = ::pread(file.fd(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && done == 0) return fail_errno();
    if (size <= 0) break;
    done += static_cast<size_t>(size);
  }
  return done;
}

Result<Written> write_file(Store& store, const Object& file, std::span<const std::byte> data, uint64_t offset,
                           const WriteHow& how, const Credentials& caller,
                           const std::function<void(uint64_t offset)>& before) {
  // The lock keeps appends apart, so that each knows beforehand where it goes; the kernel orders other writes.
  NameLocks::Guard lock;
  if (how.append) {
    lock = store.name_locks().object(file.id());
    auto attr = get_attr(file.fd());
    if (!attr) return fail(attr.error());
    offset = attr->size;
  }
  if (!fits(offset, data.size())) return fail(EFBIG);
  before(offset);
  Result<size_t> size = [&] {
    CallerScope scope(caller);
    return write_all(file.fd(), data, offset, rwf_flags(how));
  }();
  if (!size) return fail(size.error());
  auto attr = attr_of(store, file);
  if (!attr) return fail(attr.error());
  if (how.append) offset = append_offset(offset, *size, *attr);
  return Written{offset, static_cast<uint32_t>(*size), *attr};
}

Result<void> sync_object(const Object& object, bool data_only) {
  if (object.open() && object.open()->failed) return fail(EIO);
  if (!object.is_file() && !object.directory()) return {};  // nothing but the inode, which its directory's fsync carries
  const int done = data_only ? ::fdatasync(object.fd()) : ::fsync(object.fd());
  if (done == 0) return {};
  const Error error = Error::from_errno();
  if (object.open()) object.open()->failed = true;
  return fail(error);
}

Result<void> allocate(const Object& file, uint32_t mode, uint64_t offset, uint64_t length, const Credentials& caller) {
  constexpr uint32_t kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if (mode & ~kKnown) return fail(EOPNOTSUPP);
  if (!fits(offset, length)) return fail(EFBIG);
  CallerScope scope(caller);
  if (::fallocate(file.fd(), static_cast<int>(mode), static_cast<off_t>(offset), static_cast<off_t>(length)) < 0) {
    return fail_errno();
  }
  return {};
}

Result<uint64_t> seek_data(const Object& file, uint32_t whence, uint64_t offset) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return fail(EINVAL);
  if (offset > LLONG_MAX) return fail(ENXIO);
  // Moves the descriptor's position, which nothing here uses.
  const off_t found = ::lseek(file.fd(), static_cast<off_t>(offset), static_cast<int>(whence));
  if (found < 0) return fail_errno();
  return static_cast<uint64_t>(found);
}

Result<Written> copy_range(Store& store, const Object& from, uint64_t offset_from, const Object& to, uint64_t offset_to,
                           uint64_t size, const Credentials& caller) {
  size = std::min(size, kCopyMax);
  if (!fits(offset_from, size) || !fits(offset_to, size)) return fail(EINVAL);
  off_t in = static_cast<off_t>(offset_from), out = static_cast<off_t>(offset_to);
  uint64_t done = 0;
  {
    CallerScope scope(caller);
    while (done < size) {
      const ssize_t copied = ::copy_file_range(from.fd(), &in, to.fd(), &out, size - done, 0);
      if (copied < 0 && errno == EINTR) continue;
      if (copied < 0 && done == 0) return fail_errno();
      if (copied <= 0) break;
      done += static_cast<uint64_t>(copied);
    }
  }
  auto attr = attr_of(store, to);
  if (!attr) return fail(attr.error());
  return Written{offset_to, static_cast<uint32_t>(done), *attr};
}

}  // namespace voldfs::store
