#pragma once

#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "brick/base/result.h"
#include "brick/wire/ops.h"

namespace voldfs::dht {

// An entry of a kReaddir page, borrowed from the reply.
struct DirentView {
  wire::DirentHeader header{};
  wire::Attr attr{};        // header.with_attr
  wire::Handle handle{};    // header.with_attr
  std::string_view name;
};

// EPROTO: the page is not what ops.h says.
inline Result<std::vector<DirentView>> parse_dirents(std::span<const std::byte> page, uint32_t count) {
  std::vector<DirentView> entries;
  while (!page.empty()) {
    DirentView entry;
    if (page.size() < sizeof entry.header || entries.size() == count) return fail(EPROTO);
    std::memcpy(&entry.header, page.data(), sizeof entry.header);
    const size_t attr_size = entry.header.with_attr ? sizeof entry.attr + sizeof entry.handle : 0;
    const size_t used = sizeof entry.header + attr_size + entry.header.name_size;
    if (entry.header.size % 8 != 0 || entry.header.size > page.size() || used > entry.header.size ||
        entry.header.name_size == 0 || entry.header.name_size > wire::kNameMax)
      return fail(EPROTO);
    const std::byte* at = page.data() + sizeof entry.header;
    if (entry.header.with_attr) {
      std::memcpy(&entry.attr, at, sizeof entry.attr);
      std::memcpy(&entry.handle, at + sizeof entry.attr, sizeof entry.handle);
    }
    entry.name = {reinterpret_cast<const char*>(at + attr_size), entry.header.name_size};
    entries.push_back(entry);
    page = page.subspan(entry.header.size);
  }
  if (entries.size() != count) return fail(EPROTO);
  return entries;
}

}  // namespace voldfs::dht
