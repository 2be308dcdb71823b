#pragma once

#include "tools/check/scan.h"

namespace voldfs::check {

// The rules of FORMAT.md that one brick can be held against alone: identity, ids, records, stubs, marks, index,
// what is left in `.voldfs`.
Findings check_brick(const BrickScan& scan);

// What the index says of each directory and what it should; used by repair too.
struct IndexEntry {
  Id id;
  std::string target;    // of the symbolic link; empty: there is none
  std::string expected;  // empty: no such directory is here, the entry is left over
};
std::vector<IndexEntry> compare_index(const BrickScan& scan);

}  // namespace voldfs::check
