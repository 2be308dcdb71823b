#include <sys/file.h>

#include <limits>

#include "dht/open_file.h"
#include "fuse/operations.h"
#include "fuse/reply.h"
#include "fuse/transport.h"

// fcntl(2) record locks, open-file-description locks (which the kernel sends as record locks of another owner) and
// flock(2). A wait gives its worker back: the request is parked, and answered by whoever learns the outcome.
namespace voldfs::fuse {
namespace {

constexpr uint64_t kEnd = std::numeric_limits<int64_t>::max();

wire::LockType wire_type(short type) {
  switch (type) {
    case F_RDLCK: return wire::LockType::kRead;
    case F_WRLCK: return wire::LockType::kWrite;
    default: return wire::LockType::kUnlock;
  }
}

dht::Volume::LockRequest lock_request(const fuse_file_info& info, const struct flock& lock) {
  dht::Volume::LockRequest out{};
  out.kind = wire::LockKind::kPosix;
  out.type = wire_type(lock.l_type);
  out.owner = info.lock_owner;
  out.start = static_cast<uint64_t>(lock.l_start);
  out.end = lock.l_len == 0 ? kEnd : static_cast<uint64_t>(lock.l_start + lock.l_len - 1);
  out.pid = static_cast<uint32_t>(lock.l_pid);
  return out;
}

}  // namespace

Result<void> getlk(Request& request, fuse_ino_t, fuse_file_info* info, struct flock* lock) {
  const auto found = request.volume().test_lock(open_file(info), lock_request(*info, *lock), request.caller());
  if (!found) return fail(found.error());
  struct flock out{};
  out.l_whence = SEEK_SET;
  switch (found->type) {
    case wire::LockType::kRead: out.l_type = F_RDLCK; break;
    case wire::LockType::kWrite: out.l_type = F_WRLCK; break;
    case wire::LockType::kUnlock: out.l_type = F_UNLCK; break;
  }
  out.l_start = static_cast<off_t>(found->start);
  out.l_len = found->end >= kEnd ? 0 : static_cast<off_t>(found->end - found->start + 1);
  out.l_pid = static_cast<pid_t>(found->pid);
  return request.reply_lock(out);
}

namespace {

Result<void> take_lock(Request& request, const dht::OpenFilePtr& file, const dht::Volume::LockRequest& lock, bool wait) {
  dht::Volume& volume = request.volume();
  dht::Caller caller = request.caller();
  caller.interrupted = nullptr;  // the request's flag does not outlive its worker's turn
  const uint64_t ticket = volume.next_ticket();
  bool interrupted = false;
  const fuse_req_t handle = request.park(ticket, interrupted);
  volume.lock(file, lock, wait, caller, ticket,
              [handle, channel = ReplyChannel::current(), &interrupts = request.mount().interrupts, unique = request.unique()](int error) {
                interrupts.end(unique);
                ReplyChannel reply_through(channel);
                fuse_reply_err(handle, error ? to_errno(Error(error)) : 0);
              });
  if (interrupted) volume.cancel_lock(ticket);
  return {};
}

}  // namespace

Result<void> setlk(Request& request, fuse_ino_t, fuse_file_info* info, struct flock* lock, int wait) {
  return take_lock(request, open_file(info), lock_request(*info, *lock), wait != 0);
}

Result<void> flock(Request& request, fuse_ino_t, fuse_file_info* info, int operation) {
  dht::Volume::LockRequest lock{};
  lock.kind = wire::LockKind::kFlock;
  // The open itself. The kernel's number of it is the address of its structure, which the next open may have before we are told of the
  // close.
  lock.owner = open_file(info)->id();
  lock.start = 0, lock.end = kEnd;
  lock.pid = request.caller().pid;
  switch (operation & ~LOCK_NB) {
    case LOCK_SH: lock.type = wire::LockType::kRead; break;
    case LOCK_EX: lock.type = wire::LockType::kWrite; break;
    case LOCK_UN: lock.type = wire::LockType::kUnlock; break;
    default: return fail(EINVAL);
  }
  return take_lock(request, open_file(info), lock, !(operation & LOCK_NB));
}

}  // namespace voldfs::fuse
