#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/mount/calls.h"

// rename(2): everything onto everything, with every flag, in one directory and between two.
namespace voldfs::test {
namespace {

constexpr char kKinds[] = {'f', 'd', 'D', 's', 'p', 'k', 'c', '-'};

void look_below(Calls& c, const std::string& name) {
  c.look(name);
  if (::access(c.path(name + "/in").c_str(), F_OK) == 0) c.look(name + "/in");
}

void matrix(const std::string& d, Transcript& out, bool two_directories) {
  Calls c(d, out);
  c.make('d', "a"), c.make('d', "b");
  const std::string other = two_directories ? "b/" : "a/";
  int count = 0;
  for (const unsigned flags : {0u, unsigned{RENAME_NOREPLACE}, unsigned{RENAME_EXCHANGE}})
    for (const char from : kKinds)
      for (const char to : kKinds)
        for (int i = 0; i < 2; i++) {  // other names, other bricks
          const std::string x = "a/x" + std::to_string(count), y = other + "y" + std::to_string(count++);
          c.make(from, x), c.make(to, y);
          out.note("case", std::string(type_name(from)) + " onto " + type_name(to) + " flags " +
                               std::to_string(flags));
          c.rename(x, y, flags);
          look_below(c, x), look_below(c, y);
          c.look("a"), c.look("b"), c.list("a");
          c.clear(x), c.clear(y);
        }
  c.list("a"), c.list("b");
}

void within(const std::string& d, Transcript& out) {
  matrix(d, out, false);
}
void between(const std::string& d, Transcript& out) {
  matrix(d, out, true);
}

void odd_flags(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.make('f', "x"), c.make('f', "y");
  for (const unsigned flags :
       {3u, 6u, 7u, 8u, 0x80000000u})  // not RENAME_WHITEOUT, which the mount does not have
    c.rename("x", "y", flags), c.rename("x", "none", flags), c.list(), c.make('f', "x"), c.clear("none");
  c.make('d', "d");
  c.rename("d", "d", 0), c.rename("d", "d", RENAME_NOREPLACE), c.rename("d", "d", RENAME_EXCHANGE),
      c.rename("x", "x", RENAME_NOREPLACE), c.rename("x", "x", RENAME_EXCHANGE);
}

void links_of_one_file(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 6; i++) {
    const std::string n = std::to_string(i);
    c.make('f', "x" + n);
    c.link("x" + n, "y" + n);
    c.rename("x" + n, "y" + n), c.look("x" + n), c.look("y" + n);
    c.rename("x" + n, "y" + n, RENAME_NOREPLACE), c.rename("x" + n, "y" + n, RENAME_EXCHANGE),
        c.look("x" + n);
    c.rename("x" + n, "z" + n), c.look("z" + n), c.list();
    c.make('f', "v" + n);
    c.rename("v" + n, "y" + n), c.look("z" + n), c.look("y" + n);
  }
}

// Up, down and into itself, over several levels.
void trees(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 4; i++) {
    const std::string t = "t" + std::to_string(i);
    std::string deep = t;
    c.mkdir(deep);
    for (int level = 0; level < 6; level++)
      c.mkdir(deep += "/l" + std::to_string(level)), c.file(deep + "/f");
    c.rename(t, t + "/l0/x"), c.rename(t, deep + "/x"), c.rename(t + "/l0", deep), c.rename(deep, t),
        c.rename(deep, t + "/l0");
    c.rename(t, t + "/l0", RENAME_EXCHANGE), c.rename(deep, t + "/l0/l1", RENAME_EXCHANGE),
        c.rename(t + "/l0", t + "/l0/l1/l2", RENAME_EXCHANGE);
    c.rename(t + "/l0/l1/l2", t + "/up"), c.list(t), c.list(t + "/up"), c.look(t), c.look(t + "/l0/l1"),
        c.look(t + "/up");
    c.rename(t + "/up", t + "/l0/l1/down"), c.look(t + "/l0/l1/down/l3/f"), c.look(t), c.look(t + "/l0/l1");
    c.rename(t + "/l0/l1", "top" + std::to_string(i)), c.list("top" + std::to_string(i)),
        c.look("top" + std::to_string(i) + "/down/l3/l4/f");
    c.rename("top" + std::to_string(i) + "/down/..", "q"), c.rename(t + "/.", "q"), c.rename(t + "/..", "q"),
        c.rename("t0", t + "/.");
    c.look(t + "/l0/..");
  }
  c.list();
}

void open_while_renamed(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 6; i++) {
    const std::string n = std::to_string(i);
    c.file("x" + n, 0644, "from"), c.file("y" + n, 0644, "replaced");
    const int x = ::open(c.path("x" + n).c_str(), O_RDWR), y = ::open(c.path("y" + n).c_str(), O_RDWR);
    c.rename("x" + n, "y" + n);
    char buffer[20] = {};
    struct stat found {};
    out.call("read of the replaced", ::pread(y, buffer, sizeof buffer, 0));
    ::fstat(y, &found);
    out.note("links of the replaced", std::to_string(found.st_nlink));
    c.note("write to the replaced", ::pwrite(y, "more", 4, 8));
    c.note("write to the renamed", ::pwrite(x, "FR", 2, 0));
    ::fstat(x, &found);
    out.note("links of the renamed", std::to_string(found.st_nlink));
    const int again = ::open(c.path("y" + n).c_str(), O_RDONLY);
    buffer[::pread(again, buffer, sizeof buffer - 1, 0)] = 0;
    out.note("content", buffer);
    for (const int fd : {x, y, again})
      ::close(fd);
  }
}

// Directories in use: as the working directory, open, replaced and removed.
void directories_in_use(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (int i = 0; i < 4; i++) {
    const std::string x = "x" + std::to_string(i), y = "y" + std::to_string(i);
    c.mkdir(x), c.file(x + "/f"), c.mkdir(y);
    const int fx = ::open(c.path(x).c_str(), O_RDONLY | O_DIRECTORY),
              fy = ::open(c.path(y).c_str(), O_RDONLY | O_DIRECTORY);
    c.rename(x, y);
    struct stat found {};
    c.note("fstat of the replaced", ::fstat(fy, &found));
    out.note("links", std::to_string(found.st_nlink));
    c.note("create in the replaced", ::openat(fy, "new", O_CREAT | O_RDWR, 0600)),
        c.note("mkdir in the replaced", ::mkdirat(fy, "new", 0700));
    c.note("stat of dots in the replaced", ::fstatat(fy, ".", &found, 0)),
        c.note("missing in the replaced", ::fstatat(fy, "none", &found, 0));
    c.note("symlink in the replaced", ::symlinkat("t", fy, "s")),
        c.note("link in the replaced", ::linkat(fx, "f", fy, "l", 0));
    c.note("rename into the replaced", ::renameat(fx, "f", fy, "f"));
    c.note("stat by the renamed", ::fstatat(fx, "f", &found, 0));
    const int made = ::openat(fx, "made", O_CREAT | O_RDWR, 0600);
    c.note("create by the renamed", made);
    ::close(made);
    c.list(y);
    c.clear(y);
    c.note("fstat of the removed", ::fstat(fx, &found));
    out.note("links", std::to_string(found.st_nlink));
    c.note("create in the removed", ::openat(fx, "late", O_CREAT | O_RDWR, 0600));
    c.note("chmod of the removed", ::fchmod(fx, 0700)), c.note("fsync of the removed", ::fsync(fx));
    ::close(fx), ::close(fy);
  }
}

}  // namespace

const std::vector<ParityCase> kRenameCases = {
    {"RenameWithin", within},
    {"RenameBetween", between},
    {"RenameOddFlags", odd_flags},
    {"RenameLinks", links_of_one_file},
    {"RenameTrees", trees},
    {"RenameOpen", open_while_renamed},
    {"RenameInUse", directories_in_use},
};

}  // namespace voldfs::test
