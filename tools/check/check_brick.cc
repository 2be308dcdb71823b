#include "tools/check/check_brick.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <map>

#include "brick/store/handle.h"
#include "brick/store/xattr.h"

namespace voldfs::check {

namespace {

constexpr uint8_t kRoles = wire::kRoleHome | wire::kRoleBackup | wire::kRoleMember | wire::kRoleSkeleton |
                           wire::kRoleOffHash | wire::kRoleFound;

class BrickCheck {
 public:
  explicit BrickCheck(const BrickScan& scan) : scan_(scan) {}

  Findings run() {
    found_ = scan_.findings;
    secrets();
    root();
    for (const auto& directory : scan_.directories) {
      record(*directory);
      for (const auto& entry : directory->entries) this->entry(*entry);
    }
    uniqueness();
    index();
    leftovers();
    return std::move(found_);
  }

 private:
  void find(Severity severity, const char* kind, const std::string& path, const std::string& sentence) {
    found_.push_back({severity, kind, scan_.path, path, sentence, false});
  }
  void error(const char* kind, const std::string& path, const std::string& sentence) {
    find(Severity::kError, kind, path, sentence);
  }

  void secrets() {
    for (const char* name : {"key", "secret"}) {
      struct stat attr;
      const std::string path = std::string("/.voldfs/") + name;
      if (::fstatat(scan_.dot.get(), name, &attr, AT_SYMLINK_NOFOLLOW) < 0) {
        error("secret", path, "is missing");
      } else if ((attr.st_mode & 07777) != 0600 || attr.st_uid != 0) {
        error("secret", path, "can be read by others than root");
      }
    }
    struct stat attr;
    if (::fstat(scan_.dot.get(), &attr) == 0 && (attr.st_mode & 077) != 0) {
      error("secret", "/.voldfs", "can be entered by others than root");
    }
  }

  void root() {
    const ScannedDirectory& root = scan_.root_directory();
    if (root.id != kRootId) error("root-id", "/", "does not have the root's id");
    if (root.record && root.record->parent != kRootId) error("record", "/", "its record's parent is not the root");
  }

  // A record says what this brick is for the directory.
  void record(const ScannedDirectory& directory) {
    const std::string path = directory.path();
    if (directory.bad_record) return error("record", path, "its record cannot be read");
    if (!directory.record) {
      if (!directory.id.is_none()) error("record", path, "has an id and no record");
      return;
    }
    const wire::DirRecord& record = *directory.record;
    const uint16_t own = scan_.identity.ordinal;
    const auto role = [&](uint8_t bit) { return (record.role & bit) != 0; };
    if (record.role == 0 || (record.role & ~kRoles) || (role(wire::kRoleOffHash) && !role(wire::kRoleHome))) error("record", path, "its record has an impossible role");
    if (role(wire::kRoleSkeleton) && (record.role & ~wire::kRoleSkeleton)) {
      error("record", path, "is a skeleton and something else at once");
    }
    if (role(wire::kRoleHome) != (record.home == own)) error("record", path, "its record names another home than its role");
    if (role(wire::kRoleBackup) != (record.backup == own)) {
      error("record", path, "its record names another backup than its role");
    }
    if (role(wire::kRoleHome) && role(wire::kRoleMember) != record.set.has(own)) {
      error("set", path, "its set and its role do not agree on whether this brick is a member");
    }
    if (role(wire::kRoleHome) && directory.entry && record.parent != directory.entry->dir->id) {
      error("record", path, "is at home, and lies in another directory than its record says");
    }
    if (role(wire::kRoleFound)) {
      if (record.epoch != 0) error("record", path, "is marked as found, and its epoch is not 0");
      else find(Severity::kNote, "found", path, "was put here by hand, and no mount has met it yet");
    }
    if (record.state != wire::DirState::kLive) {
      find(Severity::kPending, "state", path, "is being removed or moved, transaction " + record.txn.hex());
    }
    if (scan_.map && record.epoch > scan_.map->newest_layout().epoch()) {
      error("record", path, "its epoch " + std::to_string(record.epoch) + " is newer than the map");
    }
  }

  void entry(const ScannedEntry& entry) {
    const std::string path = entry.path();
    if (entry.bad_id) error("id", path, "its id is not 16 bytes");
    if (entry.bad_leaving) error("leaving", path, "its leaving mark cannot be read");
    if (entry.leaving) {
      find(Severity::kPending, "leaving", path, "takes part in transaction " + entry.leaving->txn.hex() + " as the old name");
    }
    if (entry.is_stub()) return stub(entry);
    if (S_ISREG(entry.mode) && (entry.mode & 07777) == store::kStubMode && entry.size == 0 && !entry.id) {
      return error("stub", path, "looks like a link stub and leads nowhere");
    }
    if (!entry.id && !entry.bad_id) without_id(entry, path);
    if (!entry.directory && entry.dir->record && !entry.dir->has_role(wire::kRoleMember)) {
      error("membership", path, "lies in a directory that this brick is no member of");
    }
  }

  // FORMAT.md, rule 3.
  void without_id(const ScannedEntry& entry, const std::string& path) {
    const bool adopted = !entry.dir->record || entry.dir->record->epoch == 0;
    find(adopted ? Severity::kNote : Severity::kPending, "no-id", path,
         adopted ? "was put here by hand and gets its id when it is met"
                 : "has no id: put here by hand, or its creation was cut by a power failure");
  }

  void stub(const ScannedEntry& entry) {
    const std::string path = entry.path();
    if (entry.bad_stub) return error("stub", path, "is a link stub that cannot be read");
    if (entry.is_named_copy()) return;
    if ((entry.mode & 07777) != store::kStubMode) error("stub", path, "is a link stub whose mode is not 01000");
    if (entry.size != 0) error("stub", path, "is a link stub with data in it");
    if (entry.id) error("stub", path, "is a link stub with an id of its own");
    if (entry.stub->state == wire::LinkState::kPending) {
      find(Severity::kPending, "stub-pending", path, "belongs to transaction " + entry.stub->txn.hex() + ", which is not cleaned up");
    }
  }

  void uniqueness() {
    for (const auto& [id, directories] : scan_.directories_by_id) {
      for (size_t i = 1; i < directories.size(); ++i) {
        error("id-twice", directories[i]->path(), "has the id of " + directories[0]->path());
      }
      if (auto at = scan_.objects_by_id.find(id); at != scan_.objects_by_id.end()) {
        error("id-twice", at->second[0]->path(), "has the id of the directory " + directories[0]->path());
      }
    }
    for (const auto& [id, entries] : scan_.objects_by_id) {
      for (size_t i = 1; i < entries.size(); ++i) {
        if (entries[i]->inode != entries[0]->inode) {
          error("id-twice", entries[i]->path(), "has the id of " + entries[0]->path() + " and is another file");
        }
      }
    }
  }

  void index() {
    for (const IndexEntry& entry : compare_index(scan_)) {
      const std::string path = "/.voldfs/index/" + entry.id.hex().substr(0, 2) + "/" + entry.id.hex();
      if (entry.expected.empty()) {
        find(Severity::kPending, "index", path, "leads to a directory that is gone");
      } else if (entry.target.empty()) {
        error("index", scan_.directory(entry.id)->path(), "is not in the index");
      } else if (entry.target != entry.expected) {
        error("index", path, "does not lead to " + scan_.directory(entry.id)->path());
      }
    }
  }

  void leftovers() {
    if (auto names = list_names(scan_.dot.get(), "tmp"); names && !names->empty()) {
      find(Severity::kPending, "tmp", "/.voldfs/tmp", "is not empty: something was being built");
    }
    for (const Id& id : scan_.transactions) {
      find(Severity::kPending, "transaction", "/.voldfs/txn/" + id.hex(), "is not finished");
    }
    for (const Id& id : scan_.open) {
      const std::string path = "/.voldfs/open/" + id.hex();
      auto found = store::get_id_at(scan_.dot.get(), ("open/" + id.hex()).c_str());
      if (!found || *found != id) {
        error("open", path, "is not the file that it is named for");
      } else {
        find(Severity::kPending, "open", path, "has no name and was open when the brick stopped");
      }
    }
    for (const Id& id : scan_.tombs) {
      if (const auto* directory = scan_.directory(id)) {
        error("tombstone", directory->path(), "is here, though its id has a tombstone");
      }
    }
  }

  const BrickScan& scan_;
  Findings found_;
};

std::string read_target(int dot, const Id& id) {
  const std::string hex = id.hex(), path = "index/" + hex.substr(0, 2) + "/" + hex;
  char target[PATH_MAX];
  const ssize_t size = ::readlinkat(dot, path.c_str(), target, sizeof target);
  return size < 0 ? std::string() : std::string(target, static_cast<size_t>(size));
}

unique_fd open_scanned(const BrickScan& scan, const ScannedDirectory& directory) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  return unique_fd(::openat(scan.root.get(), ("." + directory.path()).c_str(), kFlags | O_NOFOLLOW));
}

}  // namespace

std::vector<IndexEntry> compare_index(const BrickScan& scan) {
  const std::array<uint8_t, 16> no_key{};  // the index has no MACs
  const store::Handles handles(scan.root.get(), no_key);
  std::map<Id, IndexEntry> entries;
  if (auto shards = list_names(scan.dot.get(), "index")) {
    for (const std::string& shard : *shards) {
      auto names = list_names(scan.dot.get(), ("index/" + shard).c_str());
      for (size_t i = 0; names && i < names->size(); ++i) {
        auto id = Id::parse((*names)[i]);
        if (id) entries[*id] = {*id, read_target(scan.dot.get(), *id), {}};
      }
    }
  }
  for (const auto& directory : scan.directories) {
    if (directory->id.is_none()) continue;
    // The root is found without; its entry tells that the file system is the one that the index was made on.
    if (directory->id == kRootId && !entries.contains(kRootId)) continue;
    const unique_fd fd = open_scanned(scan, *directory);
    auto text = fd ? handles.index_text(fd.get()) : fail(ENOENT);
    auto& entry = entries[directory->id];
    entry.id = directory->id;
    if (text) entry.expected = *text;
  }
  std::vector<IndexEntry> all;
  for (auto& [id, entry] : entries) {
    if (entry.target != entry.expected) all.push_back(std::move(entry));
  }
  return all;
}

Findings check_brick(const BrickScan& scan) { return BrickCheck(scan).run(); }

}  // namespace voldfs::check
