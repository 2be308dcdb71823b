#include "brick/base/id.h"

#include <sys/random.h>

#include <cstdio>
#include <cstdlib>

namespace voldfs {

Id Id::random() {
  Id id;
  if (getrandom(id.bytes.data(), id.bytes.size(), 0) != static_cast<ssize_t>(id.bytes.size())) {
    std::perror("getrandom");
    std::abort();
  }
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);  // RFC 9562, 5.4: version 4
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);  // variant
  return id;
}

Id Id::random_adopted() {
  Id id = random();
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x80);  // RFC 9562, 5.8: version 8
  return id;
}

std::optional<Id> Id::parse(std::string_view text) {
  Id id;
  size_t digits = 0;
  for (char c : text) {
    if (c == '-') continue;
    int value;
    if (c >= '0' && c <= '9') value = c - '0';
    else if (c >= 'a' && c <= 'f') value = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F') value = c - 'A' + 10;
    else return std::nullopt;
    if (digits == 32) return std::nullopt;
    auto& byte = id.bytes[digits / 2];
    byte = static_cast<uint8_t>(byte << 4 | value);
    ++digits;
  }
  if (digits != 32) return std::nullopt;
  return id;
}

std::string Id::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(32);
  for (uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string Id::uuid() const {
  std::string h = hex();
  return h.substr(0, 8) + '-' + h.substr(8, 4) + '-' + h.substr(12, 4) + '-' + h.substr(16, 4) + '-' + h.substr(20);
}

}  // namespace voldfs
