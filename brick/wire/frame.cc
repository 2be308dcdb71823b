#include "brick/wire/frame.h"

#include <algorithm>

namespace voldfs::wire {

RequestView view_request(const RequestHeader& header, const std::byte* front) {
  RequestView view;
  view.header = header;
  view.body = front;
  const auto* text = reinterpret_cast<const char*>(front) + header.body_size;
  view.name = {text, header.name_size};
  view.name2 = {text + header.name_size, header.name2_size};
  return view;
}

void take_front(Reply& reply, const std::byte* front) {
  std::memcpy(reply.body_buffer(), front, reply.header.body_size);
  const auto* text = reinterpret_cast<const char*>(front) + reply.header.body_size;
  reply.name.assign(text, reply.header.name_size);
  reply.name2.assign(text + reply.header.name_size, reply.header.name2_size);
}

void Gather::advance(size_t sent) {
  bytes -= sent;
  size_t first = 0;
  while (first < count && sent >= parts[first].iov_len) sent -= parts[first++].iov_len;
  std::move(parts.begin() + first, parts.begin() + count, parts.begin());
  count -= first;
  if (sent == 0) return;
  parts[0].iov_base = static_cast<char*>(parts[0].iov_base) + sent;
  parts[0].iov_len -= sent;
}

Gather gather(const Request& request) {
  Gather out;
  out.add(&request.header(), sizeof(RequestHeader));
  out.add(request.body().data(), request.body().size());
  out.add(request.name().data(), request.name().size());
  out.add(request.name2().data(), request.name2().size());
  out.add(request.data().data(), request.data().size());
  return out;
}

Gather gather(ReplyBuilder& reply) {
  ReplyHeader& header = reply.header;
  header.name_size = static_cast<uint16_t>(reply.name.size());
  header.name2_size = static_cast<uint16_t>(reply.name2.size());
  if (!reply.data.empty()) header.data_size = static_cast<uint32_t>(reply.data.size());
  Gather out;
  out.add(&header, sizeof header);
  out.add(reply.body.data(), header.body_size);
  out.add(reply.name.data(), reply.name.size());
  out.add(reply.name2.data(), reply.name2.size());
  out.add(reply.data.empty() ? reply.data_room.data() : reply.data.data(), header.data_size);
  return out;
}

}  // namespace voldfs::wire
