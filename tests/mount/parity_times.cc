#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/calls.h"

// Which times an operation changes, of what it works on and of the directories around.
namespace voldfs::test {
namespace {

void making(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 4; i++) {  // enough names to meet every brick
    const std::string w = "w" + std::to_string(i);
    c.make('d', w);
    c.make('f', w + "/target");
    const auto at = [&](const char* name) { return w + "/" + name; };
    c.times("open to create", {w, at("f")}, [&] { c.create(at("f"), O_CREAT | O_WRONLY); });
    c.times("open of what is there", {w, at("f")}, [&] { c.create(at("f"), O_CREAT | O_WRONLY); });
    c.times("refused open", {w, at("f")}, [&] { c.create(at("f"), O_CREAT | O_EXCL | O_WRONLY); });
    c.times("mkdir", {w, at("d")}, [&] { c.mkdir(at("d")); });
    c.times("refused mkdir", {w, at("d")}, [&] { c.mkdir(at("d")); });
    c.times("mkfifo", {w, at("p")}, [&] { c.mknod(at("p"), S_IFIFO | 0600); });
    c.times("mknod", {w, at("c")}, [&] { c.mknod(at("c"), S_IFCHR | 0600, 0x103); });
    c.times("symlink", {w, at("s")}, [&] { c.symlink("target", at("s")); });
    c.times("link", {w, at("target"), at("l")}, [&] { c.link(at("target"), at("l")); });
    c.times("refused link", {w, at("target"), at("l")}, [&] { c.link(at("target"), at("l")); });
    for (const char* name : {"f", "p", "c", "s", "l"})
      c.times(std::string("unlink of ") + name, {w, at("target")}, [&] { c.unlink(at(name)); });
    c.times("rmdir", {w}, [&] { c.rmdir(at("d")); });
    c.times("refused rmdir", {w}, [&] { c.rmdir(at("d")); });
    const int fd = ::open(c.path(at("target")).c_str(), O_RDONLY);
    struct stat before {
    }, after{};
    ::fstat(fd, &before);
    c.times("last unlink", {w}, [&] { c.unlink(at("target")); });
    ::fstat(fd, &after);
    out.note("ctime of what is unlinked", std::to_string(before.st_ctim.tv_nsec != after.st_ctim.tv_nsec ||
                                                         before.st_ctim.tv_sec != after.st_ctim.tv_sec));
    ::close(fd);
  }
}

void renaming(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.make('d', "a"), c.make('d', "b");
  for (const char type : {'f', 'd', 's', 'p'})
    for (int i = 0; i < 4; i++) {
      const std::string x = "a/x" + std::to_string(i), y = "a/y" + std::to_string(i),
                        z = "b/z" + std::to_string(i), v = "b/v" + std::to_string(i);
      c.make(type, x);
      c.times("rename", {"a", "b", x, y}, [&] { c.rename(x, y); });
      c.times("rename into another", {"a", "b", y, z}, [&] { c.rename(y, z); });
      c.make(type, v);
      c.times("rename over", {"a", "b", z, v}, [&] { c.rename(z, v); });
      c.make(type, x);
      c.times("exchange", {"a", "b", x, v}, [&] { c.rename(x, v, RENAME_EXCHANGE); });
      c.times("refused", {"a", "b", x, v}, [&] { c.rename(x, v, RENAME_NOREPLACE); });
      c.times("onto itself", {"a", "b", x, v}, [&] { c.rename(x, x); });
      if (type != 'd') {
        c.link(x, y);
        c.times("onto its own link", {"a", "b", x, y}, [&] { c.rename(x, y); });
      }
      c.clear(x), c.clear(y), c.clear(v);
    }
}

void changing_attributes(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : kTypes) {
    c.make(type, "x");
    if (type != 's') {
      c.times("chmod", {"x", "."}, [&] { c.chmod("x", 0711); });
      c.times("chmod to the same", {"x"}, [&] { c.chmod("x", 0711); });
      c.times("setxattr", {"x"},
              [&] { c.note("set", ::setxattr(c.path("x").c_str(), "trusted.t", "1", 1, 0)); });
      c.times("getxattr", {"x"}, [&] {
        char v[10];
        c.note("get", ::getxattr(c.path("x").c_str(), "trusted.t", v, sizeof v));
      });
      c.times("removexattr", {"x"},
              [&] { c.note("remove", ::removexattr(c.path("x").c_str(), "trusted.t")); });
      c.times("refused removexattr", {"x"},
              [&] { c.note("remove", ::removexattr(c.path("x").c_str(), "trusted.t")); });
    }
    c.times("chown", {"x", "."}, [&] { c.lchown("x", 5, 6); });
    c.times("chown to the same", {"x"}, [&] { c.lchown("x", 5, 6); });
    c.times("chown of nothing", {"x"}, [&] { c.lchown("x", -1, -1); });
    c.times("refused chown", {"x"},
            [&] { c.as(65'534, {65'534}, [](Calls& who) { who.lchown("x", 65'534, -1); }); });
    c.times("utimens", {"x", "."}, [&] { c.utimens("x", 1000, 2000, AT_SYMLINK_NOFOLLOW); });
    c.times("utimens atime", {"x"}, [&] { c.utimens("x", 1500, -2, AT_SYMLINK_NOFOLLOW); });
    c.times("utimens mtime", {"x"}, [&] { c.utimens("x", -2, 1700, AT_SYMLINK_NOFOLLOW); });
    c.times("utimens now", {"x"}, [&] { c.utimens("x", -1, -1, AT_SYMLINK_NOFOLLOW); });
    c.times("utimens of nothing", {"x"}, [&] { c.utimens("x", -2, -2, AT_SYMLINK_NOFOLLOW); });
    c.clear("x");
  }
}

void changing_content(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 3; i++) {
    const std::string x = "x" + std::to_string(i);
    c.file(x, 0644, "content");
    const int fd = ::open(c.path(x).c_str(), O_RDWR);
    char buffer[100];
    const auto timed = [&](const char* what, const std::function<long()>& run) {
      c.times(what, {x, "."}, [&] { c.note(what, run()); });
    };
    timed("write", [&] { return ::write(fd, "y", 1); });
    timed("empty write", [&] { return ::write(fd, "", 0); });
    timed("read", [&] { return ::pread(fd, buffer, sizeof buffer, 0); });
    timed("read again", [&] { return ::pread(fd, buffer, sizeof buffer, 0); });
    timed("truncate", [&] { return ::truncate(c.path(x).c_str(), 3); });
    timed("truncate to its size", [&] { return ::truncate(c.path(x).c_str(), 3); });
    timed("ftruncate", [&] { return ::ftruncate(fd, 0); });
    timed("ftruncate to its size", [&] { return ::ftruncate(fd, 0); });
    timed("refused truncate", [&] { return ::ftruncate(fd, -1); });
    timed("open to truncate", [&] { return ::close(::open(c.path(x).c_str(), O_WRONLY | O_TRUNC)); });
    timed("fallocate", [&] { return ::fallocate(fd, 0, 0, 10'000); });
    timed("fallocate keep", [&] { return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20'000); });
    timed("punch", [&] { return ::fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 5'000); });
    timed("zero", [&] { return ::fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 5'000); });
    timed("append", [&] {
      const int end = ::open(c.path(x).c_str(), O_WRONLY | O_APPEND);
      const long written = ::write(end, "z", 1);
      ::close(end);
      return written;
    });
    timed("mapped write", [&] {
      char* const map = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
      map[0] = 'm';
      return ::msync(map, 4096, MS_SYNC) + ::munmap(map, 4096);
    });
    timed("fsync", [&] { return ::fsync(fd); });
    ::close(fd);
    timed("stat and open", [&] { return ::close(::open(c.path(x).c_str(), O_RDONLY)); });
  }
}

void reading_directories(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.make('d', "w");
  c.make('f', "w/x");
  c.symlink("x", "w/s");
  for (int i = 0; i < 2; i++) {
    c.times("listing", {"w"}, [&] { c.list("w"); });
    c.times("readlink", {"w/s"}, [&] {
      char t[10];
      c.note("readlink", ::readlink(c.path("w/s").c_str(), t, sizeof t));
    });
    c.times("following", {"w/s"}, [&] { c.access("w/s", R_OK); });
  }
}

// Times at the ends of what can be said.
void extreme_times(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : {'f', 'd'}) {
    c.make(type, "x");
    for (const long second : {0L, 1L, -3L, -1'000'000L, 0x7fffffffL, 0x80000000L, 0xffffffffL, 0x100000000L,
                              0x37fffffffL, 0x380000000L, -0x80000000L, -0x80000001L})
      for (const long nanosecond : {0L, 1L, 999'999'999L, 1'000'000'000L, -1L}) {
        const timespec times[2] = {{second, nanosecond}, {second, nanosecond}};
        c.note("utimens " + std::to_string(second) + "." + std::to_string(nanosecond),
               ::utimensat(AT_FDCWD, c.path("x").c_str(), times, 0));
        struct stat found {};
        ::stat(c.path("x").c_str(), &found);
        out.note("atime", std::to_string(found.st_atim.tv_sec) + "." + std::to_string(found.st_atim.tv_nsec));
        out.note("mtime", std::to_string(found.st_mtim.tv_sec) + "." + std::to_string(found.st_mtim.tv_nsec));
      }
    c.clear("x");
  }
}

}  // namespace

const std::vector<ParityCase> kTimeCases = {
    {"TimesMaking", making},
    {"TimesRenaming", renaming},
    {"TimesAttributes", changing_attributes},
    {"TimesContent", changing_content},
    {"TimesReadingDirectories", reading_directories},
    {"TimesExtreme", extreme_times},
};

}  // namespace voldfs::test
