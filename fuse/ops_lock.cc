#include <sys/file.h>

#include <chrono>
#include <limits>
#include <memory>
#include <utility>

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

// The end of a request for a lock. Who has got it is to see what others have written before.
void answer(Mount& mount, const dht::OpenFilePtr& file, const dht::Volume::LockRequest& lock, uint64_t unique, fuse_req_t handle,
            const std::shared_ptr<Channel>& channel, int error) {
  auto reply = [&mount, unique, handle, channel, error] {
    mount.interrupts.end(unique);
    ReplyChannel reply_through(channel);
    fuse_reply_err(handle, error ? to_errno(Error(error)) : 0);
  };
  if (error != 0 || lock.type == wire::LockType::kUnlock) return reply();
  mount.caches->verify_pages(file, std::move(reply));
}

Result<void> take_lock(Request& request, const dht::OpenFilePtr& file, const dht::Volume::LockRequest& lock, bool wait) {
  dht::Volume& volume = request.volume();
  dht::Caller caller = request.caller();
  caller.interrupted = nullptr;  // the request's flag does not outlive its worker's turn
  const uint64_t ticket = volume.next_ticket();
  bool interrupted = false;
  const fuse_req_t handle = request.park(ticket, interrupted);
  volume.lock(file, lock, wait, caller, ticket,
              [handle, channel = ReplyChannel::current(), &mount = request.mount(), unique = request.unique(), file, lock](int error) {
                answer(mount, file, lock, unique, handle, channel, error);
              });
  if (interrupted) volume.cancel_lock(ticket);
  return {};
}

}  // namespace

namespace {

// flock(2) that does not wait. The kernel tells of a close after close(2) has returned, so a lock may still be there whose holder is
// gone: shortly after a close(2) of the file a refusal is asked for again.
class FlockTry : public std::enable_shared_from_this<FlockTry> {
 public:
  FlockTry(Request& request, dht::OpenFilePtr file, const dht::Volume::LockRequest& lock)
      : mount_(request.mount()), file_(std::move(file)), lock_(lock), caller_(request.caller()), unique_(request.unique()) {
    caller_.interrupted = nullptr;
  }
  void begin(Request& request) {
    bool interrupted = false;
    ticket_ = mount_.volume->next_ticket();
    handle_ = request.park(ticket_, interrupted);
    ask();
  }

 private:
  static constexpr int kTriesMax = 20;
  static constexpr std::chrono::milliseconds kPause{1};

  void ask() {
    mount_.volume->lock(file_, lock_, false, caller_, ticket_, [self = shared_from_this()](int error) { self->answered(error); });
  }
  void answered(int error) {
    if (error == EAGAIN && ++tries_ < kTriesMax && file_->node()->was_closed_lately()) {
      mount_.later.run(kPause, [self = shared_from_this()] {
        self->ticket_ = self->mount_.volume->next_ticket();
        self->ask();
      });
      return;
    }
    answer(mount_, file_, lock_, unique_, handle_, channel_, error);
  }

  Mount& mount_;
  const dht::OpenFilePtr file_;
  const dht::Volume::LockRequest lock_;
  dht::Caller caller_;
  const uint64_t unique_;
  const std::shared_ptr<Channel> channel_ = ReplyChannel::current();
  fuse_req_t handle_ = nullptr;
  uint64_t ticket_ = 0;
  int tries_ = 0;
};

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
  if (!(operation & LOCK_NB)) return take_lock(request, open_file(info), lock, true);
  std::make_shared<FlockTry>(request, open_file(info), lock)->begin(request);
  return {};
}

}  // namespace voldfs::fuse
