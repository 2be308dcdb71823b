#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/calls.h"

// What calls that take a path answer when there is something wrong with the path: every such call, every such
// path.
namespace voldfs::test {
namespace {

constexpr uid_t kSomebody = 65'534;

struct PathCall {
  const char* name;
  std::function<long(const char* path)> run;
  bool makes = false;  // the last name is made
};

long opened(int fd) {
  if (fd >= 0) ::close(fd);
  return fd;
}

// `d`: a directory with a file "other".
std::vector<PathCall> path_calls(const std::string& d) {
  const std::string other = d + "/other";
  return {
      {"chmod", [](const char* p) -> long { return ::chmod(p, 0755); }},
      {"chown", [](const char* p) -> long { return ::chown(p, kSomebody, kSomebody); }},
      {"lchown", [](const char* p) -> long { return ::lchown(p, kSomebody, kSomebody); }},
      {"truncate", [](const char* p) -> long { return ::truncate(p, 7); }},
      {"utimensat", [](const char* p) -> long { return ::utimensat(AT_FDCWD, p, nullptr, 0); }},
      {"stat",
       [](const char* p) -> long {
         struct stat s;
         return ::stat(p, &s);
       }},
      {"lstat",
       [](const char* p) -> long {
         struct stat s;
         return ::lstat(p, &s);
       }},
      {"statfs",
       [](const char* p) -> long {
         struct statfs s;
         return ::statfs(p, &s);
       }},
      {"access", [](const char* p) -> long { return ::access(p, R_OK); }},
      {"readlink",
       [](const char* p) -> long {
         char t[100];
         return ::readlink(p, t, sizeof t);
       }},
      {"open", [](const char* p) -> long { return opened(::open(p, O_RDONLY | O_NONBLOCK)); }},
      {"open directory", [](const char* p) -> long { return opened(::open(p, O_RDONLY | O_DIRECTORY)); }},
      {"open nofollow",
       [](const char* p) -> long { return opened(::open(p, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)); }},
      {"open path", [](const char* p) -> long { return opened(::open(p, O_PATH)); }},
      {"tmpfile", [](const char* p) -> long { return opened(::open(p, O_TMPFILE | O_RDWR, 0600)); }},
      {"getxattr",
       [](const char* p) -> long {
         char v[10];
         return ::getxattr(p, "user.x", v, sizeof v);
       }},
      {"setxattr", [](const char* p) -> long { return ::setxattr(p, "user.y", "y", 1, 0); }},
      {"listxattr", [](const char* p) -> long { return ::listxattr(p, nullptr, 0) < 0 ? -1 : 0; }},
      {"removexattr", [](const char* p) -> long { return ::removexattr(p, "user.z"); }},
      {"link from", [other](const char* p) -> long { return ::link(p, (other + ".linked").c_str()); }},
      {"rename from", [other](const char* p) -> long { return ::rename(p, (other + ".renamed").c_str()); }},
      {"exchange",
       [other](const char* p) -> long {
         return ::renameat2(AT_FDCWD, other.c_str(), AT_FDCWD, p, RENAME_EXCHANGE);
       }},
      {"unlink", [](const char* p) -> long { return ::unlink(p); }},
      {"rmdir", [](const char* p) -> long { return ::rmdir(p); }},
      {"create",
       [](const char* p) -> long { return opened(::open(p, O_CREAT | O_WRONLY | O_NONBLOCK, 0600)); }, true},
      {"create exclusively",
       [](const char* p) -> long { return opened(::open(p, O_CREAT | O_EXCL | O_WRONLY, 0600)); }, true},
      {"mkdir", [](const char* p) -> long { return ::mkdir(p, 0755); }, true},
      {"mkfifo", [](const char* p) -> long { return ::mkfifo(p, 0600); }, true},
      {"mknod", [](const char* p) -> long { return ::mknod(p, S_IFREG | 0600, 0); }, true},
      {"symlink", [](const char* p) -> long { return ::symlink("target", p); }, true},
      {"link to", [other](const char* p) -> long { return ::link(other.c_str(), p); }, true},
      {"rename to", [other](const char* p) -> long { return ::rename(other.c_str(), p); }, true},
      {"rename to, noreplace",
       [other](const char* p) -> long {
         return ::renameat2(AT_FDCWD, other.c_str(), AT_FDCWD, p, RENAME_NOREPLACE);
       },
       true},
  };
}

// A fresh directory for each call: some remove what they are given.
void each_call(Calls& c, const char* condition,
               const std::function<std::string(const std::string& d)>& prepare, bool as_root = true) {
  const size_t count = path_calls("").size();
  for (size_t i = 0; i < count; i++) {
    c.make('d', "w", 0777);
    ::chmod(c.path("w").c_str(), 0777);
    const std::string d = c.path("w");
    c.file("w/other", 0666);
    ::chmod(c.path("w/other").c_str(), 0666);
    const std::string at = prepare(d);
    const PathCall call = path_calls(d)[i];
    const auto run = [&](Calls& who) {
      who.note(std::string(call.name) + " of " + condition, call.run(at.c_str()));
    };
    if (as_root)
      run(c);
    else
      c.as(kSomebody, {kSomebody}, run);
    c.list("w");
    ::chmod((d + "/closed").c_str(), 0755);
    c.clear("w");
  }
}

void missing(const std::string& d, Transcript& out) {
  Calls c(d, out);
  each_call(c, "missing name", [](const std::string& w) { return w + "/none"; });
  each_call(c, "name in missing directory", [](const std::string& w) { return w + "/none/none"; });
  each_call(c, "empty path", [](const std::string&) { return std::string(); });
  each_call(c, "dangling symlink", [&](const std::string& w) { return c.make('s', w + "/s"), w + "/s"; });
}

void below_what_is_no_directory(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : {'f', 'p', 'c', 'b', 'k'})
    each_call(c, (std::string("name below ") + type_name(type)).c_str(),
              [&](const std::string& w) { return c.make(type, w + "/x"), w + "/x/y"; });
  each_call(c, "slash behind a file", [&](const std::string& w) { return c.make('f', w + "/x"), w + "/x/"; });
  each_call(c, "dot behind a file", [&](const std::string& w) { return c.make('f', w + "/x"), w + "/x/."; });
}

void existing(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : {'f', 'd', 'D', 'p', 'c', 'b', 'k'})
    each_call(c, type_name(type), [&](const std::string& w) { return c.make(type, w + "/x"), w + "/x"; });
  each_call(c, "slash behind a directory",
            [&](const std::string& w) { return c.make('d', w + "/x"), w + "/x/"; });
  each_call(c, "dot in a directory", [&](const std::string& w) { return c.make('d', w + "/x"), w + "/x/."; });
  each_call(c, "dots in a directory",
            [&](const std::string& w) { return c.make('d', w + "/x"), w + "/x/.."; });
  each_call(c, "slash behind a missing name", [&](const std::string& w) { return w + "/x/"; });
  each_call(c, "symlink to a directory", [&](const std::string& w) {
    c.make('d', w + "/x");
    return c.symlink("x", w + "/s"), w + "/s";
  });
  each_call(c, "slash behind a symlink to a directory", [&](const std::string& w) {
    c.make('d', w + "/x");
    return c.symlink("x", w + "/s"), w + "/s/";
  });
  each_call(c, "symlink to a file", [&](const std::string& w) {
    c.make('f', w + "/x");
    return c.symlink("x", w + "/s"), w + "/s";
  });
}

void long_names(const std::string& d, Transcript& out) {
  Calls c(d, out);
  each_call(c, "name of 255", [&](const std::string& w) { return w + "/" + std::string(255, 'n'); });
  each_call(c, "file's name of 255", [&](const std::string& w) {
    const std::string at = w + "/" + std::string(255, 'n');
    return c.make('f', at), at;
  });
  each_call(c, "name of 256", [&](const std::string& w) { return w + "/" + std::string(256, 'n'); });
  each_call(c, "name of 1025", [&](const std::string& w) { return w + "/" + std::string(1025, 'n'); });
  each_call(c, "name of 256 in the middle",
            [&](const std::string& w) { return w + "/" + std::string(256, 'n') + "/x"; });
}

// The longest path that there is ends in a name that is made up to the last byte; one byte more is too many.
void long_paths(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const size_t size : {size_t{4094}, size_t{4095}, size_t{4096}, size_t{5000}}) {
    each_call(c, ("path of " + std::to_string(size)).c_str(), [&](const std::string& w) {
      std::string at = w;
      while (at.size() + 202 < size) {
        at += "/" + std::string(200, 'd');
        if (at.size() < 4095 && ::mkdir(at.c_str(), 0777) != 0) c.note("mkdir on the way", -1);
      }
      return at + "/" + std::string(size - at.size() - 1, 'f');
    });
  }
}

void loops(const std::string& d, Transcript& out) {
  Calls c(d, out);
  each_call(c, "symlink to itself", [&](const std::string& w) { return c.symlink("s", w + "/s"), w + "/s"; });
  each_call(c, "name below a symlink to itself",
            [&](const std::string& w) { return c.symlink("s", w + "/s"), w + "/s/x"; });
  each_call(c, "two symlinks to one another", [&](const std::string& w) {
    c.symlink("t", w + "/s");
    return c.symlink("s", w + "/t"), w + "/s/x";
  });
  for (const int count : {40, 41})
    each_call(c, (std::to_string(count) + " symlinks").c_str(), [&](const std::string& w) {
      c.file(w + "/s0");
      for (int i = 1; i <= count; i++)
        if (::symlink(("s" + std::to_string(i - 1)).c_str(), (w + "/s" + std::to_string(i)).c_str()) < 0)
          c.note("symlink", -1);
      return w + "/s" + std::to_string(count);
    });
}

void closed_directories(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const mode_t mode : {0700, 0600, 0766, 0744, 0755, 0711, 0777}) {
    char condition[100];
    std::snprintf(condition, sizeof condition, "file in a directory of mode %o", mode);
    each_call(
        c, condition,
        [&](const std::string& w) {
          c.make('d', w + "/closed");
          c.file(w + "/closed/x", 0666);
          ::chmod((w + "/closed/x").c_str(), 0666);
          ::chmod((w + "/closed").c_str(), mode);
          return w + "/closed/x";
        },
        false);
    std::snprintf(condition, sizeof condition, "missing name in a directory of mode %o", mode);
    each_call(
        c, condition,
        [&](const std::string& w) {
          c.make('d', w + "/closed");
          ::chmod((w + "/closed").c_str(), mode);
          return w + "/closed/none";
        },
        false);
  }
}

void bad_addresses(const std::string&, Transcript& out) {
  Calls c("/", out);
  const char* const bad = reinterpret_cast<const char*>(8);
  for (const PathCall& call : path_calls("/nowhere"))
    c.note(std::string(call.name) + " of a bad address", call.run(bad));
}

}  // namespace

const std::vector<ParityCase> kPathCases = {
    {"PathsMissing", missing},           {"PathsBelowNoDirectory", below_what_is_no_directory},
    {"PathsExisting", existing},         {"PathsLongNames", long_names},
    {"PathsLong", long_paths},           {"PathsLoops", loops},
    {"PathsClosed", closed_directories}, {"PathsBadAddresses", bad_addresses},
};

}  // namespace voldfs::test
