#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/store/identity.h"
#include "brick/store/record.h"
#include "brick/wire/types.h"
#include "dht/volume_map.h"
#include "tools/check/finding.h"

namespace voldfs::check {

struct ScannedDirectory;

// A name in a brick's tree: what the disk says of it, not yet judged. Directories too.
struct ScannedEntry {
  const ScannedDirectory* dir = nullptr;  // that it lies in
  std::string name;
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  std::optional<Id> id;                   // none: it has none, or one that is not 16 bytes (bad_id)
  bool bad_id = false;
  std::optional<wire::Link> stub;
  bool bad_stub = false;                  // has the attribute, and it cannot be read
  std::optional<store::Leaving> leaving;
  bool bad_leaving = false;
  const ScannedDirectory* directory = nullptr;  // what it is, if it is one

  bool is_stub() const { return stub.has_value() || bad_stub; }
  bool is_named_copy() const { return is_stub() && directory; }
  std::string path() const;
};

struct ScannedDirectory {
  const ScannedEntry* entry = nullptr;    // null: the brick's root, or parked
  Id id;                                  // none: see the entry
  std::optional<wire::DirRecord> record;
  bool bad_record = false;
  uint64_t inode = 0;
  std::string parked_path;                // of one in .voldfs/parked: where, from .voldfs
  std::vector<std::unique_ptr<ScannedEntry>> entries;

  std::string path() const { return !parked_path.empty() ? "/.voldfs/" + parked_path : entry ? entry->path() : "/"; }
  bool has_role(uint8_t role) const { return record && (record->role & role) != 0; }
};

// Everything that an offline check needs to know of one brick. Holds the brick's lock for as long as it lives, so
// that nobody serves it meanwhile. One thread.
struct BrickScan {
  std::string path;
  unique_fd root, dot, lock;
  store::Identity identity;
  std::vector<uint8_t> key;
  std::optional<dht::VolumeMap> map;      // the brick's own copy
  std::vector<std::unique_ptr<ScannedDirectory>> directories;  // the root first
  std::unordered_map<Id, std::vector<const ScannedDirectory*>> directories_by_id;
  std::unordered_map<Id, std::vector<const ScannedEntry*>> objects_by_id;  // files and everything else that is no directory
  std::vector<Id> tombs, open, transactions;
  Findings findings;                      // of the scan itself: what could not be read

  const ScannedDirectory& root_directory() const { return *directories.front(); }
  const ScannedDirectory* directory(const Id& id) const;
  void find(Severity severity, const char* kind, const std::string& where, const std::string& sentence);
};

// A sentence says why a directory cannot be checked: no brick, being served.
Explained<std::unique_ptr<BrickScan>> scan_brick(const std::string& path);

// The names in a directory, "." and ".." aside.
Result<std::vector<std::string>> list_names(int dir, const char* folder);

}  // namespace voldfs::check
