#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/store/record.h"
#include "brick/wire/message.h"

// Extended attributes of an object, by descriptor (O_PATH too) or by (directory, name) without following
// links. By descriptor is the fastest way (1 us); the others use the *xattrat system calls of kernel 6.13,
// or /proc/self/fd where the kernel is older. An absent attribute is ENODATA. Any thread.
namespace voldfs::store {

// Bytes of the value, put into `value`. With an empty `value`: its size alone. ERANGE: too small.
Result<size_t> get_xattr(int fd, const char* name, std::span<std::byte> value);
Result<size_t> get_xattr_at(int dir, const char* entry, const char* name, std::span<std::byte> value);
// The whole value, whatever its size.
Result<std::vector<std::byte>> read_xattr(int fd, const char* name);
Result<std::vector<std::byte>> read_xattr_at(int dir, const char* entry, const char* name);

// `flags`: XATTR_CREATE, XATTR_REPLACE.
Result<void> set_xattr(int fd, const char* name, std::span<const std::byte> value, int flags = 0);
Result<void> set_xattr_at(int dir, const char* entry, const char* name, std::span<const std::byte> value,
                          int flags = 0);
Result<void> remove_xattr(int fd, const char* name);
Result<void> remove_xattr_at(int dir, const char* entry, const char* name);

// All names, each ended by NUL; also the brick's own.
Result<std::string> list_xattrs(int fd);
Result<std::string> list_xattrs_at(int dir, const char* entry);

// What an object has besides its id, by one system call where each name would take its own.
struct XattrKinds {
  bool leaving = true;   // perhaps a leaving mark (kXattrLeaving)
  bool others = true;    // perhaps such as clients see
};
Result<XattrKinds> xattr_kinds(int fd);
Result<XattrKinds> xattr_kinds_at(int dir, const char* entry);
// Tells clients that they need ask for none, where that is so (wire::kAttrNoXattrs). A directory's are its home's to tell of.
void note_xattrs(const XattrKinds& kinds, wire::Attr& attr);

// `trusted.voldfs.id`. ENODATA: none; EUCLEAN: there is something else than 16 bytes.
Result<Id> get_id(int fd);
Result<Id> get_id_at(int dir, const char* entry);
Result<void> set_id(int fd, const Id& id);
Result<void> set_id_at(int dir, const char* entry, const Id& id);

// Whether the attribute is voldfs's own, which no client sees or changes.
bool is_internal_xattr(std::string_view name);

// A user's attributes of an object (ACLs and capabilities among them, voldfs's own not), in the form of
// wire::append_xattr: what another brick needs to hold it. E2BIG: more than wire::kDataMax.
Result<std::vector<std::byte>> export_xattrs(int fd);
// Makes the user's attributes of an object exactly these.
Result<void> replace_xattrs(int fd, std::span<const wire::XattrView> wanted);

}  // namespace voldfs::store
