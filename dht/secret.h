#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brick/base/result.h"

// The volume's secret: who has it is root on the volume. In a file of its own, 64 hexadecimal digits and a newline,
// mode 0600. Beside a map file: MAPFILE + ".secret" (read_secret() is in dht/volume_map.h).
namespace voldfs::dht {

inline constexpr size_t kSecretSize = 32;

// Makes a new file with a new secret, on the disk when it returns. Refuses a path that exists.
Explained<void> make_secret(const std::string& path);

}  // namespace voldfs::dht
