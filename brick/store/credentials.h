#pragma once

#include <cstdint>

#include "brick/wire/types.h"

// Credentials of the calling thread. A change costs several microseconds, so a thread keeps what its last
// scope set until another scope wants something else: *outside of a scope the thread may be any caller*. So
// everything that makes an entry, writes, truncates or allocates stands in a scope of one of the two kinds.
// Scopes nest: at its end an inner one gives the outer one's credentials back. Whatever the scope, the
// thread may read, change owners, modes and all attributes (voldfs's own too), and open by handle.
//
// It acts with raw system calls on the calling thread alone (libc's wrappers change all threads), and takes
// the umask out of what threads share. The process must run as root.
namespace voldfs::store {

struct Credentials {
  uint32_t uid = 0, gid = 0, umask = 0;
  bool plain = false;  // uid 0, but without the two capabilities: a write is to take suid and sgid away

  static Credentials of(const wire::RequestHeader& request);
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// The request's caller: new entries get its uid, gid and umask; quota, reserved blocks, setgid directories and the
// killing of suid and sgid by a write come out as on the local file system, for without uid 0 it lacks
// CAP_SYS_RESOURCE and CAP_FSETID. It has no supplementary groups: whether it may was decided by
// the client's kernel. A request with kFlagNoCreds is root's, umask 0.
class CallerScope {
 public:
  explicit CallerScope(const wire::RequestHeader& request);
  explicit CallerScope(const Credentials& credentials);
  ~CallerScope();
  CallerScope(const CallerScope&) = delete;
  CallerScope& operator=(const CallerScope&) = delete;

 private:
  const Credentials* outer_;
  Credentials own_;
};

// root's, umask 0: for what is voldfs's own, and for changes whose right the client's kernel has decided.
class RootScope : public CallerScope {
 public:
  RootScope() : CallerScope(Credentials{}) {}
};

}  // namespace voldfs::store
