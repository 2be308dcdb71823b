#include "brick/store/attr.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace voldfs::store {

namespace {

Result<wire::Attr> statx_attr(int fd, const char* name, int flags) {
  struct statx s;
  if (::statx(fd, name, flags | AT_SYMLINK_NOFOLLOW | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME, &s) < 0) {
    return fail_errno();
  }
  wire::Attr out{};
  out.size = s.stx_size, out.blocks = s.stx_blocks;
  out.atime = s.stx_atime.tv_sec, out.atime_ns = s.stx_atime.tv_nsec;
  out.mtime = s.stx_mtime.tv_sec, out.mtime_ns = s.stx_mtime.tv_nsec;
  out.ctime = s.stx_ctime.tv_sec, out.ctime_ns = s.stx_ctime.tv_nsec;
  if (s.stx_mask & STATX_BTIME) out.btime = s.stx_btime.tv_sec, out.btime_ns = s.stx_btime.tv_nsec;
  out.mode = s.stx_mode, out.nlink = s.stx_nlink, out.uid = s.stx_uid, out.gid = s.stx_gid;
  out.rdev = static_cast<uint64_t>(s.stx_rdev_major) << 32 | s.stx_rdev_minor;
  out.blksize = s.stx_blksize;
  return out;
}

}  // namespace

Result<wire::Attr> get_attr(int fd) { return statx_attr(fd, "", AT_EMPTY_PATH); }
Result<wire::Attr> get_attr_at(int dir, const char* name) { return statx_attr(dir, name, 0); }

wire::ObjectType type_of_mode(uint32_t mode) {
  // S_IFMT's values are DT_* shifted, as IFTODT has it.
  switch (mode & S_IFMT) {
    case S_IFIFO: return wire::ObjectType::kFifo;
    case S_IFCHR: return wire::ObjectType::kCharDevice;
    case S_IFDIR: return wire::ObjectType::kDirectory;
    case S_IFBLK: return wire::ObjectType::kBlockDevice;
    case S_IFREG: return wire::ObjectType::kFile;
    case S_IFLNK: return wire::ObjectType::kSymlink;
    case S_IFSOCK: return wire::ObjectType::kSocket;
    default: return wire::ObjectType::kNone;
  }
}

}  // namespace voldfs::store
