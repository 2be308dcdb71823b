#include <sys/stat.h>
#include <unistd.h>

#include "tests/mount/calls.h"

// In a sticky directory only the owner of the entry or of the directory may remove or rename.
namespace voldfs::test {
namespace {

constexpr uid_t kUser = 65'531, kOther = 65'532, kThird = 65'533;

struct Owners {
  uid_t directory, entry;
};
constexpr Owners kOwners[] = {{kUser, kUser},   {kUser, kOther}, {kOther, kUser}, {kOther, kOther},
                              {kOther, kThird}, {0, kUser},      {0, kOther}};

void own(Calls& c, std::string_view name, uid_t uid) {
  if (::lchown(c.path(name).c_str(), uid, uid) < 0) c.note("own", -1);
}

void directory(Calls& c, std::string_view name, uid_t owner, mode_t mode) {
  c.make('d', name);
  own(c, name, owner);
  if (::chmod(c.path(name).c_str(), mode) < 0) c.note("directory", -1);
}

void removals(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const char type : kTypes)
    for (const Owners& owners : kOwners)
      for (const uid_t caller : {kUser, uid_t{0}}) {
        directory(c, "w", owners.directory, 01777);
        c.make(type, "w/x");
        own(c, "w/x", owners.entry);
        c.as(caller, {caller}, [&](Calls& who) { type == 'd' ? who.rmdir("w/x") : who.unlink("w/x"); });
        c.list("w");
        c.clear("w");
      }
}

void renames_away(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const char type : kTypes)
    for (const Owners& owners : kOwners) {
      directory(c, "w", owners.directory, 01777);
      directory(c, "to", kOther, 0777);
      c.make(type, "w/x");
      own(c, "w/x", owners.entry);
      c.as(kUser, {kUser}, [](Calls& who) { who.rename("w/x", "to/x"), who.rename("w/x", "w/y"); });
      c.list("w"), c.list("to");
      c.clear("w"), c.clear("to");
    }
}

void renames_over(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const char type : kTypes)
    for (const Owners& owners : kOwners)
      for (const unsigned flags : {0u, 2u}) {
        directory(c, "w", owners.directory, 01777);
        directory(c, "from", kUser, 0755);
        c.make(type, "w/x");
        own(c, "w/x", owners.entry);
        c.make(type == 'd' ? 'd' : 'f', "from/y");
        own(c, "from/y", kUser);
        c.as(kUser, {kUser}, [&](Calls& who) { who.rename("from/y", "w/x", flags); });
        c.list("w"), c.list("from"), c.look("w/x");
        c.clear("w"), c.clear("from");
      }
}

// A directory that goes to another parent has its ".." changed: its mover must be allowed to write to it.
void moves_of_others_directories(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const mode_t mode : {0755, 0777, 01777, 0555})
    for (const uid_t owner : {kUser, kOther}) {
      directory(c, "a", kUser, 0777), directory(c, "b", kUser, 0777);
      directory(c, "a/x", owner, mode);
      c.as(kUser, {kUser},
           [](Calls& who) { who.rename("a/x", "a/y"), who.rename("a/y", "b/y"), who.rename("a/x", "b/y"); });
      c.list("a"), c.list("b");
      c.clear("a"), c.clear("b");
    }
}

void closed_parents(const std::string& d, Transcript& out) {
  Calls c(d, out);
  ::chmod(d.c_str(), 0777);
  for (const mode_t from : {0755, 0555, 0666})
    for (const mode_t to : {0755, 0555, 0666})
      for (const char type : {'f', 'd'}) {
        directory(c, "a", kUser, 0755), directory(c, "b", kUser, 0755);
        c.make(type, "a/x");
        own(c, "a/x", kUser);
        c.chmod("a", from), c.chmod("b", to);
        c.as(kUser, {kUser}, [](Calls& who) {
          who.rename("a/x", "b/x"), who.rename("a/x", "a/y"), who.link("a/x", "b/l"), who.mkdir("b/d"),
              who.symlink("x", "b/s");
          who.create("b/f", 0101), who.mknod("b/p", S_IFIFO | 0600), who.unlink("a/x"), who.rmdir("a/x"),
              who.unlink("a/y");
        });
        c.chmod("a", 0755), c.chmod("b", 0755);
        c.list("a"), c.list("b");
        c.clear("a"), c.clear("b");
      }
}

}  // namespace

const std::vector<ParityCase> kStickyCases = {
    {"StickyRemovals", removals},
    {"StickyRenamesAway", renames_away},
    {"StickyRenamesOver", renames_over},
    {"StickyMoves", moves_of_others_directories},
    {"StickyClosedParents", closed_parents},
};

}  // namespace voldfs::test
