// What a peer may send as a request: header, front, and the structures in them.

#include <algorithm>
#include <cstring>

#include "brick/server/operation.h"
#include "brick/server/ops_lock.h"
#include "brick/wire/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace voldfs;
  wire::RequestHeader header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, data, sizeof header);
  if (!wire::check_header(header)) return 0;
  const auto* front = reinterpret_cast<const std::byte*>(data) + sizeof header;
  const size_t left = size - sizeof header;
  const size_t front_size = wire::front_size(header);
  if (front_size > wire::kFrontMax) __builtin_trap();
  if (left < front_size) return 0;
  wire::RequestView view = wire::view_request(header, front);
  view.data = std::span(front + front_size, std::min<size_t>(left - front_size, header.data_size));
  (void)wire::check_name(view.name);
  (void)wire::check_name(view.name2);
  if (const auto xattrs = wire::parse_xattrs(view.data)) {
    for (const wire::XattrView& xattr : *xattrs) {
      if (xattr.value.data() + xattr.value.size() > view.data.data() + view.data.size()) __builtin_trap();
    }
  }
  if (const auto lock = view.as<wire::LockBody>()) (void)server::check_lock(*lock);
  (void)server::find_operation(view.op());
  return 0;
}
