#pragma once

#include <cstdint>

#include "brick/base/unique_fd.h"

namespace voldfs::test {

// A TCP socket on 127.0.0.1, at a port that nobody else gets while it is open.
struct Loopback {
  unique_fd socket;
  uint16_t port = 0;
};
Loopback bind_loopback();

}  // namespace voldfs::test
