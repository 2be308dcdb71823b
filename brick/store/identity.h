#pragma once

#include <optional>
#include <string>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::store {

// What brick.json says: which brick a directory is, and the file system it was made on.
struct Identity {
  Id volume, brick;
  uint16_t ordinal = 0;
  std::string file_system;
};

// Of `.voldfs` (a descriptor). Nothing: it is not a brick. Refuses formats and features that this program does not know.
Explained<std::optional<Identity>> read_identity(int dot, const std::string& path);
Result<void> write_identity(int dot, const Identity& identity);

// UUID of a file system, or else its fsid: what shows that a brick was copied elsewhere.
std::string file_system_of(int fd);

// What a brick cannot do without, tried in its directory `dot`: writing, `trusted.*` attributes, file handles, space. `min_free_percent`: none for what
// is a brick already, which serves what it has on a full disk too; what cannot be tried there it had when it was made.
Explained<void> check_abilities(int dot, const std::string& path, std::optional<uint32_t> min_free_percent);

}  // namespace voldfs::store
