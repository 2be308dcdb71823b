// Both ends of the handshake's decoding: what a stranger may send as hello and auth, and what a brick may answer.

#include <cstring>

#include "brick/server/handshake.h"
#include "brick/wire/frame.h"

namespace {

using namespace voldfs;

void take_hello(const wire::RequestView& view) {
  if (const auto hello = view.as<wire::HelloBody>()) (void)server::check_hello(*hello);
  (void)view.as<wire::AuthBody>();
}

void take_reply(const uint8_t* data, size_t size) {
  wire::Reply reply;
  if (size < sizeof reply.header) return;
  std::memcpy(&reply.header, data, sizeof reply.header);
  if (!wire::check_header(reply.header) || size - sizeof reply.header < wire::front_size(reply.header)) return;
  wire::take_front(reply, reinterpret_cast<const std::byte*>(data) + sizeof reply.header);
  (void)reply.body<wire::ChallengeBody>();
  (void)reply.body<wire::WelcomeBody>();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  take_reply(data, size);
  wire::RequestHeader header;
  while (size >= sizeof header) {
    std::memcpy(&header, data, sizeof header);
    const size_t front_size = wire::front_size(header);
    if (!wire::check_header(header) || header.data_size != 0 || size - sizeof header < front_size) return 0;
    take_hello(wire::view_request(header, reinterpret_cast<const std::byte*>(data) + sizeof header));
    data += sizeof header + front_size;
    size -= sizeof header + front_size;
  }
  return 0;
}
