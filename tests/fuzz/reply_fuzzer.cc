// What a brick, or who claims to be one, may answer: header, front, and the structures in body and payload as the client takes them.

#include <algorithm>
#include <cstring>
#include <span>

#include "brick/wire/frame.h"
#include "brick/wire/message.h"
#include "dht/dirent_view.h"
#include "dht/volume_map.h"

namespace {

using namespace voldfs;

bool is_inside(std::span<const std::byte> whole, const void* at, size_t size) {
  const auto* begin = static_cast<const std::byte*>(at);
  return size == 0 || (begin >= whole.data() && size <= whole.size() && begin - whole.data() <= static_cast<std::ptrdiff_t>(whole.size() - size));
}

void take_page(const wire::Reply& reply) {
  const auto body = reply.body<wire::ReaddirReply>();
  for (const uint32_t count : {body ? body->count : 0u, 1u, UINT32_MAX}) {
    const auto entries = dht::parse_dirents(reply.data, count);
    if (!entries) continue;
    if (entries->size() != count) __builtin_trap();
    for (const dht::DirentView& entry : *entries)
      if (!is_inside(reply.data, entry.name.data(), entry.name.size())) __builtin_trap();
  }
}

void take_payload(const wire::Reply& reply) {
  take_page(reply);
  if (const auto xattrs = wire::parse_xattrs(reply.data))
    for (const wire::XattrView& xattr : *xattrs)
      if (!is_inside(reply.data, xattr.value.data(), xattr.value.size())) __builtin_trap();
  (void)dht::VolumeMap::parse({reinterpret_cast<const char*>(reply.data.data()), reply.data.size()});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wire::Reply reply;
  if (size < sizeof reply.header) return 0;
  std::memcpy(&reply.header, data, sizeof reply.header);
  if (!wire::check_header(reply.header)) return 0;
  const size_t front = wire::front_size(reply.header);
  const size_t left = size - sizeof reply.header;
  if (front > wire::kFrontMax) __builtin_trap();
  if (left < front) return 0;
  const auto* at = reinterpret_cast<const std::byte*>(data) + sizeof reply.header;
  wire::take_front(reply, at);
  (void)reply.body<wire::EntryBody>();
  (void)reply.body<wire::RecallBody>();
  (void)reply.body<wire::LockBody>();
  reply.owned_data.assign(at + front, at + front + std::min<size_t>(left - front, reply.header.data_size));
  reply.data = reply.owned_data;
  take_payload(reply);
  return 0;
}
