#include "fuse/operations.h"

#include <new>

#include "brick/base/clock.h"

namespace voldfs::fuse {
namespace {

// An operation as libfuse calls it: a Request around it, and its error as the reply.
template <auto operation, size_t index>
struct Run;
template <class... Arguments, Result<void> (*operation)(Request&, Arguments...), size_t index>
struct Run<operation, index> {
  static void call(fuse_req_t handle, Arguments... arguments) {
    MountMetrics& metrics = static_cast<Mount*>(fuse_req_userdata(handle))->metrics;  // the handle is gone with the reply
    const int64_t begin_us = monotonic_us();
    const int error = answer(handle, arguments...);
    metrics.operations[index].add(error, monotonic_us() - begin_us, 0, 0);
  }

 private:
  static int answer(fuse_req_t handle, Arguments... arguments) {
    Request request(handle);
    Result<void> result;
    try {
      result = operation(request, arguments...);
    } catch (const std::bad_alloc&) {
      result = fail(ENOMEM);
    }
    // A reply that was refused needs no other: the kernel has given the request up.
    if (!result && !request.is_replied()) static_cast<void>(request.reply_error(result.error()));
    return result ? 0 : result.error().code;
  }
};

}  // namespace

// Not here, because the kernel then does right by itself: access (default_permissions), poll (always ready, as for
// files of any disk file system), bmap. STATX is answered in session.cc, since libfuse 3.17 does not know it.
const fuse_lowlevel_ops kOperations = [] {
  fuse_lowlevel_ops ops{};
  ops.init = init;

  ops.lookup = Run<lookup, operation_index("lookup")>::call;
  ops.forget = Run<forget, operation_index("forget")>::call;
  ops.forget_multi = Run<forget_multi, operation_index("forget_multi")>::call;
  ops.mknod = Run<mknod, operation_index("mknod")>::call;
  ops.mkdir = Run<mkdir, operation_index("mkdir")>::call;
  ops.symlink = Run<symlink, operation_index("symlink")>::call;
  ops.unlink = Run<unlink, operation_index("unlink")>::call;
  ops.rmdir = Run<rmdir, operation_index("rmdir")>::call;
  ops.rename = Run<rename, operation_index("rename")>::call;
  ops.link = Run<link, operation_index("link")>::call;

  ops.getattr = Run<getattr, operation_index("getattr")>::call;
  ops.setattr = Run<setattr, operation_index("setattr")>::call;
  ops.readlink = Run<readlink, operation_index("readlink")>::call;

  ops.open = Run<open, operation_index("open")>::call;
  ops.create = Run<create, operation_index("create")>::call;
  ops.tmpfile = Run<tmpfile, operation_index("tmpfile")>::call;
  ops.flush = Run<flush, operation_index("flush")>::call;
  ops.release = Run<release, operation_index("release")>::call;

  ops.read = Run<read, operation_index("read")>::call;
  ops.write = Run<write, operation_index("write")>::call;
  ops.fsync = Run<fsync, operation_index("fsync")>::call;
  ops.fallocate = Run<fallocate, operation_index("fallocate")>::call;
  ops.lseek = Run<lseek, operation_index("lseek")>::call;
  ops.copy_file_range = Run<copy_file_range, operation_index("copy_file_range")>::call;

  ops.opendir = Run<opendir, operation_index("opendir")>::call;
  ops.readdir = Run<readdir, operation_index("readdir")>::call;
  ops.readdirplus = Run<readdirplus, operation_index("readdirplus")>::call;
  ops.releasedir = Run<releasedir, operation_index("releasedir")>::call;
  ops.fsyncdir = Run<fsyncdir, operation_index("fsyncdir")>::call;

  ops.setxattr = Run<setxattr, operation_index("setxattr")>::call;
  ops.getxattr = Run<getxattr, operation_index("getxattr")>::call;
  ops.listxattr = Run<listxattr, operation_index("listxattr")>::call;
  ops.removexattr = Run<removexattr, operation_index("removexattr")>::call;

  ops.getlk = Run<getlk, operation_index("getlk")>::call;
  ops.setlk = Run<setlk, operation_index("setlk")>::call;
  ops.flock = Run<flock, operation_index("flock")>::call;

  ops.statfs = Run<statfs, operation_index("statfs")>::call;
  ops.ioctl = Run<ioctl, operation_index("ioctl")>::call;
  return ops;
}();

}  // namespace voldfs::fuse
