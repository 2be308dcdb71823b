#include "brick/wire/message.h"

namespace voldfs::wire {

namespace {

constexpr uint16_t kRequestFlags = kFlagResend | kFlagReclaim | kFlagNoCreds | kFlagTakesDescriptor;
constexpr uint16_t kReplyFlags = kFlagReplayed | kFlagDirectories | kFlagDescriptor | kFlagUnclean;
constexpr size_t kXattrPrefix = sizeof(uint16_t) + sizeof(uint32_t);

template <class Header>
bool sizes_within_limits(const Header& header) {
  return header.body_size <= kBodyMax && header.name_size <= kNameMax && header.name2_size <= kTextMax &&
         header.data_size <= kDataMax;
}

}  // namespace

Result<void> check_header(const RequestHeader& header) {
  if (header.magic != kRequestMagic || header.version != kVersion) return fail(EPROTO);
  if (!sizes_within_limits(header)) return fail(EPROTO);
  if ((header.flags & ~kRequestFlags) != 0 || header.reserved2 != 0) return fail(EPROTO);
  if (header.slot >= kSlotsMax || header.umask > 07777) return fail(EPROTO);
  return {};
}

Result<void> check_header(const ReplyHeader& header) {
  if (header.magic != kReplyMagic || header.version != kVersion) return fail(EPROTO);
  if (!sizes_within_limits(header)) return fail(EPROTO);
  if ((header.flags & ~kReplyFlags) != 0 || header.reserved != 0) return fail(EPROTO);
  return {};
}

Result<void> check_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return fail(EINVAL);
  if (name.size() > kNameMax) return fail(ENAMETOOLONG);
  for (char c : name) {
    if (c == '\0' || c == '/') return fail(EINVAL);
  }
  return {};
}

void append_xattr(std::vector<std::byte>& list, std::string_view name, std::span<const std::byte> value) {
  const auto name_size = static_cast<uint16_t>(name.size());
  const auto value_size = static_cast<uint32_t>(value.size());
  size_t at = list.size();
  list.resize(at + kXattrPrefix + name.size() + value.size());
  std::memcpy(&list[at], &name_size, sizeof name_size);
  std::memcpy(&list[at + sizeof name_size], &value_size, sizeof value_size);
  at += kXattrPrefix;
  if (!name.empty()) std::memcpy(&list[at], name.data(), name.size());
  if (!value.empty()) std::memcpy(&list[at + name.size()], value.data(), value.size());
}

Result<std::vector<XattrView>> parse_xattrs(std::span<const std::byte> list) {
  std::vector<XattrView> out;
  while (!list.empty()) {
    if (list.size() < kXattrPrefix) return fail(EPROTO);
    uint16_t name_size;
    uint32_t value_size;
    std::memcpy(&name_size, list.data(), sizeof name_size);
    std::memcpy(&value_size, list.data() + sizeof name_size, sizeof value_size);
    list = list.subspan(kXattrPrefix);
    if (name_size == 0 || name_size > kNameMax) return fail(EPROTO);
    if (list.size() < name_size || list.size() - name_size < value_size) return fail(EPROTO);
    const std::string_view name(reinterpret_cast<const char*>(list.data()), name_size);
    if (name.find('\0') != std::string_view::npos) return fail(EPROTO);
    out.push_back({name, list.subspan(name_size, value_size)});
    list = list.subspan(name_size + value_size);
  }
  return out;
}

}  // namespace voldfs::wire
