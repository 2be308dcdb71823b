#pragma once

#include <cstddef>
#include <span>

#include "brick/base/result.h"
#include "brick/store/directories.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

class Store;

// A page of a directory (kReaddir). Positions are of 53 bits: what the file system gives, shifted. Where the shift loses
// bits (ext4's are 63 bits of hash), names whose positions become equal are a tie, and a page ends before or behind
// a tie, never in it. No state between pages: a position is good for as long as the directory lives.
//
// Lists what is here but `.voldfs`, "." and "..", skeletons and members' copies of directories; which names this brick is the
// authority of, the client knows.
struct PageRequest {
  uint64_t position = 0;
  size_t size_max = 0;
  bool with_attr = false;
  bool keep_atime = false;
};
struct Page {
  wire::ReaddirReply reply{};
  size_t size = 0;  // bytes of `into` that are used
};
// EINVAL: `into` has no room for one entry.
Result<Page> read_page(Store& store, const Directory& dir, const PageRequest& request, std::span<std::byte> into);

// How far this file system's positions must be shifted, by those of `.voldfs`: hashes are spread over all of their bits, and it has some ten
// names. EOVERFLOW: too far.
Result<unsigned> find_position_shift(int dot);

}  // namespace voldfs::store
