#include "tools/check/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "brick/store/named_copy.h"
#include "brick/store/small_file.h"
#include "brick/store/xattr.h"

namespace voldfs::check {

namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr unsigned kDepthMax = 4096;  // of directories: PATH_MAX allows half of it

// An attribute of an entry, decoded. `bad`: it is there, and is not what FORMAT.md says.
template <class Value, class Decode>
std::optional<Value> read_value(int dir, const char* name, const char* attribute, bool& bad, Decode decode) {
  auto raw = store::read_xattr_at(dir, name, attribute);
  if (!raw) {
    bad = raw.error().code != ENODATA;
    return std::nullopt;
  }
  Result<Value> value = decode(*raw);
  bad = !value;
  return value ? std::optional<Value>(*value) : std::nullopt;
}

// Walks the tree depth first with a descriptor for each directory on the way.
class Walk {
 public:
  explicit Walk(BrickScan& scan) : scan_(scan) {}

  void tree(int fd) {
    ScannedDirectory& root = add_directory(nullptr, fd);
    read_directory(root, fd, 0);
  }
  // What lies in .voldfs/parked: directories there are found by id, and so is what is in them.
  void parked() {
    unique_fd fd(::openat(scan_.dot.get(), "parked", kOpenDirectory));
    auto names = fd ? list_names(fd.get(), ".") : fail_errno();
    if (!names) return scan_.find(Severity::kError, "unreadable", "/.voldfs/parked", "cannot be listed");
    for (const std::string& name : *names) {
      scan_.find(Severity::kNote, "parked", "/.voldfs/parked/" + name, "was in the way of something and lies here");
      unique_fd below(::openat(fd.get(), name.c_str(), kOpenDirectory));
      if (!below) continue;
      ScannedDirectory& directory = add_directory(nullptr, below.get());
      directory.parked_path = "parked/" + name;
      read_directory(directory, below.get(), 0);
    }
  }

 private:
  ScannedDirectory& add_directory(const ScannedEntry* entry, int fd) {
    auto directory = std::make_unique<ScannedDirectory>();
    directory->entry = entry;
    struct stat attr;
    if (::fstat(fd, &attr) == 0) directory->inode = attr.st_ino;
    if (auto id = store::get_id(fd)) directory->id = *id;
    if (auto raw = store::read_xattr(fd, store::kXattrDir)) {
      auto record = store::decode_directory(*raw, directory->id);
      directory->bad_record = !record;
      if (record) directory->record = *record;
    }
    if (!directory->id.is_none()) scan_.directories_by_id[directory->id].push_back(directory.get());
    scan_.directories.push_back(std::move(directory));
    return *scan_.directories.back();
  }

  void read_directory(ScannedDirectory& directory, int fd, unsigned depth) {
    auto names = list_names(fd, ".");
    if (!names || depth > kDepthMax) {
      scan_.find(Severity::kError, "unreadable", directory.path(), "cannot be listed");
      return;
    }
    for (std::string& name : *names) {
      const bool is_root = &directory == scan_.directories.front().get();
      if (is_root && (name == ".voldfs" || name == "lost+found")) continue;  // lost+found: the file system's own
      read_entry(directory, fd, std::move(name), depth);
    }
  }

  void read_entry(ScannedDirectory& directory, int fd, std::string name, unsigned depth) {
    auto entry = std::make_unique<ScannedEntry>();
    entry->dir = &directory, entry->name = std::move(name);
    struct stat attr;
    const char* const text = entry->name.c_str();
    if (::fstatat(fd, text, &attr, AT_SYMLINK_NOFOLLOW) < 0) {
      scan_.find(Severity::kError, "unreadable", entry->path(), std::string("cannot be read: ") + std::strerror(errno));
      return;
    }
    entry->mode = attr.st_mode, entry->nlink = static_cast<uint32_t>(attr.st_nlink), entry->inode = attr.st_ino;
    entry->size = static_cast<uint64_t>(attr.st_size);
    auto id = store::get_id_at(fd, text);
    if (id) entry->id = *id;
    entry->bad_id = !id && id.error().code != ENODATA;
    entry->leaving = read_value<store::Leaving>(fd, text, store::kXattrLeaving, entry->bad_leaving,
                                                [](const auto& raw) { return store::decode_leaving(raw); });
    if (S_ISREG(entry->mode)) {
      entry->stub = read_value<wire::Link>(fd, text, store::kXattrLink, entry->bad_stub,
                                           [](const auto& raw) { return store::decode_link(raw); });
    }
    if (S_ISDIR(entry->mode)) {
      enter(*entry, fd, depth);
      read_name(*entry, fd);
    } else if (entry->id) {
      scan_.objects_by_id[*entry->id].push_back(entry.get());
    }
    directory.entries.push_back(std::move(entry));
  }

  // A named copy is a stub too.
  void read_name(ScannedEntry& entry, int fd) {
    if (!entry.directory || entry.directory->has_role(wire::kRoleHome)) return;
    auto home = store::read_named_copy_at(fd, entry.name.c_str(), entry.dir->id);
    entry.bad_stub = !home;
    if (!home || !*home) return;
    entry.stub.emplace();
    entry.stub->state = wire::LinkState::kCommitted;
    entry.stub->type = wire::ObjectType::kDirectory;
    entry.stub->brick = **home;
    entry.stub->object = entry.directory->id;
  }

  void enter(ScannedEntry& entry, int fd, unsigned depth) {
    unique_fd below(::openat(fd, entry.name.c_str(), kOpenDirectory));
    if (!below) {
      scan_.find(Severity::kError, "unreadable", entry.path(), std::string("cannot be opened: ") + std::strerror(errno));
      return;
    }
    ScannedDirectory& directory = add_directory(&entry, below.get());
    entry.directory = &directory;
    read_directory(directory, below.get(), depth + 1);
  }

  BrickScan& scan_;
};

std::vector<Id> ids_of(const std::vector<std::string>& names) {
  std::vector<Id> ids;
  for (const std::string& name : names) {
    if (auto id = Id::parse(name)) ids.push_back(*id);
  }
  return ids;
}

void read_folders(BrickScan& scan) {
  const int dot = scan.dot.get();
  if (auto names = list_names(dot, "open")) scan.open = ids_of(*names);
  if (auto names = list_names(dot, "txn")) scan.transactions = ids_of(*names);
  auto shards = list_names(dot, "tombs");
  if (!shards) return;
  for (const std::string& shard : *shards) {
    auto names = list_names(dot, ("tombs/" + shard).c_str());
    if (!names) continue;
    const auto ids = ids_of(*names);
    scan.tombs.insert(scan.tombs.end(), ids.begin(), ids.end());
  }
}

Explained<void> read_dot(BrickScan& scan) {
  auto identity = store::read_identity(scan.dot.get(), scan.path);
  if (!identity) return explain(identity.error());
  if (!*identity) return explain(scan.path + " is not a brick: it has no .voldfs/brick.json.");
  scan.identity = **identity;
  scan.lock.reset(::openat(scan.dot.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!scan.lock) scan.lock.reset(::openat(scan.dot.get(), "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (scan.lock && ::flock(scan.lock.get(), LOCK_EX | LOCK_NB) < 0) {
    return explain(scan.path + " is being served: stop its voldbrick first, the check is an offline one.");
  }
  if (auto key = store::read_small_file(scan.dot.get(), "key")) scan.key.assign(key->begin(), key->end());
  if (auto text = store::read_small_file(scan.dot.get(), "map.json")) {
    auto map = dht::VolumeMap::parse(*text);
    if (map) scan.map = std::move(*map);
    if (!map) scan.find(Severity::kError, "map", "/.voldfs/map.json", map.error());
  }
  return {};
}

}  // namespace

std::string ScannedEntry::path() const {
  const std::string above = dir->path();
  return above == "/" ? above + name : above + "/" + name;
}

const ScannedDirectory* BrickScan::directory(const Id& id) const {
  auto at = directories_by_id.find(id);
  return at == directories_by_id.end() ? nullptr : at->second.front();
}

void BrickScan::find(Severity severity, const char* kind, const std::string& where, const std::string& sentence) {
  findings.push_back({severity, kind, path, where, sentence, false});
}

Result<std::vector<std::string>> list_names(int dir, const char* folder) {
  const int fd = ::openat(dir, folder, kOpenDirectory);
  if (fd < 0) return fail_errno();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd), ::closedir);
  if (!stream) {
    ::close(fd);
    return fail_errno();
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return fail_errno();
  std::sort(names.begin(), names.end());  // findings come in the same order each time
  return names;
}

Explained<std::unique_ptr<BrickScan>> scan_brick(const std::string& path) {
  auto scan = std::make_unique<BrickScan>();
  scan->path = path;
  scan->root.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!scan->root) return explain(path + " cannot be opened: " + std::strerror(errno) + ".");
  scan->dot.reset(::openat(scan->root.get(), ".voldfs", kOpenDirectory));
  if (!scan->dot) return explain(path + " is not a brick: it has no .voldfs.");
  if (auto done = read_dot(*scan); !done) return explain(done.error());
  Walk walk(*scan);
  walk.tree(scan->root.get());
  walk.parked();
  read_folders(*scan);
  return scan;
}

}  // namespace voldfs::check
