#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "brick/base/result.h"

namespace voldfs::ctl {

// A brick as it stands on a command line: HOST:/PATH or HOST:/PATH:PORT; an IPv6 address in brackets.
struct BrickSpec {
  std::string host;  // name or address literal, without brackets
  std::string path;  // absolute, no "//", no slash at the end
  uint16_t port = 0; // 0: none was given
};

Explained<BrickSpec> parse_brick_spec(std::string_view text);

// HOST:PORT, an IPv6 address in brackets.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
Explained<HostPort> parse_host_port(std::string_view text);

// The address of a host, as a literal; of a literal, itself. The first one that the system's resolver gives.
Explained<std::string> resolve(const std::string& host);

}  // namespace voldfs::ctl
