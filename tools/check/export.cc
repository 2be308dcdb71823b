#include "tools/check/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <map>

#include "brick/store/xattr.h"

namespace voldfs::check {

namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// Owner, attributes, mode, times: in the order in which none undoes another.
Result<void> copy_attributes(int from, int to) {
  struct stat attr;
  if (::fstat(from, &attr) < 0) return fail_errno();
  if (::fchown(to, attr.st_uid, attr.st_gid) < 0) return fail_errno();
  auto list = store::export_xattrs(from);
  if (!list) return fail(list.error());
  auto parsed = wire::parse_xattrs(*list);
  if (!parsed) return fail(parsed.error());
  if (auto done = store::replace_xattrs(to, *parsed); !done) return done;
  if (::fchmod(to, attr.st_mode & 07777) < 0) return fail_errno();
  const timespec times[2] = {attr.st_atim, attr.st_mtim};
  if (::futimens(to, times) < 0) return fail_errno();
  return {};
}

// Data alone: a hole stays a hole.
Result<void> copy_data(int from, int to) {
  struct stat attr;
  if (::fstat(from, &attr) < 0) return fail_errno();
  if (::ftruncate(to, attr.st_size) < 0) return fail_errno();
  off_t at = 0;
  while ((at = ::lseek(from, at, SEEK_DATA)) >= 0) {
    const off_t end = ::lseek(from, at, SEEK_HOLE);
    if (end < 0) return fail_errno();
    if (::lseek(from, at, SEEK_SET) < 0) return fail_errno();
    for (off_t in = at, out = at; in < end;) {
      const ssize_t size = ::copy_file_range(from, &in, to, &out, static_cast<size_t>(end - in), 0);
      if (size < 0) return fail_errno();
      if (size == 0) return fail(EIO);  // it shrinks, although nobody serves the brick
    }
    at = end;
  }
  return errno == ENXIO ? Result<void>() : fail_errno();
}

class Export {
 public:
  Export(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map, int target)
      : map_(map), root_(target) {
    for (const auto& scan : scans) scans_.push_back(scan.get());
    std::sort(scans_.begin(), scans_.end(),
              [](const auto* a, const auto* b) { return a->identity.ordinal < b->identity.ordinal; });
  }

  Findings run() {
    for (const BrickScan* scan : scans_) directory(*scan, scan->root_directory(), scan->root.get(), root_);
    finish_directories();
    return std::move(found_);
  }

 private:
  void complain(const BrickScan& scan, const std::string& path, Error error) {
    found_.push_back({Severity::kError, "export", scan.path, path,
                      std::string("could not be copied: ") + std::strerror(error.code), false});
  }

  void directory(const BrickScan& scan, const ScannedDirectory& dir, int from, int to) {
    for (const auto& entry : dir.entries) {
      if (entry->is_stub() && !entry->is_named_copy()) continue;
      if (entry->directory) {
        below(scan, *entry, from, to);
      } else if (auto done = file(scan, *entry, from, to); !done) {
        complain(scan, entry->path(), done.error());
      }
    }
  }

  void below(const BrickScan& scan, const ScannedEntry& entry, int from, int to) {
    const char* const name = entry.name.c_str();
    if (::mkdirat(to, name, 0700) < 0 && errno != EEXIST) return complain(scan, entry.path(), Error::from_errno());
    unique_fd source(::openat(from, name, kOpenDirectory)), target(::openat(to, name, kOpenDirectory));
    if (!source || !target) return complain(scan, entry.path(), Error::from_errno());
    // Home has the attributes; any copy is better than none.
    const std::string path = entry.path();
    if (entry.directory->has_role(wire::kRoleHome) || !directories_.count(path)) directories_[path] = &scan;
    directory(scan, *entry.directory, source.get(), target.get());
  }

  // Whether this brick's entry is the name's rather than one that was copied before.
  bool wins(const BrickScan& scan, const ScannedEntry& entry) {
    const auto* layout = entry.dir->record ? map_.layout(entry.dir->record->epoch) : nullptr;
    return layout && entry.dir->record->epoch != 0 && layout->place(entry.dir->id, entry.name) == scan.identity.ordinal;
  }

  Result<void> file(const BrickScan& scan, const ScannedEntry& entry, int from, int to) {
    const char* const name = entry.name.c_str();
    struct stat there;
    if (::fstatat(to, name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
      found_.push_back({Severity::kNote, "export-conflict", scan.path, entry.path(), "is on another brick too", false});
      if (!wins(scan, entry)) return {};
      if (::unlinkat(to, name, S_ISDIR(there.st_mode) ? AT_REMOVEDIR : 0) < 0) return fail_errno();
    }
    const auto key = std::pair(&scan, entry.inode);
    if (entry.nlink > 1) {
      if (auto known = links_.find(key); known != links_.end()) {
        if (::linkat(root_, known->second.c_str(), to, name, 0) < 0) return fail_errno();
        return {};
      }
    }
    if (auto done = copy(entry, from, to); !done) return done;
    if (entry.nlink > 1) links_[key] = "." + entry.path();
    return {};
  }

  static Result<void> copy(const ScannedEntry& entry, int from, int to) {
    const char* const name = entry.name.c_str();
    if (!S_ISREG(entry.mode)) return copy_special(entry, from, to);
    unique_fd source(::openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!source) return fail_errno();
    unique_fd target(::openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!target) return fail_errno();
    if (auto done = copy_data(source.get(), target.get()); !done) return done;
    return copy_attributes(source.get(), target.get());
  }

  static Result<void> copy_special(const ScannedEntry& entry, int from, int to) {
    const char* const name = entry.name.c_str();
    struct stat attr;
    if (::fstatat(from, name, &attr, AT_SYMLINK_NOFOLLOW) < 0) return fail_errno();
    if (S_ISLNK(attr.st_mode)) {
      char target[PATH_MAX + 1];
      const ssize_t size = ::readlinkat(from, name, target, PATH_MAX);
      if (size < 0) return fail_errno();
      target[size] = '\0';
      if (::symlinkat(target, to, name) < 0) return fail_errno();
    } else {
      if (::mknodat(to, name, attr.st_mode, attr.st_rdev) < 0) return fail_errno();
    }
    if (::fchownat(to, name, attr.st_uid, attr.st_gid, AT_SYMLINK_NOFOLLOW) < 0) return fail_errno();
    if (!S_ISLNK(attr.st_mode) && ::fchmodat(to, name, attr.st_mode & 07777, 0) < 0) return fail_errno();
    const timespec times[2] = {attr.st_atim, attr.st_mtim};
    if (::utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0) return fail_errno();
    return {};
  }

  // Last, and the deepest first: what is put into a directory changes its times.
  void finish_directories() {
    for (auto at = directories_.rbegin(); at != directories_.rend(); ++at) {
      const std::string path = "." + at->first;
      unique_fd source(::openat(at->second->root.get(), path.c_str(), kOpenDirectory));
      unique_fd copy(::openat(root_, path.c_str(), kOpenDirectory));
      if (!source || !copy) {
        complain(*at->second, at->first, Error::from_errno());
      } else if (auto done = copy_attributes(source.get(), copy.get()); !done) {
        complain(*at->second, at->first, done.error());
      }
    }
  }

  const dht::VolumeMap& map_;
  const int root_;  // of the copy
  std::vector<const BrickScan*> scans_;
  std::map<std::string, const BrickScan*> directories_;                           // by path, parents first
  std::map<std::pair<const BrickScan*, uint64_t>, std::string> links_;            // first copied path of an inode
  Findings found_;
};

}  // namespace

Explained<Findings> export_files(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map,
                                 const std::string& target) {
  if (::mkdir(target.c_str(), 0755) < 0 && errno != EEXIST) {
    return explain(target + " cannot be made: " + std::strerror(errno) + ".");
  }
  unique_fd fd(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return explain(target + " cannot be opened: " + std::strerror(errno) + ".");
  auto names = list_names(fd.get(), ".");
  if (!names || !names->empty()) return explain(target + " is not empty: give a new directory.");
  return Export(scans, map, fd.get()).run();
}

}  // namespace voldfs::check
