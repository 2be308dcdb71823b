#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/wire/ops.h"
#include "brick/wire/status.h"

// Messages in memory: header, body, two texts, payload. Nothing here does I/O; the sockets are moved by
// brick/client/connection and brick/server/lane.
namespace voldfs::wire {

// A request as the client builds it. Copies its body and texts, borrows its payload until the reply is here.
class Request {
 public:
  explicit Request(Op op, std::span<const std::byte> data = {}) : data_(data) {
    header_.op = static_cast<uint16_t>(op);
    header_.data_size = static_cast<uint32_t>(data.size());
  }
  template <class Body>
  Request(Op op, const Body& body, std::string_view name = {}, std::string_view name2 = {},
          std::span<const std::byte> data = {})
      : Request(op) {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= kBodyMax);
    std::memcpy(body_.data(), &body, sizeof body);
    header_.body_size = sizeof body;
    name_ = name, name2_ = name2, data_ = data;
    header_.name_size = static_cast<uint16_t>(name.size());
    header_.name2_size = static_cast<uint16_t>(name2.size());
    header_.data_size = static_cast<uint32_t>(data.size());
  }

  RequestHeader& header() { return header_; }
  const RequestHeader& header() const { return header_; }
  std::span<const std::byte> body() const { return {body_.data(), header_.body_size}; }
  const std::string& name() const { return name_; }
  const std::string& name2() const { return name2_; }
  std::span<const std::byte> data() const { return data_; }

 private:
  RequestHeader header_{};
  std::array<std::byte, kBodyMax> body_;
  std::string name_, name2_;
  std::span<const std::byte> data_;
};

// A reply as the client receives it. `data` is either owned, or lies in the buffer that the caller gave.
class Reply {
 public:
  ReplyHeader header{};
  std::string name, name2;
  std::span<std::byte> data;
  std::vector<std::byte> owned_data;
  unique_fd descriptor;  // that came along (kFlagDescriptor)

  // Not of the wire, and zero until the asker notes it: which brick was asked, when, and under which generation of
  // grants (dht/grants.h).
  uint16_t asked_brick = 0;
  int64_t asked_ms = 0;
  uint64_t asked_generation = 0;

  // The body, if it has exactly this size; EPROTO otherwise.
  template <class Body>
  Result<Body> body() const {
    static_assert(std::is_trivially_copyable_v<Body>);
    if (header.body_size != sizeof(Body)) return fail(EPROTO);
    Body out;
    std::memcpy(&out, body_.data(), sizeof out);
    return out;
  }
  std::byte* body_buffer() { return body_.data(); }

 private:
  std::array<std::byte, kBodyMax> body_{};
};

// A request as the brick sees it: checked against the limits, everything borrowed from the lane's buffers.
struct RequestView {
  RequestHeader header{};
  const std::byte* body = nullptr;
  std::string_view name, name2;
  std::span<const std::byte> data;

  Op op() const { return static_cast<Op>(header.op); }
  template <class Body>
  Result<Body> as() const {
    static_assert(std::is_trivially_copyable_v<Body>);
    if (header.body_size != sizeof(Body)) return fail(EPROTO);
    Body out;
    std::memcpy(&out, body, sizeof out);
    return out;
  }
};

// A reply as the brick builds it. The lane owns the buffers and sends them.
struct ReplyBuilder {
  ReplyHeader header{};
  std::array<std::byte, kBodyMax> body;
  std::string name, name2;
  std::span<std::byte> data_room;  // where a payload may be put: kDataMax bytes when the operation has one
  std::vector<std::byte> data;     // or a payload of its own; wins over data_room if not empty
  unique_fd descriptor;            // to be sent along, if there is one

  template <class Body>
  void set_body(const Body& value) {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= kBodyMax);
    std::memcpy(body.data(), &value, sizeof value);
    header.body_size = sizeof value;
  }
};

// A header's sizes against the limits of types.h, its magic and version: what a decoder checks before it
// reads further. EPROTO: close the connection.
Result<void> check_header(const RequestHeader& header);
Result<void> check_header(const ReplyHeader& header);

// A name that may be in a directory: 1 to 255 bytes, no NUL, no '/', not "." or "..". EINVAL, ENAMETOOLONG.
// (".voldfs" in the root is refused by the store, which knows the root.)
Result<void> check_name(std::string_view name);

// Extended attributes of one object, for kDirExport and kMaterialize: u16 name size, u32 value size
// (unaligned, little-endian), name, value; repeated.
void append_xattr(std::vector<std::byte>& list, std::string_view name, std::span<const std::byte> value);
struct XattrView {
  std::string_view name;
  std::span<const std::byte> value;
};
Result<std::vector<XattrView>> parse_xattrs(std::span<const std::byte> list);  // EPROTO

}  // namespace voldfs::wire
