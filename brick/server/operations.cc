#include <array>

#include "brick/server/operation.h"
#include "brick/server/ops_directory.h"
#include "brick/server/ops_io.h"
#include "brick/server/ops_lock.h"
#include "brick/server/ops_name.h"
#include "brick/server/ops_object.h"
#include "brick/server/ops_session.h"
#include "brick/server/ops_txn.h"
#include "brick/server/ops_xattr.h"
#include "brick/wire/op_info.h"

namespace voldfs::server {

namespace {

using wire::Op;

// What a request may carry beside its body, and whether the reply may carry a payload.
constexpr unsigned kName = 1, kName2 = 2, kData = 4, kReplyData = 8;

constexpr uint16_t kNoBody = 0;
template <class Body>
constexpr uint16_t kBody = sizeof(Body);

Operation make(Op op, Handler handler, uint16_t body_size, unsigned parts) {
  const wire::OpInfo* info = wire::op_info(op);
  return {op,           info->name, handler, body_size, (parts & kName) != 0, (parts & kName2) != 0, (parts & kData) != 0,
          info->once, (parts & kReplyData) != 0};
}

// kHello, kAuth, kHeartbeat, kBye and kAck are the connections' own (handshake.cc, control_lane.cc).
const std::vector<Operation>& table() {
  static const std::vector<Operation> operations{
      // The brick
      make(Op::kMapGet, op_map_get, kNoBody, 0),
      make(Op::kMapPut, op_map_put, kNoBody, kData),
      make(Op::kStatus, op_status, kNoBody, 0),
      // Names
      make(Op::kLookup, op_lookup, kBody<wire::NameBody>, kName),
      make(Op::kCreate, op_create, kBody<wire::CreateBody>, kName),
      make(Op::kMknod, op_mknod, kBody<wire::MakeBody>, kName),
      make(Op::kSymlink, op_symlink, kBody<wire::MakeBody>, kName | kName2),
      make(Op::kMkdir, op_mkdir, kBody<wire::MkdirBody>, kName | kData),
      make(Op::kUnlink, op_unlink, kBody<wire::UnlinkBody>, kName | kData),
      make(Op::kRmdir, op_rmdir, kBody<wire::RmdirBody>, kName),
      make(Op::kRename, op_rename, kBody<wire::RenameBody>, kName | kName2),
      make(Op::kLink, op_link, kBody<wire::LinkBody>, kName),
      make(Op::kTmpfile, op_tmpfile, kBody<wire::CreateBody>, 0),
      make(Op::kReaddir, op_readdir, kBody<wire::ReaddirBody>, kReplyData),
      // Directories
      make(Op::kDirGet, op_dir_get, kBody<wire::DirBody>, 0),
      make(Op::kDirExport, op_dir_export, kBody<wire::DirRef>, kReplyData),
      make(Op::kSetGrow, op_set_grow, kBody<wire::SetGrowBody>, kReplyData),
      make(Op::kMaterialize, op_materialize, kBody<wire::MaterializeBody>, kName | kData),
      make(Op::kDirRefresh, op_dir_refresh, kBody<wire::MaterializeBody>, kName | kData),
      make(Op::kDirUpdate, op_dir_update, kBody<wire::DirUpdateBody>, kName),
      make(Op::kPark, op_park, kBody<wire::UnlinkBody>, kName),
      make(Op::kDirList, op_dir_list, kBody<wire::DirRef>, 0),
      make(Op::kDirUnite, op_dir_unite, kBody<wire::MaterializeBody>, kName | kData),
      make(Op::kDirEpoch, op_dir_epoch, kBody<wire::DirBody>, 0),
      make(Op::kStubMake, op_stub_make, kBody<wire::StubBody>, kName),
      // Objects
      make(Op::kGetattr, op_getattr, kBody<wire::ObjectBody>, 0),
      make(Op::kSetattr, op_setattr, kBody<wire::SetattrBody>, 0),
      make(Op::kReadlink, op_readlink, kBody<wire::ObjectBody>, 0),
      make(Op::kOpen, op_open, kBody<wire::OpenBody>, 0),
      make(Op::kRelease, op_release, kBody<wire::OpenRef>, kData),
      make(Op::kRead, op_read, kBody<wire::IoBody>, kReplyData),
      make(Op::kWrite, op_write, kBody<wire::IoBody>, kData),
      make(Op::kFsync, op_fsync, kBody<wire::IoBody>, 0),
      make(Op::kFallocate, op_fallocate, kBody<wire::FallocateBody>, 0),
      make(Op::kLseek, op_lseek, kBody<wire::LseekBody>, 0),
      make(Op::kCopyRange, op_copy_range, kBody<wire::CopyRangeBody>, 0),
      make(Op::kGetxattr, op_getxattr, kBody<wire::XattrBody>, kName | kReplyData),
      make(Op::kSetxattr, op_setxattr, kBody<wire::XattrBody>, kName | kData),
      make(Op::kListxattr, op_listxattr, kBody<wire::XattrBody>, 0),
      make(Op::kRemovexattr, op_removexattr, kBody<wire::XattrBody>, kName),
      make(Op::kStatfs, op_statfs, kNoBody, 0),
      make(Op::kFlagsGet, op_flags_get, kBody<wire::ObjectBody>, 0),
      make(Op::kFlagsSet, op_flags_set, kBody<wire::SetattrBody>, 0),
      make(Op::kGetattrMany, op_getattr_many, kNoBody, kData | kReplyData),
      make(Op::kSettle, op_settle, kBody<wire::SettleBody>, kName | kName2),
      // Locks
      make(Op::kLock, op_lock, kBody<wire::LockBody>, 0),
      make(Op::kLockCancel, op_lock_cancel, kBody<wire::LockBody>, 0),
      make(Op::kLockWaits, op_lock_waits, kBody<wire::LockOwner>, 0),
      make(Op::kLockDrop, op_lock_drop, kBody<wire::LockBody>, 0),
      // Transactions
      make(Op::kTxnPrepare, op_txn_prepare, kBody<wire::TxnRecord>, kName | kName2),
      make(Op::kTxnCommit, op_txn_commit, kBody<wire::TxnRef>, 0),
      make(Op::kTxnAbort, op_txn_abort, kBody<wire::TxnRef>, 0),
      make(Op::kTxnStatus, op_txn_status, kBody<wire::TxnRef>, 0),
      make(Op::kTxnFinish, op_txn_finish, kBody<wire::TxnRef>, 0),
      make(Op::kTxnMark, op_txn_mark, kBody<wire::MarkBody>, kName),
      make(Op::kTxnUnmark, op_txn_unmark, kBody<wire::MarkBody>, kName),
      make(Op::kTxnLeave, op_txn_leave, kBody<wire::MarkBody>, kName),
      make(Op::kTxnList, op_txn_list, kNoBody, 0),
      make(Op::kVolumeLock, op_volume_lock, kBody<wire::VolumeLockBody>, 0),
  };
  return operations;
}

constexpr size_t kNumbers = 256;

std::array<const Operation*, kNumbers> index() {
  std::array<const Operation*, kNumbers> by_number{};
  for (const Operation& operation : table()) by_number[static_cast<size_t>(operation.op)] = &operation;
  return by_number;
}

}  // namespace

const Operation* find_operation(wire::Op op) {
  static const std::array<const Operation*, kNumbers> by_number = index();
  const auto number = static_cast<size_t>(op);
  return number < kNumbers ? by_number[number] : nullptr;
}

std::span<const Operation> all_operations() { return table(); }

}  // namespace voldfs::server
