#include "tools/check/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "brick/store/xattr.h"

namespace voldfs::check {

namespace {

constexpr size_t kDepthMax = 4096;  // of PATH_MAX: what is deeper is a loop
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

// Goes down one name after the other: a tree may be deeper than a path may be long. `make`: what is missing.
Result<unique_fd> open_below(int root, std::string_view path, bool make) {
  unique_fd at(::openat(root, ".", kOpenDirectory));
  while (at && !path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string name(path.substr(0, path.find('/')));
    path.remove_prefix(name.size());
    if (make && ::mkdirat(at.get(), name.c_str(), 0700) < 0 && errno != EEXIST) return fail_errno();
    at.reset(::openat(at.get(), name.c_str(), kOpenDirectory));
  }
  if (!at) return fail_errno();
  return at;
}

bool is_file(const ScannedEntry& entry) { return !entry.directory && !entry.is_stub(); }

// A directory is found by its id, wherever a brick has it: a path on a brick may be out of date, and a directory may be parked.
class Export {
 public:
  Export(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map, int target)
      : map_(map), root_(target) {
    for (const auto& scan : scans) scans_.push_back(scan.get());
    std::sort(scans_.begin(), scans_.end(),
              [](const auto* a, const auto* b) { return a->identity.ordinal < b->identity.ordinal; });
  }

  Findings run() {
    for (const bool leaving : {false, true})
      for (const BrickScan* scan : scans_)
        for (const auto& dir : scan->directories) note_names(*dir, leaving);
    for (const BrickScan* scan : scans_)
      for (const auto& dir : scan->directories) directory(*scan, *dir);
    finish_directories();
    return std::move(found_);
  }

 private:
  struct Name {
    Id parent;
    std::string name;
  };
  struct Source {
    const BrickScan* scan = nullptr;
    const ScannedDirectory* dir = nullptr;
  };

  void complain(const BrickScan& scan, const std::string& path, Error error) {
    found_.push_back({Severity::kError, "export", scan.path, path,
                      std::string("could not be copied: ") + std::strerror(error.code), false});
  }

  // The names in it that lead to directories. What is about to lose its name counts where nothing else has it.
  void note_names(const ScannedDirectory& dir, bool leaving) {
    for (const auto& entry : dir.entries) {
      if (entry->leaving.has_value() != leaving) continue;
      const ScannedDirectory* const there = entry->directory;
      if (entry->stub && entry->stub->type == wire::ObjectType::kDirectory)
        names_.try_emplace(entry->stub->object, Name{dir.id, entry->name});
      else if (there && there->has_role(wire::kRoleHome) && !there->has_role(wire::kRoleOffHash))
        names_.try_emplace(there->id, Name{dir.id, entry->name});
    }
  }

  // The path in the volume; of what no name leads to (it was never adopted, or is the rest of one that was removed) the brick's. None: it
  // is parked, and led to by nothing.
  std::optional<std::string> path_of(const ScannedDirectory& dir, size_t depth = 0) const {
    if (dir.id == kRootId || (!dir.entry && dir.parked_path.empty())) return std::string();
    const auto named = depth < kDepthMax ? names_.find(dir.id) : names_.end();
    const ScannedDirectory* parent = dir.entry ? dir.entry->dir : nullptr;
    if (named != names_.end())
      for (const BrickScan* scan : scans_)
        if (const auto* const found = scan->directory(named->second.parent)) parent = found;
    if (!parent) return std::nullopt;
    const auto above = path_of(*parent, depth + 1);
    if (!above) return std::nullopt;
    return *above + "/" + (named != names_.end() ? named->second.name : dir.entry->name);
  }

  // What is left of a directory that is no more, or the way to one that has gone elsewhere.
  bool is_remnant(const ScannedDirectory& dir) const {
    const bool is_copy = dir.record && !dir.has_role(wire::kRoleHome) && dir.id != kRootId;
    return is_copy && !names_.contains(dir.id) &&
           std::none_of(dir.entries.begin(), dir.entries.end(), [](const auto& entry) { return is_file(*entry); });
  }

  void directory(const BrickScan& scan, const ScannedDirectory& dir) {
    const auto path = path_of(dir);
    if (!path || is_remnant(dir)) return;
    auto source = open_below(scan.root.get(), dir.path() == "/" ? "" : dir.path(), false);
    auto target = open_below(root_, *path, true);
    if (!source || !target) return complain(scan, dir.path(), source ? target.error() : source.error());
    // Home has the attributes; any copy is better than none.
    if (!path->empty() && (dir.has_role(wire::kRoleHome) || !directories_.contains(*path))) directories_[*path] = {&scan, &dir};
    for (const auto& entry : dir.entries) {
      if (!is_file(*entry)) continue;
      if (auto done = file(scan, *entry, source->get(), target->get(), *path); !done) complain(scan, entry->path(), done.error());
    }
  }

  // Whether this brick's entry is the name's rather than one that was copied before.
  bool wins(const BrickScan& scan, const ScannedEntry& entry) {
    const auto* layout = entry.dir->record ? map_.layout(entry.dir->record->epoch) : nullptr;
    return layout && entry.dir->record->epoch != 0 && layout->place(entry.dir->id, entry.name) == scan.identity.ordinal;
  }

  Result<void> file(const BrickScan& scan, const ScannedEntry& entry, int from, int to, const std::string& path) {
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
    if (entry.nlink > 1) links_[key] = "." + path + "/" + entry.name;
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
      const auto& [scan, dir] = at->second;
      auto source = open_below(scan->root.get(), dir->path(), false), copy = open_below(root_, at->first, false);
      if (!source || !copy) {
        complain(*scan, at->first, source ? copy.error() : source.error());
      } else if (auto done = copy_attributes(source->get(), copy->get()); !done) {
        complain(*scan, at->first, done.error());
      }
    }
  }

  const dht::VolumeMap& map_;
  const int root_;  // of the copy
  std::vector<const BrickScan*> scans_;
  std::unordered_map<Id, Name, IdHash> names_;                                    // of directories
  std::map<std::string, Source> directories_;                                     // by path, parents first
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
