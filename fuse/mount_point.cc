#include "fuse/mount_point.h"

#include <fcntl.h>
#include <mntent.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr char kType[] = "fuse.voldfs";

Explained<std::string> absolute_directory(const std::string& directory) {
  char path[PATH_MAX];
  struct stat found{};
  if (!::realpath(directory.c_str(), path)) return explain("mount point " + directory + ": " + std::strerror(errno));
  if (::stat(path, &found) < 0) return explain("mount point " + directory + ": " + std::strerror(errno));
  if (!S_ISDIR(found.st_mode)) return explain("mount point " + directory + " is not a directory");
  return std::string(path);
}

}  // namespace

Explained<MountPoint> MountPoint::mount(const std::string& directory, const MountPointOptions& options) {
  MountPoint point;
  auto path = absolute_directory(directory);
  if (!path) return explain(std::move(path.error()));
  point.directory_ = std::move(*path);
  point.device_.reset(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!point.device_)
    return explain(std::string("cannot open /dev/fuse: ") + std::strerror(errno) + "; is the kernel's fuse module loaded (modprobe fuse)?");

  std::string data = "fd=" + std::to_string(point.device_.get()) +
                     ",rootmode=40000,user_id=0,group_id=0,default_permissions,max_read=" + std::to_string(kPayloadMax);
  if (options.allow_other) data += ",allow_other";
  if (!options.contexts.empty()) data += "," + options.contexts;
  if (::mount(options.source.c_str(), point.directory_.c_str(), kType, options.flags, data.c_str()) < 0)
    return explain("cannot mount on " + point.directory_ + ": " + std::strerror(errno) +
                   (errno == EPERM ? "; mounting needs root" : ""));
  return point;
}

Explained<void> MountPoint::check() const {
  struct stat root{};
  struct statvfs space{};
  if (::stat(directory_.c_str(), &root) < 0)
    return explain("the root of the mount does not answer: " + std::string(std::strerror(errno)));
  if (::statvfs(directory_.c_str(), &space) < 0)
    return explain("statfs of the mount fails: " + std::string(std::strerror(errno)));
  return {};
}

void MountPoint::set_readahead(unsigned kib) const {
  struct stat root{};
  if (::stat(directory_.c_str(), &root) < 0) return;
  const std::string path = "/sys/class/bdi/" + std::to_string(major(root.st_dev)) + ":" + std::to_string(minor(root.st_dev)) + "/read_ahead_kb";
  unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string value = std::to_string(kib);
  if (!file || ::write(file.get(), value.data(), value.size()) < 0)
    spdlog::debug("mount.readahead left as it is path={} error=\"{}\"", path, std::strerror(errno));
}

void MountPoint::unmount() const {
  if (::umount2(directory_.c_str(), UMOUNT_NOFOLLOW) == 0 || errno != EBUSY) return;
  if (unique_fd root(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); root) ::syncfs(root.get());
  // EBUSY again, but fuse_umount_begin() has ended the connection: nobody waits for us any more.
  if (::umount2(directory_.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW) == 0) return;
  if (::umount2(directory_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
    spdlog::error("mount.unmount failed directory={} error=\"{}\"", directory_, std::strerror(errno));
}

bool is_mounted(const std::string& directory) {
  char path[PATH_MAX];
  if (!::realpath(directory.c_str(), path)) return false;
  const std::unique_ptr<FILE, int (*)(FILE*)> mounts(::setmntent("/proc/self/mounts", "r"), ::endmntent);
  if (!mounts) return false;
  bool found = false;  // the last one is on top
  while (const mntent* entry = ::getmntent(mounts.get()))
    if (std::strcmp(entry->mnt_dir, path) == 0) found = std::strcmp(entry->mnt_type, kType) == 0;
  return found;
}

}  // namespace voldfs::fuse
