#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "brick/base/result.h"

// The cluster's secret, and what is made with it. A secret is 32 bytes; a file or a token holds it as 64 hexadecimal
// digits. Who has it may do everything in the cluster.
namespace voldfs::mgmt {

inline constexpr size_t kClusterSecretSize = 32;

std::string random_bytes(size_t size);  // of the kernel's source
std::string to_hex(std::string_view bytes);
Explained<std::string> from_hex(std::string_view digits);

// HMAC-SHA256 over the parts, each preceded by its length, so that no two lists of parts are the same bytes.
std::string mac(std::string_view key, std::initializer_list<std::string_view> parts);
bool same(std::string_view a, std::string_view b);  // in constant time

// The secret in `path` (0600); made first if there is none.
Explained<std::string> load_or_make_secret(const std::string& path);
// The password of the HTTP API over TCP: derived, so that showing it to a monitoring system does not let it into the log.
std::string api_token(std::string_view secret);

}  // namespace voldfs::mgmt
