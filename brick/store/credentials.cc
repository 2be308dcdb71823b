#include "brick/store/credentials.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace voldfs::store {

namespace {

constexpr uint32_t kOverflowId = 65534;  // for an id that this host (or its user namespace) does not have
constexpr uint32_t kRootOnly = 1u << CAP_FSETID | 1u << CAP_SYS_RESOURCE;  // both in the first word
static_assert(CAP_FSETID < 32 && CAP_SYS_RESOURCE < 32);

// Going on with credentials that are not known would give files to the wrong owner, or root's rights to a
// caller.
[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "voldbrick: cannot set a thread's credentials: %s: %s (the brick must run as root)\n", what,
               std::strerror(errno));
  std::abort();
}

// What the calling thread has now.
class ThreadCredentials {
 public:
  ThreadCredentials() {
    // umask belongs to fs_struct, which threads share until they say otherwise.
    if (::unshare(CLONE_FS) < 0) give_up("unshare(CLONE_FS)");
    const int bits = ::prctl(PR_GET_SECUREBITS);
    if (bits < 0 || ::prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0) give_up("securebits");
    if (::syscall(SYS_setgroups, 0, nullptr) < 0) give_up("setgroups");
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    if (::syscall(SYS_capget, &header, capabilities_) < 0) give_up("capget");
    // A thread starts with what its maker had, which may have been a caller's.
    all_ = capabilities_[0].permitted;
    set_capabilities(true), set_fsuid(0), set_fsgid(0), set_umask(0);
  }

  void become(const Credentials& wanted) {
    if (wanted == now_) return;
    if (is_root(wanted) != is_root(now_)) set_capabilities(is_root(wanted));
    if (wanted.gid != now_.gid) set_fsgid(wanted.gid);
    if (wanted.uid != now_.uid) set_fsuid(wanted.uid);
    if (wanted.umask != now_.umask) set_umask(wanted.umask);
    now_ = wanted;
  }

 private:
  static bool is_root(const Credentials& credentials) { return credentials.uid == 0 && !credentials.plain; }

  void set_capabilities(bool root) {
    capabilities_[0].effective = root ? all_ : all_ & ~kRootOnly;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    if (::syscall(SYS_capset, &header, capabilities_) < 0) give_up("capset");
  }

  // setfsuid(2) tells nobody that it failed; asked for an impossible id it tells the one in force.
  static bool try_id(long number, uint32_t id) {
    ::syscall(number, id);
    return static_cast<uint32_t>(::syscall(number, -1)) == id;
  }
  static void set_fsuid(uint32_t uid) {
    if (!try_id(SYS_setfsuid, uid == UINT32_MAX ? kOverflowId : uid) && !try_id(SYS_setfsuid, kOverflowId)) {
      give_up("setfsuid");
    }
  }
  static void set_fsgid(uint32_t gid) {
    if (!try_id(SYS_setfsgid, gid == UINT32_MAX ? kOverflowId : gid) && !try_id(SYS_setfsgid, kOverflowId)) {
      give_up("setfsgid");
    }
  }
  static void set_umask(uint32_t mask) { ::umask(mask & 0777); }

  Credentials now_;
  uint32_t all_ = 0;
  __user_cap_data_struct capabilities_[2] = {};
};

thread_local const Credentials* innermost = nullptr;

void become(const Credentials& wanted) {
  thread_local ThreadCredentials thread;
  thread.become(wanted);
}

}  // namespace

Credentials Credentials::of(const wire::RequestHeader& request) {
  if (request.flags & wire::kFlagNoCreds) return {};
  return {request.uid, request.gid, request.umask & 0777};
}

CallerScope::CallerScope(const Credentials& credentials) : outer_(innermost), own_(credentials) {
  innermost = &own_;
  become(own_);
}

CallerScope::CallerScope(const wire::RequestHeader& request) : CallerScope(Credentials::of(request)) {}

CallerScope::~CallerScope() {
  innermost = outer_;
  if (outer_) become(*outer_);
}

}  // namespace voldfs::store
