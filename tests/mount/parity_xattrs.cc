#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "tests/mount/calls.h"

// Extended attributes and ACLs: names, sizes, namespaces, who may; what chmod and new entries make of ACLs.
namespace voldfs::test {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr uid_t kUser = 65'531, kOther = 65'532;

struct AclEntry {
  uint16_t tag, perm;
  uint32_t id;
};
enum : uint16_t { kUserObj = 1, kNamedUser = 2, kGroupObj = 4, kNamedGroup = 8, kMask = 16, kOthers = 32 };

std::string acl(std::initializer_list<AclEntry> entries, uint32_t version = 2) {
  std::string out(reinterpret_cast<const char*>(&version), 4);
  for (const AclEntry& entry : entries)
    out.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  return out;
}

int set(Calls& c, std::string_view name, const char* xattr, std::string_view value, int flags = 0) {
  return c.note(std::string("set ") + std::string(xattr).substr(0, 40) + " of " + std::string(name) + " to " +
                    std::to_string(value.size()),
                ::lsetxattr(c.path(name).c_str(), xattr, value.data(), value.size(), flags));
}

void get(Calls& c, std::string_view name, const char* xattr, size_t room = 65'536) {
  std::string value(room, 0);
  const ssize_t size = ::lgetxattr(c.path(name).c_str(), xattr, value.data(), room);
  c.out().call(std::string("get ") + std::string(xattr).substr(0, 40) + " of " + std::string(name), size);
  if (size <= 0 || room == 0) return;
  char sum[40];
  uint64_t hash = 0;
  for (const char byte : value.substr(0, static_cast<size_t>(size)))
    hash = hash * 31 + static_cast<unsigned char>(byte);
  std::snprintf(sum, sizeof sum, "%016lx", hash);
  c.out().note("value", sum);
}

void list(Calls& c, std::string_view name) {
  std::string all(65'536, 0);
  const ssize_t size = ::llistxattr(c.path(name).c_str(), all.data(), all.size());
  std::set<std::string> names;
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(all.data() + at)) + 1)
    names.insert(all.data() + at);
  std::string text;
  for (const std::string& each : names)
    text += each.substr(0, 40) + " ";
  c.out().note("xattrs of " + std::string(name), size < 0 ? ::strerrorname_np(errno) : text);
}

void namespaces(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : kTypes) {
    c.make(type, "x");
    for (const char* name : {"user.a", "trusted.a", "security.a", "system.a", "none.a", "user.", "trusted.",
                             "user", "", ".", "USER.a", "security.selinux", "system.posix_acl_access",
                             "system.posix_acl_default", "user.a b\n", "user.\xff\xfe", "security.ima"}) {
      set(c, "x", name, "12345"), get(c, "x", name), list(c, "x");
      set(c, "x", name, "1", XATTR_CREATE), set(c, "x", name, "22", XATTR_REPLACE), get(c, "x", name, 0),
          get(c, "x", name, 1);
      set(c, "x", name, "3", XATTR_CREATE | XATTR_REPLACE), set(c, "x", name, "4", 8);
      c.note("remove", ::lremovexattr(c.path("x").c_str(), name)),
          c.note("remove again", ::lremovexattr(c.path("x").c_str(), name));
      set(c, "x", name, "", XATTR_CREATE), get(c, "x", name),
          c.note("remove", ::lremovexattr(c.path("x").c_str(), name));
    }
    c.clear("x");
  }
}

void sizes(const std::string& d, Transcript& out) {
  Calls c(d, out);
  for (const char type : {'f', 'd'}) {
    c.make(type, "x");
    for (const size_t length : {249, 250, 251, 300, 1000})
      set(c, "x", ("user." + std::string(length, 'n')).c_str(), "v"),
          get(c, "x", ("user." + std::string(length, 'n')).c_str());
    list(c, "x");
    c.note("list into little", ::llistxattr(c.path("x").c_str(), std::string(10, 0).data(), 10));
    c.clear("x");
    c.make(type, "x");
    for (const size_t size : {1'000, 2'000, 3'000, 10'000, 65'536, 65'537, 100'000}) {
      // What one inode can hold is the local file system's; a little less is expected of the mount, since its
      // own are beside.
      const int error =
          ::lsetxattr(c.path("x").c_str(), "user.big", std::string(size, 'b').data(), size, 0) < 0 ? errno
                                                                                                   : 0;
      out.note("set of " + std::to_string(size), error ? ::strerrorname_np(error) : "ok");
      get(c, "x", "user.big");
    }
    c.clear("x");
  }
}

void many(const std::string& d, Transcript& out) {
  Calls c(d, out);
  c.make('f', "x"), c.make('d', "y");
  for (const char* name : {"x", "y"}) {
    int first_error = 0;
    for (int i = 0; i < 2'000 && !first_error; i++)
      if (::lsetxattr(c.path(name).c_str(), ("user.n" + std::to_string(i)).c_str(), "value", 5, 0) < 0)
        first_error = errno;
    out.note("error", first_error ? ::strerrorname_np(first_error) : "none");
    get(c, name, "user.n0"), get(c, name, "user.n50");
    for (int i = 0; i < 2'000; i++)
      if (::lremovexattr(c.path(name).c_str(), ("user.n" + std::to_string(i)).c_str()) < 0) break;
    list(c, name);
  }
}

void who_may(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const char type : {'f', 'd', 'p', 's'})
    for (const mode_t mode : {0644, 0600, 0666, 01777, 0400, 0222}) {
      c.make(type, "x");
      if (::lchown(c.path("x").c_str(), kUser, kUser) < 0) c.note("lchown", -1);
      if (type != 's') c.chmod("x", mode);
      set(c, "x", "user.a", "root's"), set(c, "x", "trusted.a", "root's"),
          set(c, "x", "security.a", "root's");
      for (const uid_t uid : {kUser, kOther})
        c.as(uid, {uid}, [](Calls& who) {
          for (const char* name : {"user.a", "trusted.a", "security.a", "security.capability"})
            get(who, "x", name), set(who, "x", name, "theirs"), list(who, "x"),
                who.note("remove", ::lremovexattr(who.path("x").c_str(), name));
          const std::string simple = acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOthers, 5, kNone}});
          set(who, "x", "system.posix_acl_access", simple), set(who, "x", "system.posix_acl_default", simple);
        });
      c.look("x");
      c.clear("x");
    }
}

void valid_acls(const std::string& d, Transcript& out) {
  Calls c(d, out);
  const std::string acls[] = {
      acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOthers, 5, kNone}}),
      acl({{kUserObj, 6, kNone},
           {kNamedUser, 4, kUser},
           {kGroupObj, 0, kNone},
           {kMask, 7, kNone},
           {kOthers, 0, kNone}}),
      acl({{kUserObj, 6, kNone}, {kGroupObj, 0, kNone}, {kMask, 6, kNone}, {kOthers, 0, kNone}}),
      acl({{kUserObj, 6, kNone},
           {kNamedUser, 4, kUser},
           {kGroupObj, 0, kNone},
           {kOthers, 0, kNone}}),  // without a mask
      acl({{kUserObj, 6, kNone},
           {kNamedUser, 4, kUser},
           {kNamedUser, 4, kUser},
           {kGroupObj, 0, kNone},
           {kMask, 7, kNone},
           {kOthers, 0, kNone}}),
      acl({{kGroupObj, 5, kNone}, {kUserObj, 7, kNone}, {kOthers, 5, kNone}}),  // out of order
      acl({{kUserObj, 7, kNone}, {kOthers, 5, kNone}}),
      acl({{kUserObj, 9, kNone}, {kGroupObj, 5, kNone}, {kOthers, 5, kNone}}),
      acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOthers, 5, kNone}}, 1),
      acl({}),
      std::string("\2\0\0\0xx", 6),
      std::string("\2\0", 2),
      std::string(),
      acl({{kUserObj, 7, kNone},
           {kNamedUser, 7, 0},
           {kNamedUser, 5, kUser},
           {kGroupObj, 5, kNone},
           {kNamedGroup, 6, 0},
           {kNamedGroup, 1, kOther},
           {kMask, 7, kNone},
           {kOthers, 5, kNone}}),
  };
  for (const char type : {'f', 'd', 's', 'p'})
    for (const std::string& value : acls)
      for (const char* name : {"system.posix_acl_access", "system.posix_acl_default"}) {
        c.make(type, "x", 02755);
        set(c, "x", name, value), get(c, "x", name), c.look("x"), list(c, "x");
        if (type != 's') c.chmod("x", 0741), get(c, "x", name), c.look("x");
        c.note("remove", ::lremovexattr(c.path("x").c_str(), name)), c.look("x");
        c.clear("x");
      }
}

void access_by_acl(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (uint16_t named = 0; named < 8; named++)
    for (const uint16_t mask : {uint16_t{7}, uint16_t{4}, uint16_t{2}, uint16_t{0}}) {
      c.file("x", 0666), c.make('d', "y");
      const std::string value = acl({{kUserObj, 7, kNone},
                                     {kNamedUser, named, kUser},
                                     {kGroupObj, 0, kNone},
                                     {kNamedGroup, named, kOther},
                                     {kMask, mask, kNone},
                                     {kOthers, 7, kNone}});
      set(c, "x", "system.posix_acl_access", value), set(c, "y", "system.posix_acl_access", value);
      for (const uid_t uid : {kUser, kOther, uid_t{1000}})
        c.as(uid, {uid, 2000}, [](Calls& who) {
          who.create("x", O_RDONLY), who.create("x", O_WRONLY), who.create("x", O_RDWR),
              who.access("x", X_OK);
          who.list("y"), who.create("y/f", O_CREAT | O_WRONLY), who.look("y/f"), who.unlink("y/f");
        });
      c.clear("x"), c.clear("y");
    }
}

void inheritance(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  const std::string defaults[] = {
      acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOthers, 1, kNone}}),
      acl({{kUserObj, 7, kNone},
           {kNamedUser, 6, kUser},
           {kGroupObj, 5, kNone},
           {kMask, 6, kNone},
           {kOthers, 0, kNone}}),
      acl({{kUserObj, 0, kNone},
           {kNamedGroup, 7, kUser},
           {kGroupObj, 7, kNone},
           {kMask, 7, kNone},
           {kOthers, 7, kNone}}),
  };
  for (const std::string& value : defaults)
    for (const mode_t dir_mode : {0777, 02777}) {
      c.make('d', "w");
      c.chown("w", 0, kOther), c.chmod("w", dir_mode);
      set(c, "w", "system.posix_acl_default", value);
      for (const uid_t uid : {uid_t{0}, uid_t{1000}})
        for (const mode_t mask : {0, 027, 0777})
          c.as(uid, {uid}, [&](Calls& who) {
            ::umask(mask);
            for (const mode_t mode : {0777, 0666, 0640, 0}) {
              const std::string n =
                  std::to_string(uid) + "." + std::to_string(mask) + "." + std::to_string(mode);
              who.create("w/f" + n, O_CREAT | O_EXCL | O_WRONLY, mode), who.mkdir("w/d" + n, mode),
                  who.mknod("w/p" + n, S_IFIFO | mode), who.symlink("t", "w/s" + n);
              for (const char* kind : {"w/f", "w/d", "w/p", "w/s"})
                who.look(kind + n), get(who, kind + n, "system.posix_acl_access"),
                    get(who, kind + n, "system.posix_acl_default");
              if (mode & 0200)
                who.create("w/d" + n + "/below", O_CREAT | O_WRONLY, mode), who.look("w/d" + n + "/below");
            }
          });
      c.chmod("w", 0700), get(c, "w", "system.posix_acl_default"), c.look("w");
      c.clear("w");
    }
}

}  // namespace

const std::vector<ParityCase> kXattrCases = {
    {"XattrNamespaces", namespaces}, {"XattrSizes", sizes},    {"XattrMany", many},
    {"XattrWhoMay", who_may},        {"AclValid", valid_acls}, {"AclAccess", access_by_acl},
    {"AclInheritance", inheritance},
};

}  // namespace voldfs::test
