#pragma once

#include <sys/types.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tests/mount/parity.h"

namespace voldfs::test {

// System calls below one directory, each noted in a transcript with what it answered. Names are relative to
// the directory unless they begin with '/'. One thread.
class Calls {
 public:
  Calls(std::string directory, Transcript& out) : directory_(std::move(directory)), out_(out) {}

  std::string path(std::string_view name) const;
  Transcript& out() { return out_; }
  const std::string& directory() const { return directory_; }

  // What they return is 0 or the errno.
  int mkdir(std::string_view name, mode_t mode = 0755);
  int rmdir(std::string_view name);
  int file(std::string_view name, mode_t mode = 0644,
           std::string_view content = "x");                          // not noted when it works
  int create(std::string_view name, int flags, mode_t mode = 0644);  // opens and closes
  int unlink(std::string_view name);
  int symlink(std::string_view target, std::string_view name);
  int link(std::string_view name, std::string_view to);
  int rename(std::string_view from, std::string_view to, unsigned flags = 0);
  int mknod(std::string_view name, mode_t mode, dev_t device = 0);
  int chmod(std::string_view name, mode_t mode);
  int chown(std::string_view name, uid_t uid, gid_t gid);
  int lchown(std::string_view name, uid_t uid, gid_t gid);
  int truncate(std::string_view name, off_t size);
  int access(std::string_view name, int mode);
  // Seconds; -1: now, -2: leave.
  int utimens(std::string_view name, long atime, long mtime, int flags = 0);

  // Makes something of the type: 'f'ile, 'd'irectory, 'D'irectory with a file in it, 's'ymlink that leads
  // nowhere, 'p'ipe, 'c'haracter device, 'b'lock device, 'k' socket. Not noted when it works.
  void make(char type, std::string_view name, mode_t mode = 0);
  // Notes type, mode, links, owner, size, device.
  void look(std::string_view name);
  void list(std::string_view name = ".");
  // Removes whatever is there, with what is below it. Not noted.
  void clear(std::string_view name);

  // Runs in a process of its own with these credentials; what it notes comes here. The first group is the
  // gid.
  void as(uid_t uid, std::initializer_list<gid_t> groups, const std::function<void(Calls&)>& run);

  // Runs `change` when the clock has moved on, and notes which times of each name it changed.
  void times(std::string_view what, std::initializer_list<std::string_view> names,
             const std::function<void()>& change);

  // Notes 0 or the errno of a call that is none of the above.
  int note(const std::string& what, long result);

 private:
  std::string told(std::string_view name) const;

  std::string directory_;
  Transcript& out_;
};

inline constexpr char kTypes[] = {'f', 'd', 's', 'p', 'c', 'b', 'k'};
const char* type_name(char type);

// Content, up to 64 KiB; "errno N": there is none.
std::string file_of(const std::string& path);
void make_file(const std::string& path, const std::string& text = "x", mode_t mode = 0644);
// Names in order; one that is listed twice says so.
std::string listing(const std::string& path);
// Until the other end is closed.
std::string read_to_the_end(int fd);

// parity_paths.cc, parity_permissions.cc, ...; run by parity_test.cc.
extern const std::vector<ParityCase> kPathCases, kPermissionCases, kStickyCases, kTimeCases, kOpenCases,
    kRenameCases, kXattrCases, kContentCases;

}  // namespace voldfs::test
