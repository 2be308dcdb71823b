#include "tests/lib/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>

namespace voldfs::test {

Loopback bind_loopback() {
  Loopback bound{unique_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(bound.socket.get(), reinterpret_cast<sockaddr*>(&address), size) < 0 ||
      ::getsockname(bound.socket.get(), reinterpret_cast<sockaddr*>(&address), &size) < 0) {
    std::perror("bind");
    std::abort();
  }
  bound.port = ntohs(address.sin_port);
  return bound;
}

}  // namespace voldfs::test
