#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

// What voldfs reads and writes of the kernel's FUSE protocol itself, beside libfuse: message headers, and the
// operations and flags that libfuse 3.17 does not pass on. Layouts as in the kernel's include/uapi/linux/fuse.h,
// protocol 7.40 (the header of Debian 12 is 7.38).
namespace voldfs::fuse::protocol {

struct InHeader {            // struct fuse_in_header
  uint32_t len;
  uint32_t opcode;
  uint64_t unique;
  uint64_t nodeid;
  uint32_t uid, gid, pid;
  uint16_t total_extlen;
  uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {           // struct fuse_out_header
  uint32_t len;
  int32_t error;             // 0 or -errno
  uint64_t unique;           // 0: a notification
};
static_assert(sizeof(OutHeader) == 16);

inline constexpr uint32_t kOpSetxattr = 21;
inline constexpr uint32_t kOpInterrupt = 36;
inline constexpr uint32_t kOpStatx = 52;

struct InterruptIn {         // struct fuse_interrupt_in
  uint64_t unique;           // of the request
};
static_assert(sizeof(InterruptIn) == 8);

inline constexpr size_t kWriteHeaderSize = 80;   // InHeader and struct fuse_write_in, before the data
inline constexpr size_t kReadBufferMin = 8192;   // FUSE_MIN_READ_BUFFER

struct WriteIn {             // struct fuse_write_in
  uint64_t handle, offset;
  uint32_t size;
  uint32_t write_flags;
  uint64_t lock_owner;
  uint32_t flags, padding;
};
static_assert(sizeof(WriteIn) == 40);
inline constexpr uint32_t kWriteKillPrivileges = 4;  // FUSE_WRITE_KILL_SUIDGID

struct SetxattrIn {          // struct fuse_setxattr_in with FUSE_SETXATTR_EXT
  uint32_t size;
  uint32_t flags;            // XATTR_*
  uint32_t setxattr_flags;
  uint32_t padding;
};
static_assert(sizeof(SetxattrIn) == 16);
inline constexpr uint32_t kSetxattrAclKillSgid = 1;  // FUSE_SETXATTR_ACL_KILL_SGID

// FATTR_KILL_SUIDGID, which libfuse passes on as FUSE_SET_ATTR_KILL_SUID.
inline constexpr int kSetattrKillPrivileges = 1 << 11;

struct StatxIn {             // struct fuse_statx_in
  uint32_t getattr_flags;    // kGetattrHandle: `handle` is valid
  uint32_t reserved;
  uint64_t handle;
  uint32_t sx_flags, sx_mask;
};
static_assert(sizeof(StatxIn) == 24);
inline constexpr uint32_t kGetattrHandle = 1;        // FUSE_GETATTR_FH

struct StatxTime {           // struct fuse_sx_time
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};
static_assert(sizeof(StatxTime) == 16);

struct Statx {               // struct fuse_statx
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, spare0;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t spare2[14];
};
static_assert(sizeof(Statx) == 256);

struct StatxOut {            // struct fuse_statx_out
  uint64_t attr_valid;       // seconds
  uint32_t attr_valid_nsec;
  uint32_t flags;
  uint64_t spare[2];
  Statx stat;
};
static_assert(sizeof(StatxOut) == 288);

inline constexpr int32_t kNotifyIncEpoch = 8;        // FUSE_NOTIFY_INC_EPOCH (protocol 7.44), in OutHeader::error

inline constexpr int32_t kNotifyInvalInode = 2;      // FUSE_NOTIFY_INVAL_INODE
struct NotifyInvalInode {    // struct fuse_notify_inval_inode_out
  uint64_t nodeid;
  int64_t offset;            // negative: attributes alone
  int64_t length;
};
static_assert(sizeof(NotifyInvalInode) == 24);

struct BackingMap {          // struct fuse_backing_map (protocol 7.40)
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);
inline constexpr unsigned long kDevIocBackingOpen = _IOW(229, 1, BackingMap);  // FUSE_DEV_IOC_BACKING_OPEN
inline constexpr unsigned long kDevIocBackingClose = _IOW(229, 2, uint32_t);   // FUSE_DEV_IOC_BACKING_CLOSE

struct EntryValidity {       // of struct fuse_entry_out, behind nodeid and generation
  uint64_t entry_valid, attr_valid;
  uint32_t entry_valid_nsec, attr_valid_nsec;
};
static_assert(sizeof(EntryValidity) == 24);
inline constexpr size_t kEntryValidityOffset = 16;

// FUSE over io_uring (protocol 7.42)
inline constexpr uint32_t kInitExt = 1u << 30;             // FUSE_INIT_EXT, in InitOut::flags
inline constexpr uint32_t kInit2OverIoUring = 1u << 9;     // FUSE_OVER_IO_URING >> 32, in InitOut::flags2
inline constexpr size_t kInitOutFlags = 12, kInitOutFlags2 = 32;  // offsets in struct fuse_init_out

struct InitIn {              // struct fuse_init_in
  uint32_t major, minor, max_readahead, flags, flags2;
};
static_assert(sizeof(InitIn) == 20);

struct RingEntryHeader {     // struct fuse_uring_ent_in_out
  uint64_t flags;
  uint64_t commit_id;        // names the request in its commit
  uint32_t payload_size;
  uint32_t padding;
  uint64_t reserved;
};
static_assert(sizeof(RingEntryHeader) == 32);

struct RingHeaders {         // struct fuse_uring_req_header
  std::byte in_out[128];     // InHeader, then OutHeader
  std::byte operation[128];  // the operation's own structure
  RingEntryHeader entry;
};
static_assert(sizeof(RingHeaders) == 288);

inline constexpr uint32_t kRingRegister = 1;         // FUSE_IO_URING_CMD_REGISTER
inline constexpr uint32_t kRingCommitAndFetch = 2;   // FUSE_IO_URING_CMD_COMMIT_AND_FETCH

struct RingCommand {         // struct fuse_uring_cmd_req, in the command area of the submission entry
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(RingCommand) == 24);

}  // namespace voldfs::fuse::protocol
