#include "tests/mount/parity.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <tuple>

#include "tests/lib/mount.h"
#include "tests/mount/calls.h"

// Every call is made on the mount and on a local directory, and must answer the same.
namespace voldfs::test {

namespace {

// Runs something as another user, in a process of its own; its transcript is one line.
void as_user(Transcript& out, const char* what, uid_t uid, gid_t gid, const std::function<int()>& run) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(gid) < 0 || ::setuid(uid) < 0) ::_exit(255);
    const int result = run();
    ::_exit(result < 0 ? errno : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  out.note(what, "errno " + std::to_string(WEXITSTATUS(status)));
}

void create_and_remove(const std::string& d, Transcript& out) {
  const int fd = out.ok("create", ::open((d + "/f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0640));
  out.ok("create again", ::open((d + "/f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0640));
  out.call("write", ::write(fd, "hello", 5));
  out.call("pread", ::pread(fd, std::string(9, 0).data(), 9, 0));
  out.stat("f", d + "/f");
  ::close(fd);
  out.ok("missing", ::open((d + "/none").c_str(), O_RDONLY));
  out.ok("below a file", ::open((d + "/f/x").c_str(), O_RDONLY));
  out.ok("directory for writing", ::open(d.c_str(), O_WRONLY));
  out.ok("O_DIRECTORY of a file", ::open((d + "/f").c_str(), O_RDONLY | O_DIRECTORY));
  out.ok("trunc", ::close(::open((d + "/f").c_str(), O_WRONLY | O_TRUNC)));
  out.stat("after O_TRUNC", d + "/f");
  out.call("unlink", ::unlink((d + "/f").c_str()));
  out.call("unlink again", ::unlink((d + "/f").c_str()));
  out.call("unlink directory", ::unlink(d.c_str()));
  out.stat("gone", d + "/f");
}

void directories(const std::string& d, Transcript& out) {
  out.call("mkdir", ::mkdir((d + "/a").c_str(), 0750));
  out.call("mkdir again", ::mkdir((d + "/a").c_str(), 0750));
  out.call("mkdir below missing", ::mkdir((d + "/x/y").c_str(), 0750));
  out.stat("a", d + "/a");
  for (int i = 0; i < 5; i++) out.call("mkdir below", ::mkdir((d + "/a/d" + std::to_string(i)).c_str(), 0755));
  for (int i = 0; i < 5; i++) make_file(d + "/a/f" + std::to_string(i));
  out.stat("a with subdirectories", d + "/a");
  out.note("list", listing(d + "/a"));
  out.call("rmdir full", ::rmdir((d + "/a").c_str()));
  out.call("rmdir of a file", ::rmdir((d + "/a/f0").c_str()));
  for (int i = 0; i < 5; i++) out.call("rmdir", ::rmdir((d + "/a/d" + std::to_string(i)).c_str()));
  out.stat("a without subdirectories", d + "/a");
  for (int i = 0; i < 5; i++) out.call("unlink", ::unlink((d + "/a/f" + std::to_string(i)).c_str()));
  out.call("rmdir empty", ::rmdir((d + "/a").c_str()));
  out.call("rmdir gone", ::rmdir((d + "/a").c_str()));
  out.call("rmdir .", ::rmdir((d + "/.").c_str()));
  out.note("list after", listing(d));
}

void setgid_directories(const std::string& d, Transcript& out) {
  ::mkdir((d + "/g").c_str(), 0755);
  out.call("chown", ::chown((d + "/g").c_str(), 1000, 1001));
  out.call("chmod", ::chmod((d + "/g").c_str(), 02775));
  make_file(d + "/g/f");
  ::mkdir((d + "/g/s").c_str(), 0755);
  out.stat("file", d + "/g/f");
  out.stat("subdirectory", d + "/g/s");
}

void renames(const std::string& d, Transcript& out) {
  for (int i = 0; i < 12; i++) make_file(d + "/s" + std::to_string(i), "s" + std::to_string(i));
  for (int i = 0; i < 6; i++) make_file(d + "/t" + std::to_string(i), "old");
  for (int i = 0; i < 12; i++)
    out.call("rename", ::rename((d + "/s" + std::to_string(i)).c_str(), (d + "/t" + std::to_string(i)).c_str()));
  for (int i = 0; i < 12; i++) out.note("content", file_of(d + "/t" + std::to_string(i)));
  out.note("list", listing(d));
  ::mkdir((d + "/a").c_str(), 0755), ::mkdir((d + "/b").c_str(), 0755), ::mkdir((d + "/b/full").c_str(), 0755);
  out.call("file onto directory", ::rename((d + "/t0").c_str(), (d + "/a").c_str()));
  out.call("directory onto file", ::rename((d + "/a").c_str(), (d + "/t0").c_str()));
  out.call("directory onto full", ::rename((d + "/a").c_str(), (d + "/b").c_str()));
  out.call("into itself", ::rename((d + "/b").c_str(), (d + "/b/full/x").c_str()));
  out.call("missing", ::rename((d + "/none").c_str(), (d + "/x").c_str()));
  out.call("directory over empty", ::rename((d + "/b").c_str(), (d + "/a").c_str()));
  out.call("into another parent", ::rename((d + "/a/full").c_str(), (d + "/moved").c_str()));
  out.call("file into another parent", ::rename((d + "/t1").c_str(), (d + "/moved/t1").c_str()));
  out.note("list moved", listing(d + "/moved"));
  out.stat("moved", d + "/moved");
  out.stat("a", d + "/a");
}

void rename_flags(const std::string& d, Transcript& out) {
  const auto rename2 = [&](const std::string& from, const std::string& to, unsigned flags) {
    return ::renameat2(AT_FDCWD, (d + "/" + from).c_str(), AT_FDCWD, (d + "/" + to).c_str(), flags);
  };
  for (int i = 0; i < 8; i++) make_file(d + "/n" + std::to_string(i), std::to_string(i));
  out.call("noreplace onto existing", rename2("n0", "n1", RENAME_NOREPLACE));
  out.call("noreplace onto new", rename2("n0", "m0", RENAME_NOREPLACE));
  for (int i = 2; i < 8; i += 2)
    out.call("exchange", rename2("n" + std::to_string(i), "n" + std::to_string(i + 1), RENAME_EXCHANGE));
  for (int i = 2; i < 8; i++) out.note("content", file_of(d + "/n" + std::to_string(i)));
  out.call("exchange with missing", rename2("n2", "none", RENAME_EXCHANGE));
  out.call("both", rename2("n2", "n3", RENAME_EXCHANGE | RENAME_NOREPLACE));
  ::mkdir((d + "/dir").c_str(), 0755);
  make_file(d + "/dir/in");
  out.call("exchange file and directory", rename2("n2", "dir", RENAME_EXCHANGE));
  out.stat("n2", d + "/n2");
  out.note("list", listing(d + "/n2"));
}

void links(const std::string& d, Transcript& out) {
  make_file(d + "/f", "linked");
  for (int i = 0; i < 8; i++) out.call("link", ::link((d + "/f").c_str(), (d + "/l" + std::to_string(i)).c_str()));
  out.call("link onto existing", ::link((d + "/f").c_str(), (d + "/l0").c_str()));
  out.call("link of a directory", ::link(d.c_str(), (d + "/x").c_str()));
  out.stat("f", d + "/f");
  struct stat a{}, b{};
  ::stat((d + "/f").c_str(), &a), ::stat((d + "/l7").c_str(), &b);
  out.note("same inode", std::to_string(a.st_ino == b.st_ino));
  out.call("unlink", ::unlink((d + "/f").c_str()));
  out.stat("l3", d + "/l3");
  out.note("content", file_of(d + "/l5"));
  out.call("rename onto own link", ::rename((d + "/l1").c_str(), (d + "/l2").c_str()));
  out.note("list", listing(d));
}

void symlinks(const std::string& d, Transcript& out) {
  out.call("symlink", ::symlink("target", (d + "/s").c_str()));
  char target[5000];
  out.call("readlink", ::readlink((d + "/s").c_str(), target, sizeof target));
  out.stat("s", d + "/s");
  out.call("long", ::symlink(std::string(4095, 'x').c_str(), (d + "/long").c_str()));
  out.call("readlink long", ::readlink((d + "/long").c_str(), target, sizeof target));
  out.call("readlink of directory", ::readlink(d.c_str(), target, sizeof target));
  out.ok("dangling", ::open((d + "/s").c_str(), O_RDONLY));
  ASSERT_EQ(::symlink("loop", (d + "/loop").c_str()), 0);
  out.ok("loop", ::open((d + "/loop").c_str(), O_RDONLY));
  out.call("lchown", ::lchown((d + "/s").c_str(), 5, 6));
  out.stat("s", d + "/s");
}

void special_files(const std::string& d, Transcript& out) {
  out.call("fifo", ::mkfifo((d + "/fifo").c_str(), 0600));
  out.call("character", ::mknod((d + "/c").c_str(), S_IFCHR | 0600, makedev(1, 3)));
  out.call("block", ::mknod((d + "/b").c_str(), S_IFBLK | 0600, makedev(259, 300)));
  out.call("socket", ::mknod((d + "/s").c_str(), S_IFSOCK | 0600, 0));
  out.call("file", ::mknod((d + "/f").c_str(), S_IFREG | 0600, 0));
  for (const char* name : {"/fifo", "/c", "/b", "/s", "/f"}) out.stat(name, d + name);
}

void names(const std::string& d, Transcript& out) {
  const std::string name255(255, 'n'), name256(256, 'n');
  make_file(d + "/" + name255);
  out.stat("255", d + "/" + name255);
  out.call("mkdir 256", ::mkdir((d + "/" + name256).c_str(), 0755));
  out.ok("create 256", ::open((d + "/" + name256).c_str(), O_CREAT | O_RDWR, 0644));
  out.call("rename to 256", ::rename((d + "/" + name255).c_str(), (d + "/" + name256).c_str()));
  out.call("rename to other 255", ::rename((d + "/" + name255).c_str(), (d + "/" + std::string(255, 'm')).c_str()));
  for (const char* odd : {"with space", "new\nline", "\xff\xfe", "..x", ".hidden", "-rf", "\xc3\xa4"}) make_file(d + "/" + odd);
  out.note("list", listing(d));
}

void attributes(const std::string& d, Transcript& out) {
  make_file(d + "/f", "12345");
  out.call("chmod", ::chmod((d + "/f").c_str(), 06755));
  out.stat("chmod", d + "/f");
  out.call("chown", ::chown((d + "/f").c_str(), 7, 8));
  out.stat("chown kills suid", d + "/f");
  out.call("truncate", ::truncate((d + "/f").c_str(), 3));
  out.call("truncate up", ::truncate((d + "/f").c_str(), 10'000));
  out.stat("truncated", d + "/f");
  out.call("truncate directory", ::truncate(d.c_str(), 3));
  out.call("truncate negative", ::truncate((d + "/f").c_str(), -1));
  const timespec times[2] = {{1'000'000'000, 123'456'789}, {-5, 0}};
  out.call("utimens", ::utimensat(AT_FDCWD, (d + "/f").c_str(), times, 0));
  struct stat found{};
  ::stat((d + "/f").c_str(), &found);
  out.note("atime", std::to_string(found.st_atim.tv_sec) + "." + std::to_string(found.st_atim.tv_nsec));
  out.note("mtime", std::to_string(found.st_mtim.tv_sec));
  const timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  out.call("utimens now", ::utimensat(AT_FDCWD, (d + "/f").c_str(), omit, 0));
  ::stat((d + "/f").c_str(), &found);
  out.note("atime kept", std::to_string(found.st_atim.tv_sec));
  out.note("mtime now", std::to_string(std::abs(found.st_mtim.tv_sec - ::time(nullptr)) < 10));
  struct statx btime{};
  out.call("statx", ::statx(AT_FDCWD, (d + "/f").c_str(), 0, STATX_BTIME, &btime));
  out.note("btime", std::to_string((btime.stx_mask & STATX_BTIME) && std::abs(btime.stx_btime.tv_sec - ::time(nullptr)) < 60));
  out.call("chmod directory", ::chmod(d.c_str(), 0711));
  const timespec old[2] = {{1, 0}, {2, 0}};
  out.call("utimens directory", ::utimensat(AT_FDCWD, d.c_str(), old, 0));
  ::stat(d.c_str(), &found);
  out.note("mtime of directory", std::to_string(found.st_mtim.tv_sec));
  make_file(d + "/g");
  ::stat(d.c_str(), &found);
  out.note("mtime after create", std::to_string(found.st_mtim.tv_sec > 1000));
}

void privileges(const std::string& d, Transcript& out) {
  ::chmod(d.c_str(), 0777);
  make_file(d + "/suid", "x", 0666);
  ASSERT_EQ(::chown((d + "/suid").c_str(), 1000, 1000), 0);
  const auto arm = [&] { ::chmod((d + "/suid").c_str(), 06777); };
  arm();
  as_user(out, "write by another", 1234, 1234, [&] {
    const int fd = ::open((d + "/suid").c_str(), O_WRONLY);
    return fd < 0 ? -1 : static_cast<int>(::write(fd, "y", 1));
  });
  out.stat("after the write", d + "/suid");
  arm();
  as_user(out, "truncate by another", 1234, 1234, [&] { return ::truncate((d + "/suid").c_str(), 0); });
  out.stat("after the truncate", d + "/suid");
  arm();
  as_user(out, "O_TRUNC by another", 1234, 1234, [&] { return ::open((d + "/suid").c_str(), O_WRONLY | O_TRUNC); });
  out.stat("after O_TRUNC", d + "/suid");
  arm();
  const int fd = ::open((d + "/suid").c_str(), O_WRONLY);
  out.call("write by root", ::write(fd, "z", 1));
  ::close(fd);
  out.stat("after root's write", d + "/suid");
  as_user(out, "chmod by another", 1234, 1234, [&] { return ::chmod((d + "/suid").c_str(), 0600); });
  as_user(out, "chown by another", 1234, 1234, [&] { return ::chown((d + "/suid").c_str(), 1234, 1234); });
  ::mkdir((d + "/closed").c_str(), 0700);
  as_user(out, "create in closed", 1234, 1234, [&] { return ::mkdir((d + "/closed/x").c_str(), 0700); });
  ::mkdir((d + "/sticky").c_str(), 01777);
  ::chmod((d + "/sticky").c_str(), 01777);
  make_file(d + "/sticky/f", "x", 0666);
  as_user(out, "unlink in sticky", 1234, 1234, [&] { return ::unlink((d + "/sticky/f").c_str()); });
  as_user(out, "create", 1234, 1235, [&] { return ::mkdir((d + "/theirs").c_str(), 0700); });
  out.stat("theirs", d + "/theirs");
  ::mkdir((d + "/sgid").c_str(), 0777);
  ASSERT_EQ(::chown((d + "/sgid").c_str(), 0, 77), 0);
  ::chmod((d + "/sgid").c_str(), 02777);
  as_user(out, "sgid file", 1234, 1235, [&] { return ::open((d + "/sgid/f").c_str(), O_CREAT | O_RDWR, 02755); });
  out.stat("sgid file", d + "/sgid/f");
}

void xattrs(const std::string& d, Transcript& out) {
  make_file(d + "/f");
  for (const std::string& path : {d + "/f", d}) {
    char value[100];
    out.call("get missing", ::getxattr(path.c_str(), "user.a", value, sizeof value));
    out.call("set", ::setxattr(path.c_str(), "user.a", "12345", 5, 0));
    out.call("create existing", ::setxattr(path.c_str(), "user.a", "1", 1, XATTR_CREATE));
    out.call("replace missing", ::setxattr(path.c_str(), "user.b", "1", 1, XATTR_REPLACE));
    out.call("replace", ::setxattr(path.c_str(), "user.a", "123", 3, XATTR_REPLACE));
    out.call("size", ::getxattr(path.c_str(), "user.a", nullptr, 0));
    out.call("too small", ::getxattr(path.c_str(), "user.a", value, 1));
    out.call("get", ::getxattr(path.c_str(), "user.a", value, sizeof value));
    out.call("empty", ::setxattr(path.c_str(), "user.e", "", 0, 0));
    out.call("trusted", ::setxattr(path.c_str(), "trusted.t", "1", 1, 0));
    out.call("unknown namespace", ::setxattr(path.c_str(), "nothing.t", "1", 1, 0));
    char list[1000];
    const ssize_t size = ::listxattr(path.c_str(), list, sizeof list);
    std::set<std::string> names;
    for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(list + at)) + 1) names.insert(list + at);
    std::string all;
    for (const std::string& name : names) all += name + " ";
    out.note("list", all);
    out.call("remove", ::removexattr(path.c_str(), "user.a"));
    out.call("remove missing", ::removexattr(path.c_str(), "user.a"));
  }
}

struct AclEntry {
  uint16_t tag, perm;
  uint32_t id;
};
std::string acl(std::initializer_list<AclEntry> entries) {
  std::string out("\2\0\0\0", 4);
  for (const AclEntry& entry : entries) out.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  return out;
}

void acls(const std::string& d, Transcript& out) {
  constexpr uint32_t kNone = 0xffffffff;
  const std::string access = acl({{1, 7, kNone}, {2, 6, 1234}, {4, 5, kNone}, {16, 7, kNone}, {32, 0, kNone}});
  make_file(d + "/f", "secret", 0600);
  out.call("set", ::setxattr((d + "/f").c_str(), "system.posix_acl_access", access.data(), access.size(), 0));
  out.stat("mask shows as group", d + "/f");
  ::chmod(d.c_str(), 0755);
  as_user(out, "named user reads", 1234, 1234, [&] { return ::open((d + "/f").c_str(), O_RDONLY); });
  as_user(out, "others do not", 1235, 1235, [&] { return ::open((d + "/f").c_str(), O_RDONLY); });
  out.call("chmod", ::chmod((d + "/f").c_str(), 0700));
  as_user(out, "mask forbids", 1234, 1234, [&] { return ::open((d + "/f").c_str(), O_RDONLY); });
  ::mkdir((d + "/dir").c_str(), 0755);
  out.call("default", ::setxattr((d + "/dir").c_str(), "system.posix_acl_default", access.data(), access.size(), 0));
  ::umask(077);
  for (int i = 0; i < 6; i++) {
    const std::string name = "/dir/f" + std::to_string(i);
    ::close(::open((d + name).c_str(), O_CREAT | O_RDWR, 0666));
    out.stat("inherits", d + name);
    char value[200];
    out.call("inherited acl", ::getxattr((d + name).c_str(), "system.posix_acl_access", value, sizeof value));
  }
  ::mkdir((d + "/dir/sub").c_str(), 0777);
  ::umask(022);
  out.stat("sub", d + "/dir/sub");
  char value[200];
  out.call("inherited default", ::getxattr((d + "/dir/sub").c_str(), "system.posix_acl_default", value, sizeof value));
  out.call("bad acl", ::setxattr((d + "/f").c_str(), "system.posix_acl_access", "xx", 2, 0));
  out.call("default on a file", ::setxattr((d + "/f").c_str(), "system.posix_acl_default", access.data(), access.size(), 0));
  out.call("remove", ::removexattr((d + "/f").c_str(), "system.posix_acl_access"));
  out.stat("without", d + "/f");
}

void inode_flags(const std::string& d, Transcript& out) {
  make_file(d + "/f");
  const int fd = ::open((d + "/f").c_str(), O_RDONLY);
  int flags = 0;
  out.call("get", ::ioctl(fd, FS_IOC_GETFLAGS, &flags));
  flags |= FS_NODUMP_FL;
  out.call("set", ::ioctl(fd, FS_IOC_SETFLAGS, &flags));
  flags = 0;
  out.call("get", ::ioctl(fd, FS_IOC_GETFLAGS, &flags));
  out.note("nodump", std::to_string((flags & FS_NODUMP_FL) != 0));
  out.call("unknown", ::ioctl(fd, _IO('Z', 99), 0));
  ::close(fd);
}

void seek_in_directory(const std::string& d, Transcript& out) {
  for (int i = 0; i < 300; i++) make_file(d + "/f" + std::to_string(i));
  DIR* const dir = ::opendir(d.c_str());
  std::vector<std::pair<long, std::string>> seen;
  for (;;) {
    const long at = ::telldir(dir);
    const dirent* const entry = ::readdir(dir);
    if (!entry) break;
    seen.emplace_back(at, entry->d_name);
  }
  out.note("entries", std::to_string(seen.size()));
  int wrong = 0;
  for (size_t i = 0; i < seen.size(); i += 7) {
    ::seekdir(dir, seen[i].first);
    const dirent* const entry = ::readdir(dir);
    wrong += !entry || seen[i].second != entry->d_name;
  }
  out.note("wrong after seekdir", std::to_string(wrong));
  for (int i = 0; i < 300; i++) ::unlink((d + "/f" + std::to_string(i)).c_str());
  ::rewinddir(dir);
  int left = 0;
  while (::readdir(dir)) left++;
  out.note("after rewind", std::to_string(left));
  ::closedir(dir);
}

const ParityCase kCases[] = {
    {"CreateAndRemove", create_and_remove}, {"Directories", directories}, {"SetgidDirectories", setgid_directories},
    {"Renames", renames}, {"RenameFlags", rename_flags}, {"Links", links}, {"Symlinks", symlinks},
    {"SpecialFiles", special_files}, {"Names", names}, {"Attributes", attributes}, {"Privileges", privileges},
    {"Xattrs", xattrs}, {"Acls", acls}, {"InodeFlags", inode_flags}, {"SeekInDirectory", seek_in_directory},
};

// On the bricks' host, where file data passes by the daemon, and as on another one; and there through the daemon too.
struct Way {
  const char *name, *options;
};
const Way kLocal{"Local", ""}, kTcp{"Tcp", "transport=tcp"}, kDaemon{"Daemon", "passthrough=off"};
using Case = std::tuple<ParityCase, Way>;

// Of volumes; by hand also others, VOLDFS_TEST_BRICKS.
size_t bricks() {
  const char* const wanted = std::getenv("VOLDFS_TEST_BRICKS");
  return wanted ? std::strtoul(wanted, nullptr, 10) : 2;
}

std::string differences(const std::vector<std::string>& local, const std::vector<std::string>& mounted) {
  constexpr int kShown = 20;
  int differ = 0;
  std::string out;
  for (size_t i = 0; i < std::max(local.size(), mounted.size()); i++) {
    const std::string a = i < local.size() ? local[i] : "(nothing)", b = i < mounted.size() ? mounted[i] : "(nothing)";
    if (a != b && ++differ <= kShown) out += "  local: " + a + "\n  mount: " + b + "\n";
  }
  return differ ? std::to_string(differ) + " of " + std::to_string(local.size()) + " lines differ\n" + out : "";
}

void compare(const Case& each) {
  MountedVolume volume(bricks());
  Transcript local, mounted;
  const auto& [calls, way] = each;
  const std::string there = volume.native() / "case", here = volume.mount(way.options) / "case";
  ASSERT_EQ(::mkdir(there.c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(here.c_str(), 0755), 0) << std::strerror(errno) << volume.logs();
  ::umask(022);
  calls.run(there, local);
  calls.run(here, mounted);
  EXPECT_EQ(differences(local.lines(), mounted.lines()), "") << volume.logs();
}

class Parity : public testing::TestWithParam<Case> {};
class ParitySlow : public testing::TestWithParam<Case> {};  // thousands of calls
TEST_P(Parity, SameCalls_AnswerAsOnTheLocalFileSystem) { compare(GetParam()); }
TEST_P(ParitySlow, SameCalls_AnswerAsOnTheLocalFileSystem) { compare(GetParam()); }

const auto name_of = [](const testing::TestParamInfo<Case>& info) {
  return std::string(std::get<0>(info.param).name) + std::get<1>(info.param).name;
};
auto by(std::vector<Way> ways, const std::vector<ParityCase>& cases) {
  return testing::Combine(testing::ValuesIn(cases), testing::ValuesIn(ways));
}
// Over TCP goes most of the way of a request; the other ways take their time.
const std::vector<Way> kQuickWay{kTcp}, kOtherWays{kLocal, kDaemon}, kAllWays{kLocal, kTcp, kDaemon};
const std::vector<ParityCase> kAllCases{std::begin(kCases), std::end(kCases)};
INSTANTIATE_TEST_SUITE_P(All, Parity, by({kLocal, kTcp}, kAllCases), name_of);
INSTANTIATE_TEST_SUITE_P(Content, Parity, by({kLocal, kTcp}, kContentCases), name_of);
INSTANTIATE_TEST_SUITE_P(Times, Parity, by(kQuickWay, kTimeCases), name_of);
INSTANTIATE_TEST_SUITE_P(Permissions, Parity, by(kQuickWay, kPermissionCases), name_of);
INSTANTIATE_TEST_SUITE_P(Sticky, Parity, by(kQuickWay, kStickyCases), name_of);
INSTANTIATE_TEST_SUITE_P(All, ParitySlow, by({kDaemon}, kAllCases), name_of);
INSTANTIATE_TEST_SUITE_P(Content, ParitySlow, by({kDaemon}, kContentCases), name_of);
INSTANTIATE_TEST_SUITE_P(Times, ParitySlow, by(kOtherWays, kTimeCases), name_of);
INSTANTIATE_TEST_SUITE_P(Permissions, ParitySlow, by(kOtherWays, kPermissionCases), name_of);
INSTANTIATE_TEST_SUITE_P(Sticky, ParitySlow, by(kOtherWays, kStickyCases), name_of);
INSTANTIATE_TEST_SUITE_P(Paths, ParitySlow, by(kAllWays, kPathCases), name_of);
INSTANTIATE_TEST_SUITE_P(Opens, ParitySlow, by(kAllWays, kOpenCases), name_of);
INSTANTIATE_TEST_SUITE_P(Renames, ParitySlow, by(kAllWays, kRenameCases), name_of);
INSTANTIATE_TEST_SUITE_P(Xattrs, ParitySlow, by(kAllWays, kXattrCases), name_of);

}  // namespace
}  // namespace voldfs::test
