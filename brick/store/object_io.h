#pragma once

#include <functional>
#include <span>

#include "brick/store/credentials.h"
#include "brick/store/object.h"

// The data of files. Plain system calls of the calling thread on the brick's page cache: for one request at
// a time they are as fast as a ring (measured: pread 2.7 us both, buffered pwrite 4.1 and 10.4 us). This is the place
// where a ring with several requests in flight would come in.
namespace voldfs::store {

// Up to `out`'s size; less only at the end of the file.
Result<size_t> read_file(const Object& file, std::span<std::byte> out, uint64_t offset);

struct Written {
  uint64_t offset;  // where it went
  uint32_t size;    // less than asked for: the disk or the quota was full after that
  wire::Attr attr;
};
struct WriteHow {
  bool append = false;  // at the end, whatever the offset
  bool sync = false;    // O_SYNC
  bool data_sync = false;
};
// `before` is told where the write goes right before it is done, under the file's lock for an append: what a
// restarted brick needs to tell whether an append has happened. ENOSPC, EDQUOT: nothing was written.
Result<Written> write_file(Store& store, const Object& file, std::span<const std::byte> data, uint64_t offset,
                           const WriteHow& how, const Credentials& caller,
                           const std::function<void(uint64_t offset)>& before);

// Of a file or a directory. Also the entry of a new file is durable then: the journals of ext4, xfs and btrfs carry
// it with the inode. A failure makes an open answer EIO from then on: what the disk has is not known.
Result<void> sync_object(const Object& object, bool data_only);

// `mode`: 0, FALLOC_FL_KEEP_SIZE, with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE; EOPNOTSUPP for others.
Result<void> allocate(const Object& file, uint32_t mode, uint64_t offset, uint64_t length, const Credentials& caller);

// `whence`: SEEK_DATA or SEEK_HOLE. ENXIO: beyond the end.
Result<uint64_t> seek_data(const Object& file, uint32_t whence, uint64_t offset);

// Inside the brick, by reflink where the file system can. Less than asked for at the source's end, or
// after kCopyMax bytes.
inline constexpr uint64_t kCopyMax = 256u << 20;
Result<Written> copy_range(Store& store, const Object& from, uint64_t offset_from, const Object& to, uint64_t offset_to,
                           uint64_t size, const Credentials& caller);

}  // namespace voldfs::store
