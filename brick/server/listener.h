#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/server/handshake.h"

namespace voldfs::server {

// The sockets that a brick listens on. accept() is one thread's; wake() is any thread's.
class Listener {
 public:
  Listener();

  // `address`: a literal, IPv4 or IPv6; port 0: any. With `map_port` the port is shared with the node's other bricks
  // (SO_REUSEPORT) and only answers kAsk. A sentence says why not.
  Explained<void> listen_tcp(const std::string& address, uint16_t port, bool map_port);
  // A socket file that nobody else serves (an old one is replaced), 0600. Lets in uid 0 alone.
  Explained<void> listen_unix(const std::string& path);
  uint16_t port() const { return port_; }

  struct Accepted {
    unique_fd socket;
    Peer peer;
  };
  // Waits for the next connections and hands each on. False: woken, and nothing to accept.
  bool accept(const std::function<void(Accepted)>& take);
  void wake();
  void close();  // stops listening; removes the socket file

 private:
  enum class Kind { kTcp, kMapPort, kUnix };
  struct Socket {
    unique_fd fd;
    Kind kind;
  };
  bool accept_one(const Socket& socket, const std::function<void(Accepted)>& take);

  std::vector<Socket> sockets_;
  unique_fd wake_;
  uint16_t port_ = 0;
  std::string unix_path_;
};

}  // namespace voldfs::server
