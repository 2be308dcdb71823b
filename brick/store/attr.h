#pragma once

#include "brick/base/result.h"
#include "brick/wire/types.h"

// statx(2) as the wire has it, with the birth time where the file system knows one. Any thread.
namespace voldfs::store {

Result<wire::Attr> get_attr(int fd);  // also of an O_PATH descriptor
Result<wire::Attr> get_attr_at(int dir, const char* name);  // of the entry itself, no link is followed

wire::ObjectType type_of_mode(uint32_t mode);

}  // namespace voldfs::store
