#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "tests/mount/calls.h"

// open(2)'s flags against everything that can be opened; programs run from the mount; pipes and sockets used.
namespace voldfs::test {
namespace {

void flags_and_types(const std::string& d, Transcript& out) {
  Calls c(d, out);
  constexpr int kFlags[] = {O_RDONLY,
                            O_WRONLY,
                            O_RDWR,
                            O_CREAT | O_RDONLY,
                            O_CREAT | O_EXCL | O_RDWR,
                            O_TRUNC | O_WRONLY,
                            O_TRUNC | O_RDONLY,
                            O_CREAT | O_TRUNC | O_RDWR,
                            O_APPEND | O_WRONLY,
                            O_DIRECTORY,
                            O_DIRECTORY | O_RDWR,
                            O_DIRECTORY | O_CREAT,
                            O_NOFOLLOW,
                            O_NOFOLLOW | O_CREAT | O_RDWR,
                            O_PATH,
                            O_PATH | O_NOFOLLOW,
                            O_NOATIME,
                            O_SYNC | O_RDWR,
                            O_DSYNC | O_RDWR,
                            O_DIRECT | O_RDONLY,
                            O_DIRECT | O_RDWR,
                            O_TMPFILE | O_RDWR,
                            O_TMPFILE | O_WRONLY | O_EXCL,
                            O_TMPFILE,
                            O_ACCMODE,
                            O_CREAT | O_ACCMODE,
                            O_ASYNC | O_RDWR};
  for (const char type : {'f', 'd', 's', 'p', 'k', 'c', '-'})
    for (const int flags : kFlags) {
      c.make(type, "x");
      c.create("x", flags | O_NONBLOCK);
      c.look("x");
      c.clear("x"), c.clear("nowhere");
    }
  for (const char* target : {"file", "directory", "pipe"})
    for (const int flags : kFlags) {
      c.make('f', "file"), c.make('d', "directory"), c.make('p', "pipe");
      if (::symlink(target, c.path("x").c_str()) < 0) c.note("symlink", -1);
      c.create("x", flags | O_NONBLOCK);
      c.look(target);
      for (const char* name : {"x", "file", "directory", "pipe"})
        c.clear(name);
    }
}

void descriptor_of_path(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.file("f");
  const int fd = ::open(c.path("f").c_str(), O_PATH);
  char buffer[4];
  struct stat found {};
  c.note("read", ::read(fd, buffer, 1)), c.note("write", ::write(fd, "x", 1)),
      c.note("fchmod", ::fchmod(fd, 0600));
  c.note("fchown", ::fchown(fd, 1, 1)), c.note("fstat", ::fstat(fd, &found)),
      c.note("ftruncate", ::ftruncate(fd, 0));
  c.note("fsync", ::fsync(fd)),
      c.note("linkat", ::linkat(fd, "", AT_FDCWD, c.path("l").c_str(), AT_EMPTY_PATH));
  const int again = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR);
  c.note("open again", again), c.note("write again", ::write(again, "y", 1));
  c.unlink("f");
  const int gone = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR);
  c.note("open again by the other name", gone);
  c.unlink("l");
  const int nameless = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR);
  c.note("open without a name", nameless), c.note("read", ::pread(nameless, buffer, 1, 0));
  for (const int each : {fd, again, gone, nameless})
    ::close(each);
}

void copy_program(Calls& c, const char* from, std::string_view to) {
  const int in = ::open(from, O_RDONLY),
            into = ::open(c.path(to).c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0755);
  char buffer[1 << 16];
  for (ssize_t size; (size = ::read(in, buffer, sizeof buffer)) > 0;)
    if (::write(into, buffer, static_cast<size_t>(size)) != size) c.note("copy", -1);
  ::close(in), ::close(into);
}

int run_program(const std::string& path, const char* argument) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl(path.c_str(), path.c_str(), argument, nullptr);
    ::_exit(errno);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void programs(const std::string& d, Transcript& out) {
  Calls c(d, out);
  copy_program(c, "/bin/sleep", "sleep");
  copy_program(c, "/bin/true", "true");
  out.note("run", std::to_string(run_program(c.path("true"), "")));
  c.chmod("true", 0644);
  out.note("run without x", std::to_string(run_program(c.path("true"), "")));
  c.file("script", 0755, "#!/bin/sh\nexit 7\n");
  out.note("script", std::to_string(run_program(c.path("script"), "")));
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl(c.path("sleep").c_str(), "sleep", "100", nullptr);
    ::_exit(1);
  }
  char target[4096] = {};
  for (int i = 0; i < 5000; i++) {  // until it runs
    const ssize_t size =
        ::readlink(("/proc/" + std::to_string(child) + "/exe").c_str(), target, sizeof target - 1);
    if (size > 0 && std::string_view(target, static_cast<size_t>(size)).ends_with("/sleep")) break;
    ::usleep(1000);
  }
  // Not O_RDONLY | O_TRUNC, which empties the running program (fuse/README.md).
  c.create("sleep", O_WRONLY), c.create("sleep", O_RDWR), c.create("sleep", O_WRONLY | O_TRUNC);
  c.create("sleep", O_RDONLY), c.truncate("sleep", 1), c.create("sleep", O_CREAT | O_RDWR),
      c.chmod("sleep", 0700), c.link("sleep", "l");
  c.create("l", O_WRONLY), c.rename("sleep", "s"), c.unlink("s"), c.unlink("l");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  copy_program(c, "/bin/true", "busy");
  const int writing = ::open(c.path("busy").c_str(), O_WRONLY);
  out.note("run while it is written", std::to_string(run_program(c.path("busy"), "")));
  ::close(writing);
  out.note("run afterwards", std::to_string(run_program(c.path("busy"), "")));
}

void pipes_and_sockets(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.make('p', "p");
  c.create("p", O_WRONLY | O_NONBLOCK);
  const int reader = ::open(c.path("p").c_str(), O_RDONLY | O_NONBLOCK),
            writer = ::open(c.path("p").c_str(), O_WRONLY);
  char buffer[10] = {};
  out.call("write", ::write(writer, "through", 7)), out.call("read", ::read(reader, buffer, sizeof buffer));
  out.note("got", buffer);
  ::close(reader), ::close(writer);

  if (::chdir(d.c_str()) < 0) return void(c.note("chdir", -1));  // a socket's path is short
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "sock");
  const int server = ::socket(AF_UNIX, SOCK_STREAM, 0), client = ::socket(AF_UNIX, SOCK_STREAM, 0);
  c.note("bind", ::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address));
  c.look("sock");
  c.note("listen", ::listen(server, 1)),
      c.note("connect", ::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
  const int accepted = ::accept(server, nullptr, nullptr);
  c.note("accept", accepted);
  out.call("send", ::write(client, "socket", 6)),
      out.call("receive", ::read(accepted, buffer, sizeof buffer));
  const int second = ::socket(AF_UNIX, SOCK_STREAM, 0);
  c.note("bind again", ::bind(second, reinterpret_cast<sockaddr*>(&address), sizeof address));
  c.rename("sock", "moved");
  std::strcpy(address.sun_path, "moved");
  c.note("connect by the new name", ::connect(second, reinterpret_cast<sockaddr*>(&address), sizeof address));
  for (const int fd : {server, client, accepted, second})
    ::close(fd);
  c.note("chdir", ::chdir("/"));
}

void devices(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.mknod("null", S_IFCHR | 0666, makedev(1, 3)), c.mknod("zero", S_IFCHR | 0666, makedev(1, 5)),
      c.mknod("none", S_IFCHR | 0666, makedev(240, 77));
  for (const dev_t device :
       {makedev(0, 0), makedev(255, 255), makedev(256, 256), makedev(4095, 1'048'575), makedev(1, 65'536)}) {
    const std::string name = "d" + std::to_string(device);
    for (const mode_t type : {S_IFCHR, S_IFBLK})
      c.mknod(name, type | 0600, device), c.look(name), c.clear(name);
  }
  const int null = ::open(c.path("null").c_str(), O_RDWR), zero = ::open(c.path("zero").c_str(), O_RDONLY);
  char buffer[4];
  out.call("write to null", ::write(null, "abc", 3)), out.call("read of zero", ::read(zero, buffer, 4));
  ::close(null), ::close(zero);
  c.create("none", O_RDWR);
  c.as(65'534, {65'534}, [](Calls& who) {
    ::mkdir(who.path("theirs").c_str(), 0755);
    who.mknod("c", S_IFCHR | 0600, makedev(1, 3)), who.mknod("b", S_IFBLK | 0600, makedev(1, 3));
  });
  for (const mode_t type : {mode_t{S_IFDIR}, mode_t{S_IFLNK}, mode_t{0}, mode_t{0170000}, mode_t{0130000}})
    c.mknod("odd", type | 0600), c.look("odd"), c.clear("odd");
}

void inode_flags(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const long flag : {long{FS_IMMUTABLE_FL}, long{FS_APPEND_FL}})
    for (const char type : {'f'}) {  // not of directories, which the mount refuses
      const std::string name = "x" + std::to_string(flag) + type;
      c.make(type, name);
      c.make('f', "other");
      const int before = ::open(c.path(name).c_str(), type == 'f' ? O_RDWR : O_RDONLY);
      long flags = 0;
      c.note("get", ::ioctl(before, FS_IOC_GETFLAGS, &flags));
      flags |= flag;
      c.note("set", ::ioctl(before, FS_IOC_SETFLAGS, &flags));
      for (const int open_flags :
           {O_RDONLY, O_WRONLY, O_WRONLY | O_APPEND, O_WRONLY | O_APPEND | O_TRUNC, O_RDWR | O_TRUNC})
        if (type == 'f') c.create(name, open_flags);
      c.chmod(name, 0700), c.chown(name, 1, 1), c.truncate(name, 0), c.utimens(name, -1, -1),
          c.utimens(name, 5, 5);
      c.link(name, "l"), c.rename(name, "r"), c.rename("other", name), c.unlink(name);
      c.file(name + "/new"), c.mkdir(name + "/d"), c.unlink(name + "/in"),
          c.rename(name + "/in", name + "/moved"), c.rename(name + "/in", "out");
      c.rename("other", name + "/other"), c.symlink("t", name + "/s"), c.mknod(name + "/p", S_IFIFO | 0600),
          c.link("other", name + "/l");
      if (type == 'f') {
        const int appending = ::open(c.path(name).c_str(), O_WRONLY | O_APPEND);
        c.note("append", ::write(appending, "x", 1)),
            c.note("write of an old descriptor", ::write(before, "x", 1));
        c.note("ftruncate of an old descriptor", ::ftruncate(before, 0)),
            c.note("fallocate", ::fallocate(before, 0, 0, 9'000));
        ::close(appending);
      }
      c.as(65'534, {65'534}, [&](Calls& who) {
        const int fd = ::open(who.path(name).c_str(), O_RDONLY);
        long none = 0;
        who.note("set by another", ::ioctl(fd, FS_IOC_SETFLAGS, &none));
      });
      flags &= ~flag;
      c.note("unset", ::ioctl(before, FS_IOC_SETFLAGS, &flags));
      ::close(before);
      c.list(), c.list(name);
      c.clear(name), c.clear("other"), c.clear("out"), c.clear("l"), c.clear("r");
    }
}

void errors_of_descriptors(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.file("f", 0644, "content");
  const int reading = ::open(c.path("f").c_str(), O_RDONLY), writing = ::open(c.path("f").c_str(), O_WRONLY),
            dir = ::open(d.c_str(), O_RDONLY);
  char buffer[100];
  for (const int fd : {reading, writing, dir}) {
    c.note("read", ::read(fd, buffer, 5)), c.note("write", ::write(fd, "x", 1)),
        c.note("pread negative", ::pread(fd, buffer, 5, -1));
    c.note("pwrite negative", ::pwrite(fd, "x", 1, -1)), c.note("ftruncate", ::ftruncate(fd, 5)),
        c.note("fallocate", ::fallocate(fd, 0, 0, 5));
    c.note("seek negative", ::lseek(fd, -1, SEEK_SET)), c.note("seek odd", ::lseek(fd, 0, 77)),
        c.note("seek data", ::lseek(fd, 0, SEEK_DATA));
    c.note("seek hole", ::lseek(fd, 0, SEEK_HOLE)), c.note("fsync", ::fsync(fd)),
        c.note("fdatasync", ::fdatasync(fd)),
        c.note("mmap shared",
               ::mmap(nullptr, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    c.note("mmap private",
           ::mmap(nullptr, 10, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
    c.note("copy", ::copy_file_range(fd, nullptr, fd, nullptr, 2, 0));
    pollfd poll{fd, POLLIN | POLLOUT, 0};
    out.call("poll", ::poll(&poll, 1, 0));
    out.note("events", std::to_string(poll.revents));
    int available = 0;
    c.note("FIONREAD", ::ioctl(fd, FIONREAD, &available));
    c.note("FIBMAP", ::ioctl(fd, FIBMAP, &available)), c.note("TCGETS", ::isatty(fd) ? 0 : -1);
    c.note("posix_fadvise", ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)),
        c.note("readahead", ::readahead(fd, 0, 100));
    c.note("sync_file_range",
           ::sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    for (const int lease : {F_RDLCK, F_WRLCK, F_UNLCK})
      c.note("lease " + std::to_string(lease), ::fcntl(fd, F_SETLEASE, lease));
    c.note("notify", ::fcntl(fd, F_NOTIFY, 0));
  }
  for (const int fd : {reading, writing, dir})
    ::close(fd);
}

}  // namespace

const std::vector<ParityCase> kOpenCases = {
    {"OpenFlags", flags_and_types},
    {"OpenPath", descriptor_of_path},
    {"OpenPrograms", programs},
    {"OpenPipesAndSockets", pipes_and_sockets},
    {"OpenDevices", devices},
    {"OpenInodeFlags", inode_flags},
    {"OpenErrors", errors_of_descriptors},
};

}  // namespace voldfs::test
