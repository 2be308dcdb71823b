#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>

#include "brick/wire/message.h"

// How messages lie in a byte stream: header, front (body, name, name2), data. No I/O.
namespace voldfs::wire {

inline constexpr size_t kFrontMax = kBodyMax + kNameMax + kTextMax;

// Bytes between the header and the data. Of a checked header: at most kFrontMax.
template <class Header>
size_t front_size(const Header& header) {
  return size_t{header.body_size} + header.name_size + header.name2_size;
}

// A request whose front lies at `front`; without its data. REQUIRES: check_header(header) was satisfied.
RequestView view_request(const RequestHeader& header, const std::byte* front);

// Copies the front of a reply into it. REQUIRES: check_header(reply.header) was satisfied.
void take_front(Reply& reply, const std::byte* front);

// A message as sendmsg() takes it; borrows every part of it.
struct Gather {
  std::array<iovec, 5> parts;
  size_t count = 0;
  size_t bytes = 0;

  void add(const void* data, size_t size) {
    if (size == 0) return;
    parts[count++] = {const_cast<void*>(data), size};
    bytes += size;
  }
  // Takes off what has been sent.
  void advance(size_t sent);
};
Gather gather(const Request& request);
// Sets the header's sizes from the parts. `data` of the builder wins over `data_room`.
Gather gather(ReplyBuilder& reply);

}  // namespace voldfs::wire
