#include "fuse/operations.h"

#include <new>

namespace voldfs::fuse {
namespace {

// An operation as libfuse calls it: a Request around it, and its error as the reply.
template <auto operation>
struct Run;
template <class... Arguments, Result<void> (*operation)(Request&, Arguments...)>
struct Run<operation> {
  static void call(fuse_req_t handle, Arguments... arguments) {
    Request request(handle);
    Result<void> result;
    try {
      result = operation(request, arguments...);
    } catch (const std::bad_alloc&) {
      result = fail(ENOMEM);
    }
    // A reply that was refused needs no other: the kernel has given the request up.
    if (!result && !request.is_replied()) static_cast<void>(request.reply_error(result.error()));
  }
};

}  // namespace

// Not here, because the kernel then does right by itself: access (default_permissions), poll (always ready, as for
// files of any disk file system), bmap. STATX is answered in session.cc, since libfuse 3.17 does not know it.
const fuse_lowlevel_ops kOperations = [] {
  fuse_lowlevel_ops ops{};
  ops.init = init;

  ops.lookup = Run<lookup>::call;
  ops.forget = Run<forget>::call;
  ops.forget_multi = Run<forget_multi>::call;
  ops.mknod = Run<mknod>::call;
  ops.mkdir = Run<mkdir>::call;
  ops.symlink = Run<symlink>::call;
  ops.unlink = Run<unlink>::call;
  ops.rmdir = Run<rmdir>::call;
  ops.rename = Run<rename>::call;
  ops.link = Run<link>::call;

  ops.getattr = Run<getattr>::call;
  ops.setattr = Run<setattr>::call;
  ops.readlink = Run<readlink>::call;

  ops.open = Run<open>::call;
  ops.create = Run<create>::call;
  ops.tmpfile = Run<tmpfile>::call;
  ops.flush = Run<flush>::call;
  ops.release = Run<release>::call;

  ops.read = Run<read>::call;
  ops.write = Run<write>::call;
  ops.fsync = Run<fsync>::call;
  ops.fallocate = Run<fallocate>::call;
  ops.lseek = Run<lseek>::call;
  ops.copy_file_range = Run<copy_file_range>::call;

  ops.opendir = Run<opendir>::call;
  ops.readdir = Run<readdir>::call;
  ops.readdirplus = Run<readdirplus>::call;
  ops.releasedir = Run<releasedir>::call;
  ops.fsyncdir = Run<fsyncdir>::call;

  ops.setxattr = Run<setxattr>::call;
  ops.getxattr = Run<getxattr>::call;
  ops.listxattr = Run<listxattr>::call;
  ops.removexattr = Run<removexattr>::call;

  ops.getlk = Run<getlk>::call;
  ops.setlk = Run<setlk>::call;
  ops.flock = Run<flock>::call;

  ops.statfs = Run<statfs>::call;
  ops.ioctl = Run<ioctl>::call;
  return ops;
}();

}  // namespace voldfs::fuse
