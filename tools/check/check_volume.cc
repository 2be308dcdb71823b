#include "tools/check/check_volume.h"

#include <algorithm>
#include <map>

namespace voldfs::check {

namespace {

using wire::ObjectType;

// The authority of a name; 0: any brick may have it (epoch 0), or the directory is not understood.
uint16_t authority_of(const ScannedDirectory& dir, const std::string& name, const dht::VolumeMap& map) {
  if (!dir.record || dir.record->epoch == 0) return 0;
  const dht::Layout* layout = map.layout(dir.record->epoch);
  return layout ? layout->place(dir.id, name) : 0;
}

const ScannedEntry* entry_named(const ScannedDirectory& dir, const std::string& name) {
  // They are in the order of their names (list_names).
  auto at = std::lower_bound(dir.entries.begin(), dir.entries.end(), name,
                             [](const auto& entry, const std::string& wanted) { return entry->name < wanted; });
  return at != dir.entries.end() && (*at)->name == name ? at->get() : nullptr;
}

class VolumeCheck {
 public:
  VolumeCheck(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map) : map_(map) {
    for (const auto& scan : scans) by_ordinal_[scan->identity.ordinal] = scan.get();
    for (const auto& scan : scans) index_stubs(*scan);
  }

  Findings run() {
    for (const auto& [ordinal, scan] : by_ordinal_) {
      identity(*scan);
      for (const auto& directory : scan->directories) {
        this->directory(*scan, *directory);
        for (const auto& entry : directory->entries) this->entry(*scan, *entry);
      }
    }
    unique_ids();
    return std::move(found_);
  }

 private:
  void find(const BrickScan& scan, Severity severity, const char* kind, const std::string& path,
            const std::string& sentence) {
    found_.push_back({severity, kind, scan.path, path, sentence, false});
  }
  const BrickScan* brick(uint16_t ordinal) const {
    auto at = by_ordinal_.find(ordinal);
    return at == by_ordinal_.end() ? nullptr : at->second;
  }

  void index_stubs(const BrickScan& scan) {
    for (const auto& directory : scan.directories) {
      for (const auto& entry : directory->entries) {
        if (entry->stub) stubs_[entry->stub->object].push_back(entry.get());
      }
    }
  }

  void identity(const BrickScan& scan) {
    const auto* entry = map_.brick(scan.identity.brick);
    if (scan.identity.volume != map_.volume) {
      find(scan, Severity::kError, "volume", "/", "belongs to another volume than the map");
    } else if (!entry) {
      find(scan, Severity::kError, "volume", "/", "is no brick of the map");
    } else if (entry->ordinal != scan.identity.ordinal) {
      find(scan, Severity::kError, "volume", "/", "has another ordinal than in the map");
    }
  }

  void directory(const BrickScan& scan, const ScannedDirectory& directory) {
    if (!directory.record) return;
    if (directory.has_role(wire::kRoleHome)) {
      home(scan, directory);
    } else {
      copy(scan, directory);
    }
    const uint32_t counted = count_subdirectories(scan, directory, map_);
    if (counted != directory.record->subdirectories) {
      find(scan, Severity::kError, "subdirectories", directory.path(),
           "counts " + std::to_string(directory.record->subdirectories) + " subdirectories and has " +
               std::to_string(counted));
    }
  }

  // Home's record names the bricks that may hold names of the directory, and its backup.
  void home(const BrickScan& scan, const ScannedDirectory& home) {
    const wire::DirRecord& record = *home.record;
    for (const auto& [ordinal, other] : by_ordinal_) {
      if (other == &scan) continue;
      const ScannedDirectory* copy = other->directory(home.id);
      if (record.set.has(ordinal) && !copy) {
        find(scan, Severity::kNote, "set", home.path(), "may be on " + other->path + " too, which has not made it yet");
      }
      if (record.backup == ordinal && (!copy || !copy->has_role(wire::kRoleBackup))) {
        find(scan, Severity::kPending, "backup", home.path(), "has its backup on " + other->path + ", which does not hold it");
      }
    }
  }

  void copy(const BrickScan& scan, const ScannedDirectory& copy) {
    const wire::DirRecord& record = *copy.record;
    const BrickScan* at_home = brick(record.home);
    if (!at_home) return;
    const ScannedDirectory* home = at_home->directory(copy.id);
    const std::string path = copy.path();
    if (!home || !home->has_role(wire::kRoleHome)) {
      const bool gone = !copy.has_role(wire::kRoleMember);
      return find(scan, gone ? Severity::kPending : Severity::kError, "no-home", path,
                  "is a copy of a directory that its home " + at_home->path + " does not have");
    }
    if (!home->record) return;
    const uint16_t own = scan.identity.ordinal;
    if (copy.has_role(wire::kRoleMember) && !home->record->set.has(own)) {
      find(scan, Severity::kError, "set", path, "is a member here, and not in the set at home");
    }
    // Epochs 0 and 1 place names alike: the root of a brick that had no files says 1, while home looks on all bricks for other's.
    const bool is_newer_epoch = record.epoch > std::max<uint32_t>(home->record->epoch, 1);
    if (record.change > home->record->change || is_newer_epoch) {
      find(scan, Severity::kError, "change", path, "has a newer record than its home");
    }
    if (copy.has_role(wire::kRoleBackup) && record.change < home->record->change) {
      find(scan, Severity::kPending, "backup", path, "is the backup, and behind its home");
    }
  }

  void entry(const BrickScan& scan, const ScannedEntry& entry) {
    if (entry.stub) return stub(scan, entry);
    if (entry.is_stub()) return;
    if (entry.directory) {
      if (!entry.directory->has_role(wire::kRoleHome)) return;  // where a copy lies is a convenience
    } else if (!entry.id) {
      return;
    }
    off_hash(scan, entry);
  }

  // An entry that is not on its authority is there because a stub at the authority leads to it.
  void off_hash(const BrickScan& scan, const ScannedEntry& entry) {
    const uint16_t authority = authority_of(*entry.dir, entry.name, map_);
    if (authority == 0 || authority == scan.identity.ordinal) return;
    const BrickScan* at = brick(authority);
    if (!at) return;
    const Id id = entry.directory ? entry.directory->id : *entry.id;
    const ScannedDirectory* dir = at->directory(entry.dir->id);
    const ScannedEntry* claim = dir ? entry_named(*dir, entry.name) : nullptr;
    if (claim && claim->stub && claim->stub->object == id && claim->stub->brick == scan.identity.brick) return;
    const bool led_to = stubs_.count(id) != 0 || entry.leaving || (!entry.directory && entry.nlink > 1);
    find(scan, led_to ? Severity::kPending : Severity::kError, led_to ? "unsettled" : "orphan",
         entry.path(),
         led_to ? "lies under a path that is not its name's (any more)"
                : "is led to by nothing: its name's authority " + at->path + " has " +
                      (claim ? "something else under it" : "nothing under it"));
  }

  void stub(const BrickScan& scan, const ScannedEntry& entry) {
    const wire::Link& link = *entry.stub;
    const std::string path = entry.path();
    const uint16_t authority = authority_of(*entry.dir, entry.name, map_);
    if (authority != 0 && authority != scan.identity.ordinal) {
      find(scan, Severity::kError, "stub-misplaced", path, "is a link stub on a brick that is not its name's authority");
    }
    const auto* target = map_.brick(link.brick);
    if (!target) return find(scan, Severity::kError, "stub-dangling", path, "leads to a brick that is not in the map");
    const BrickScan* at = brick(target->ordinal);
    if (!at) return;
    const bool is_directory = link.type == ObjectType::kDirectory;
    const ScannedDirectory* home = at->directory(link.object);
    const bool there = is_directory ? home && home->has_role(wire::kRoleHome) : at->objects_by_id.count(link.object) != 0;
    if (!there && link.state == wire::LinkState::kPending) return;  // reported as such
    if (!there) {
      find(scan, Severity::kError, "stub-dangling", path,
           "leads to " + link.object.hex() + " on " + at->path + ", which is not there");
    }
  }

  // A directory has one home, and anything else is on one brick.
  void unique_ids() {
    std::map<Id, const BrickScan*> homes, objects;
    for (const auto& [ordinal, scan] : by_ordinal_) {
      for (const auto& [id, directories] : scan->directories_by_id) {
        // What a brick found it holds as its own until a mount has met it.
        if (!directories[0]->has_role(wire::kRoleHome) || directories[0]->has_role(wire::kRoleFound)) continue;
        claim(homes, id, *scan, directories[0]->path());
      }
      for (const auto& [id, entries] : scan->objects_by_id) claim(objects, id, *scan, entries[0]->path());
    }
  }
  void claim(std::map<Id, const BrickScan*>& owners, const Id& id, const BrickScan& scan, const std::string& path) {
    auto [at, first] = owners.try_emplace(id, &scan);
    if (!first) find(scan, Severity::kError, "id-twice", path, "is on " + at->second->path + " too, with the same id");
  }

  const dht::VolumeMap& map_;
  std::map<uint16_t, const BrickScan*> by_ordinal_;
  std::unordered_map<Id, std::vector<const ScannedEntry*>> stubs_;  // by the object that they lead to
  Findings found_;
};

}  // namespace

uint32_t count_subdirectories(const BrickScan& scan, const ScannedDirectory& directory, const dht::VolumeMap& map) {
  uint32_t count = 0;
  for (const auto& entry : directory.entries) {
    const bool leads = entry->stub ? entry->stub->type == ObjectType::kDirectory
                                   : entry->directory && entry->directory->has_role(wire::kRoleHome) &&
                                         !entry->directory->has_role(wire::kRoleFound);
    if (!leads) continue;
    const uint16_t authority = authority_of(directory, entry->name, map);
    if (authority == 0 || authority == scan.identity.ordinal) ++count;
  }
  return count;
}

Findings check_volume(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map) {
  return VolumeCheck(scans, map).run();
}

}  // namespace voldfs::check
