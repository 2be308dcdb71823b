#include "brick/server/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <memory>
#include <system_error>

#include "brick/server/limits.h"

namespace voldfs::server {

namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

struct AddressFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressPtr = std::unique_ptr<addrinfo, AddressFree>;

AddressPtr resolve(const std::string& address, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) return nullptr;
  return AddressPtr(list);
}

void set(int fd, int level, int option, int value) {
  if (::setsockopt(fd, level, option, &value, sizeof value) != 0) {
    spdlog::warn("socket_option_failed level={} option={} error={}", level, option, errno);
  }
}

std::string peer_name(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  return std::string(host) + ":" + service;
}

// A host that has gone without a word is noticed by its silence, also between requests.
void prepare_tcp(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, kLeaseMsDefault / 1000);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

// Whether the peer of a TCP connection is on this host: it came from an address of our own.
bool is_same_host(int fd, const sockaddr_storage& peer) {
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0 || own.ss_family != peer.ss_family) return false;
  if (own.ss_family == AF_INET) {
    const in_addr a = reinterpret_cast<const sockaddr_in&>(own).sin_addr, b = reinterpret_cast<const sockaddr_in&>(peer).sin_addr;
    return a.s_addr == b.s_addr || ntohl(b.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  const in6_addr& b = reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&b) || std::memcmp(&reinterpret_cast<const sockaddr_in6&>(own).sin6_addr, &b, sizeof b) == 0;
}

// Whether somebody answers at the path.
bool is_served(const sockaddr_un& address) {
  const unique_fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return probe && ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

Listener::Listener() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Explained<void> Listener::listen_tcp(const std::string& address, uint16_t port, bool map_port) {
  const std::string where = address + ":" + std::to_string(port);
  const AddressPtr resolved = resolve(address, port);
  if (!resolved) return explain(where + " is no address: give an IPv4 or IPv6 literal and a port, as 192.0.2.1:24200.");
  unique_fd fd(::socket(resolved->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return explain("No socket for " + where + ": " + error_text(errno) + ".");
  set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (map_port) set(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (::bind(fd.get(), resolved->ai_addr, resolved->ai_addrlen) != 0 || ::listen(fd.get(), kListenBacklog) != 0) {
    const int error = errno;
    std::string hint = "Check --listen against the volume map.";
    if (error == EADDRINUSE) hint = "Another process uses it (`ss -ltnp` names it); stop it, or give another port.";
    if (error == EADDRNOTAVAIL) hint = "This host does not have that address; give one of its own.";
    return explain("Cannot listen on " + where + ": " + error_text(error) + ". " + hint);
  }
  if (!map_port) {
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size);
    port_ = ntohs(own.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(own).sin6_port
                                            : reinterpret_cast<sockaddr_in&>(own).sin_port);
  }
  sockets_.push_back({std::move(fd), map_port ? Kind::kMapPort : Kind::kTcp});
  return {};
}

Explained<void> Listener::listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return explain("The socket path " + path + " is too long: at most " + std::to_string(sizeof address.sun_path - 1) +
                   " bytes; give a shorter --unix.");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return explain("No socket for " + path + ": " + error_text(errno) + ".");
  struct stat stat;
  if (::lstat(path.c_str(), &stat) == 0) {
    if (!S_ISSOCK(stat.st_mode)) return explain(path + " exists and is no socket: remove it, or give another --unix.");
    if (is_served(address)) return explain("Another process serves " + path + ": stop it, or give another --unix.");
    ::unlink(path.c_str());
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), kListenBacklog) != 0) {
    return explain("Cannot listen on " + path + ": " + error_text(errno) + ". Its directory must exist.");
  }
  unix_path_ = path;
  sockets_.push_back({std::move(fd), Kind::kUnix});
  return {};
}

bool Listener::accept(const std::function<void(Accepted)>& take) {
  std::vector<pollfd> ready;
  for (const Socket& socket : sockets_) ready.push_back({socket.fd.get(), POLLIN, 0});
  ready.push_back({wake_.get(), POLLIN, 0});
  if (::poll(ready.data(), ready.size(), -1) < 0) return false;
  bool any = false;
  for (size_t i = 0; i < sockets_.size(); ++i) {
    while (ready[i].revents != 0 && accept_one(sockets_[i], take)) any = true;
  }
  if (ready.back().revents != 0) {
    eventfd_t ignored;
    ::eventfd_read(wake_.get(), &ignored);
  }
  return any;
}

bool Listener::accept_one(const Socket& socket, const std::function<void(Accepted)>& take) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  unique_fd fd(::accept4(socket.fd.get(), reinterpret_cast<sockaddr*>(&address), &size, SOCK_CLOEXEC));
  if (!fd) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      spdlog::error("accept_failed error={}: raise LimitNOFILE, or lower the number of connections", errno);
      // The connection stays in the backlog and poll() would return at once: give others time to close theirs.
      pollfd none{wake_.get(), POLLIN, 0};
      ::poll(&none, 1, 100);
    }
    return false;
  }
  Peer peer;
  peer.ask_only = socket.kind == Kind::kMapPort;
  if (socket.kind != Kind::kUnix) {
    prepare_tcp(fd.get());
    peer.name = peer_name(address, size);
    peer.same_host = is_same_host(fd.get(), address);
  } else {
    ucred who{};
    socklen_t who_size = sizeof who;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0 || who.uid != 0) {
      spdlog::warn("connection_refused peer=unix uid={} pid={}: only root may", who.uid, who.pid);
      return true;
    }
    set(fd.get(), SOL_SOCKET, SO_SNDBUF, kUnixSocketBuffer);
    set(fd.get(), SOL_SOCKET, SO_RCVBUF, kUnixSocketBuffer);
    peer.trusted = peer.same_host = true;
    peer.name = "pid:" + std::to_string(who.pid);
  }
  take({std::move(fd), std::move(peer)});
  return true;
}

void Listener::wake() { ::eventfd_write(wake_.get(), 1); }

void Listener::close() {
  sockets_.clear();
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
  unix_path_.clear();
}

}  // namespace voldfs::server
