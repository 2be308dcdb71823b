#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace voldfs {

// A 16-byte identity: of a file or directory (`trusted.voldfs.id`), a brick, a volume, a client, a
// transaction. Random ones are UUIDs of version 4. All zero means "none".
struct Id {
  std::array<uint8_t, 16> bytes{};

  // From the kernel's random source. Ends the process if there is none.
  static Id random();
  // The same, marked as the id of a file that was there before voldfs (FORMAT.md, rule 3): version 8.
  static Id random_adopted();
  bool is_adopted() const { return bytes[6] >> 4 == 8; }
  // 32 hexadecimal digits, with or without the dashes of a UUID.
  static std::optional<Id> parse(std::string_view text);
  static Id from_bytes(const void* sixteen_bytes) {
    Id id;
    std::memcpy(id.bytes.data(), sixteen_bytes, 16);
    return id;
  }

  bool is_none() const { return *this == Id{}; }
  std::string hex() const;   // 32 lower-case digits
  std::string uuid() const;  // 8-4-4-4-12
  auto operator<=>(const Id&) const = default;
};
static_assert(sizeof(Id) == 16);

// The id of every volume's root directory.
inline constexpr Id kRootId{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

// Ids are random already, so eight of their bytes are a hash; the root's last bytes keep it apart.
struct IdHash {
  size_t operator()(const Id& id) const {
    uint64_t low, high;
    std::memcpy(&low, id.bytes.data(), 8);
    std::memcpy(&high, id.bytes.data() + 8, 8);
    return static_cast<size_t>(low ^ high);
  }
};

}  // namespace voldfs

template <>
struct std::hash<voldfs::Id> : voldfs::IdHash {};
