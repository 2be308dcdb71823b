#include <linux/fs.h>
#include <spdlog/spdlog.h>

#include <cstring>

#include "fuse/limits.h"
#include "fuse/operations.h"

// What the kernel and the mount agree on at the start, statfs, and inode flags (chattr).
namespace voldfs::fuse {
namespace {

// What is asked of the kernel where it can. POSIX_LOCKS, FLOCK_LOCKS, READDIRPLUS and AUTO follow from the
// operations; ASYNC_READ, AUTO_INVAL_DATA, ATOMIC_O_TRUNC and ASYNC_DIO are libfuse's defaults.
// Not asked for: EXPORT_SUPPORT (lookups of "." by number of nodes that were forgotten), SPLICE_* (slower than a
// copy at 1 MiB here), WRITEBACK_CACHE (stat 5 to 13 times slower, and it makes data of other clients' appends stale).
constexpr uint64_t kWanted[] = {
    FUSE_CAP_PARALLEL_DIROPS,
    FUSE_CAP_POSIX_ACL,            // the kernel checks ACLs and hands the umask on
    FUSE_CAP_DONT_MASK,            // the brick's file system applies it, or the default ACL
    FUSE_CAP_HANDLE_KILLPRIV_V2,   // it clears suid and sgid too: no GETXATTR before every write
    FUSE_CAP_SETXATTR_EXT,
    FUSE_CAP_DIRECT_IO_ALLOW_MMAP, // for files opened O_APPEND
};
constexpr uint64_t kUnwanted[] = {FUSE_CAP_EXPORT_SUPPORT, FUSE_CAP_WRITEBACK_CACHE, FUSE_CAP_SPLICE_READ,
                                  FUSE_CAP_SPLICE_WRITE, FUSE_CAP_SPLICE_MOVE};

// The inode flags that FS_IOC_FSGETXATTR has too, under other numbers.
struct ExtendedFlag {
  uint32_t flag, extended;
};
constexpr ExtendedFlag kExtendedFlags[] = {
    {FS_SYNC_FL, FS_XFLAG_SYNC},         {FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE}, {FS_APPEND_FL, FS_XFLAG_APPEND},
    {FS_NODUMP_FL, FS_XFLAG_NODUMP},     {FS_NOATIME_FL, FS_XFLAG_NOATIME},     {FS_DAX_FL, FS_XFLAG_DAX},
    {FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT},
};

fsxattr to_fsxattr(uint32_t flags) {
  fsxattr out{};
  for (const ExtendedFlag& each : kExtendedFlags)
    if (flags & each.flag) out.fsx_xflags |= each.extended;
  return out;
}

}  // namespace

void init(void* userdata, fuse_conn_info* connection) {
  Mount& mount = *static_cast<Mount*>(userdata);
  for (const uint64_t capability : kWanted)
    if (!fuse_set_feature_flag(connection, capability)) spdlog::warn("fuse.init kernel lacks capability={:#x}", capability);
  for (const uint64_t capability : kUnwanted) fuse_unset_feature_flag(connection, capability);
  // Not for bricks that lie on a stacked file system (depth 0): others could not be stacked on the mount then.
  mount.kernel_passes_through = mount.behaviour.passthrough && mount.behaviour.direct_io != DirectIo::kOn &&
                                fuse_set_feature_flag(connection, FUSE_CAP_PASSTHROUGH);
  connection->max_backing_stack_depth = 0;
  connection->max_write = kPayloadMax;
  connection->max_background = kBackgroundMax;
}

Result<void> statfs(Request& request, fuse_ino_t) {
  const auto found = request.volume().statfs(request.caller());
  if (!found) return fail(found.error());
  return request.reply_statfs(*found);
}

// The kernel itself opens the file for FS_IOC_GETFLAGS of lsattr(1) and statx(2), and answers what is about files in
// general (FIONREAD, FIGETBSZ).
Result<void> ioctl(Request& request, fuse_ino_t ino, unsigned command, void*, fuse_file_info*, unsigned, const void* in,
                   size_t in_size, size_t out_size) {
  const dht::NodePtr node = request.node(ino);
  switch (command) {
    case FS_IOC_GETFLAGS: {
      if (out_size < sizeof(uint32_t)) return fail(EINVAL);
      const auto flags = request.volume().get_flags(node, request.caller());
      if (!flags) return fail(flags.error());
      return request.reply_ioctl(&*flags, sizeof *flags);
    }
    case FS_IOC_FSGETXATTR: {  // the kernel asks before it sets flags (fs/file_attr.c, vfs_fileattr_set)
      if (out_size < sizeof(fsxattr)) return fail(EINVAL);
      const auto flags = request.volume().get_flags(node, request.caller());
      if (!flags) return fail(flags.error());
      const fsxattr out = to_fsxattr(*flags);
      return request.reply_ioctl(&out, sizeof out);
    }
    case FS_IOC_SETFLAGS: {
      uint32_t flags = 0;
      if (in_size < sizeof flags) return fail(EINVAL);
      std::memcpy(&flags, in, sizeof flags);
      if (const auto done = request.volume().set_flags(request.node_to_change(ino), flags, request.caller()); !done) return done;
      return request.reply_ioctl(nullptr, 0);
    }
    default:
      return fail(ENOTTY);
  }
}

}  // namespace voldfs::fuse
