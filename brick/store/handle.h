#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/wire/types.h"

namespace voldfs::store {

// The kernel's file handles of this brick's file system, as hints for clients: each carries a MAC over type,
// bytes and the object's id, with a key that never leaves the brick, so that a client can name no inode that
// it was not told of. The object's type is in the upper byte of wire::Handle::type, so that opening knows
// what may be opened for reading and what (devices, fifos, symbolic links) by O_PATH alone. Any thread.
class Handles {
 public:
  // `root`: a descriptor of the brick's directory, which outlives this. `key`: the content of .voldfs/key, 16
  // bytes or more.
  Handles(int root, std::span<const uint8_t> key);

  // The handle of an open object (also O_PATH), or of an entry without following links. EOPNOTSUPP: the file
  // system has none.
  Result<wire::Handle> make(int fd, const Id& id, wire::ObjectType type) const;
  Result<wire::Handle> make_at(int dir, const char* name, const Id& id, wire::ObjectType type) const;

  // Opens an object by its handle, after the MAC, and checks its id. `flags`: of open(2); ignored for what is neither a
  // file nor a directory, and then the descriptor is O_PATH. kStaleHandle: forged, gone, or another
  // object now; handles of size 0 are for open_object() (object_open.h).
  Result<unique_fd> open(const wire::ObjectRef& object, int flags) const;
  static wire::ObjectType type_of(const wire::Handle& handle);

  // Without MAC and id, for what lies on the brick's own disk (index/): "TYPE:HEX".
  Result<std::string> index_text(int fd) const;
  Result<unique_fd> open_index_text(std::string_view text, int flags) const;  // ESTALE, EINVAL

 private:
  uint64_t mac(const wire::Handle& handle, const Id& id) const;

  const int root_;
  std::array<uint8_t, 16> key_;
};

}  // namespace voldfs::store
