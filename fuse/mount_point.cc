#include "fuse/mount_point.h"

#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr char kType[] = "fuse.voldfs";

// Something that asks this mount, in a process of its own. Who waits for an answer of his own process waits for ever where that is being
// killed: the threads that would answer go first, and the kernel ends the connection only when all have gone.
class Apart {
 public:
  // `ask` makes system calls alone; the result is its errno.
  template <class Ask>
  explicit Apart(const Ask& ask) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::close_range(STDERR_FILENO + 1, UINT_MAX, 0);  // the connection above all
    ::_exit(ask());
  }
  // By then the connection has ended, or there is an answer.
  ~Apart() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Apart(const Apart&) = delete;
  Apart& operator=(const Apart&) = delete;

  // ETIMEDOUT: not within so many milliseconds; -1: however long it takes.
  int wait(int milliseconds) {
    if (pid_ < 0) return EAGAIN;
    const unique_fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    pollfd ready{process.get(), POLLIN, 0};
    while (::poll(&ready, 1, milliseconds) < 0)
      if (errno != EINTR) return errno;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return ETIMEDOUT;
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
  }

 private:
  pid_t pid_;
};

int answer(int result) { return result < 0 ? errno : 0; }

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
  Apart root([this] {
    struct stat found{};
    return answer(::stat(directory_.c_str(), &found));
  });
  if (const int error = root.wait(-1); error != 0) return explain("the root of the mount does not answer: " + std::string(std::strerror(error)));
  Apart space([this] {
    struct statvfs found{};
    return answer(::statvfs(directory_.c_str(), &found));
  });
  if (const int error = space.wait(-1); error != 0) return explain("statfs of the mount fails: " + std::string(std::strerror(error)));
  return {};
}

void MountPoint::set_readahead(unsigned kib) const {
  struct statx root{};  // of the device alone, which the mount is not asked for
  if (::statx(AT_FDCWD, directory_.c_str(), AT_STATX_DONT_SYNC, 0, &root) < 0) return;
  const std::string path = "/sys/class/bdi/" + std::to_string(root.stx_dev_major) + ":" + std::to_string(root.stx_dev_minor) + "/read_ahead_kb";
  unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string value = std::to_string(kib);
  if (!file || ::write(file.get(), value.data(), value.size()) < 0)
    spdlog::debug("mount.readahead left as it is path={} error=\"{}\"", path, std::strerror(errno));
}

void MountPoint::unmount() const {
  if (::umount2(directory_.c_str(), UMOUNT_NOFOLLOW) == 0 || errno != EBUSY) return;
  Apart sync([this] {
    const int root = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return answer(root < 0 ? root : ::syncfs(root));
  });
  if (const int error = sync.wait(kSyncWaitMs); error != 0)
    spdlog::warn("mount.unmount without all mapped pages written directory={} error=\"{}\"", directory_, std::strerror(error));
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
