#include "brick/wire/op_info.h"

#include <array>

namespace voldfs::wire {

namespace {

constexpr bool kOnce = true;
constexpr bool kAgain = false;  // a second run does no harm, or there is nothing on the disk to repeat

constexpr auto kOps = std::to_array<OpInfo>({
    {Op::kHello, "hello", kAgain},
    {Op::kAuth, "auth", kAgain},
    {Op::kHeartbeat, "heartbeat", kAgain},
    {Op::kBye, "bye", kAgain},
    {Op::kMapGet, "map_get", kAgain},
    {Op::kMapPut, "map_put", kAgain},
    {Op::kStatus, "status", kAgain},
    {Op::kAck, "ack", kAgain},
    {Op::kLookup, "lookup", kAgain},
    {Op::kCreate, "create", kOnce},
    {Op::kMknod, "mknod", kOnce},
    {Op::kSymlink, "symlink", kOnce},
    {Op::kMkdir, "mkdir", kOnce},
    {Op::kUnlink, "unlink", kOnce},
    {Op::kRmdir, "rmdir", kOnce},
    {Op::kRename, "rename", kOnce},
    {Op::kLink, "link", kOnce},
    {Op::kTmpfile, "tmpfile", kOnce},
    {Op::kReaddir, "readdir", kAgain},
    {Op::kDirGet, "dir_get", kAgain},
    {Op::kDirExport, "dir_export", kAgain},
    {Op::kSetGrow, "set_grow", kAgain},
    {Op::kMaterialize, "materialize", kAgain},
    {Op::kDirRefresh, "dir_refresh", kAgain},
    {Op::kDirUpdate, "dir_update", kOnce},
    {Op::kPark, "park", kOnce},
    {Op::kDirList, "dir_list", kAgain},
    {Op::kDirUnite, "dir_unite", kAgain},
    {Op::kDirEpoch, "dir_epoch", kAgain},
    {Op::kStubMake, "stub_make", kOnce},
    {Op::kGetattr, "getattr", kAgain},
    {Op::kSetattr, "setattr", kOnce},
    {Op::kReadlink, "readlink", kAgain},
    {Op::kOpen, "open", kOnce},
    {Op::kRelease, "release", kAgain},
    {Op::kRead, "read", kAgain},
    {Op::kWrite, "write", kOnce},
    {Op::kFsync, "fsync", kAgain},
    {Op::kFallocate, "fallocate", kOnce},
    {Op::kLseek, "lseek", kAgain},
    {Op::kCopyRange, "copy_range", kOnce},
    {Op::kGetxattr, "getxattr", kAgain},
    {Op::kSetxattr, "setxattr", kOnce},
    {Op::kListxattr, "listxattr", kAgain},
    {Op::kRemovexattr, "removexattr", kOnce},
    {Op::kStatfs, "statfs", kAgain},
    {Op::kFlagsGet, "flags_get", kAgain},
    {Op::kFlagsSet, "flags_set", kOnce},
    {Op::kGetattrMany, "getattr_many", kAgain},
    {Op::kSettle, "settle", kOnce},
    {Op::kLock, "lock", kAgain},
    {Op::kLockCancel, "lock_cancel", kOnce},
    {Op::kLockWaits, "lock_waits", kAgain},
    {Op::kLockDrop, "lock_drop", kAgain},
    {Op::kTxnPrepare, "txn_prepare", kOnce},
    {Op::kTxnCommit, "txn_commit", kOnce},
    {Op::kTxnAbort, "txn_abort", kOnce},
    {Op::kTxnStatus, "txn_status", kAgain},
    {Op::kTxnFinish, "txn_finish", kOnce},
    {Op::kTxnMark, "txn_mark", kOnce},
    {Op::kTxnUnmark, "txn_unmark", kOnce},
    {Op::kTxnLeave, "txn_leave", kOnce},
    {Op::kTxnList, "txn_list", kAgain},
    {Op::kVolumeLock, "volume_lock", kAgain},
    {Op::kNotifyRecall, "notify_recall", kAgain},
    {Op::kNotifyLock, "notify_lock", kAgain},
    {Op::kNotifyMap, "notify_map", kAgain},
});

constexpr size_t kNumbers = static_cast<size_t>(Op::kNotifyMap) + 1;

// Number of an operation to its place in kOps, plus one; 0: unknown.
constexpr auto kPlaces = [] {
  std::array<uint8_t, kNumbers> places{};
  for (size_t i = 0; i < kOps.size(); ++i) places[static_cast<size_t>(kOps[i].op)] = static_cast<uint8_t>(i + 1);
  return places;
}();

}  // namespace

const OpInfo* op_info(Op op) {
  const auto number = static_cast<size_t>(op);
  if (number >= kNumbers || kPlaces[number] == 0) return nullptr;
  return &kOps[kPlaces[number] - 1u];
}

std::span<const OpInfo> all_op_infos() { return kOps; }

const char* op_name(Op op) {
  const OpInfo* info = op_info(op);
  return info != nullptr ? info->name : "unknown";
}

}  // namespace voldfs::wire
