#include "brick/base/metrics_server.h"

#include <grp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>
#include <vector>

#include "brick/base/clock.h"

namespace voldfs {

namespace {

constexpr char kGroup[] = "voldfs-metrics";
constexpr int kClientTimeoutMs = 1000;
constexpr size_t kRequestMax = 8192;
constexpr size_t kAnswerMax = 16u << 20;
constexpr int kBacklog = 8;

struct AbstractAddress {
  sockaddr_un address{};
  socklen_t size = 0;
};

Result<AbstractAddress> address_of(const std::string& name) {
  AbstractAddress out;
  out.address.sun_family = AF_UNIX;
  if (name.empty() || name.size() + 1 > sizeof out.address.sun_path) return fail(ENAMETOOLONG);
  std::memcpy(out.address.sun_path + 1, name.data(), name.size());
  out.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return out;
}

unique_fd new_socket() { return unique_fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

void limit_time(int fd, int timeout_ms) {
  const timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool may_read(int client) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return false;
  if (who.uid == 0) return true;
  group entry{};
  group* found = nullptr;
  std::array<char, 16384> buffer;
  if (::getgrnam_r(kGroup, &entry, buffer.data(), buffer.size(), &found) != 0 || !found) return false;
  if (who.gid == entry.gr_gid) return true;
  std::array<gid_t, 65536 / sizeof(gid_t)> groups;
  size = sizeof groups;
  if (::getsockopt(client, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return false;
  const auto* end = groups.data() + size / sizeof(gid_t);
  return std::find(static_cast<const gid_t*>(groups.data()), end, entry.gr_gid) != end;
}

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& name, std::function<std::string()> text) {
  const auto address = address_of(name);
  if (!address) return fail(address.error());
  unique_fd listener = new_socket(), wake(::eventfd(0, EFD_CLOEXEC));
  if (!listener || !wake || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address->address), address->size) != 0 ||
      ::listen(listener.get(), kBacklog) != 0)
    return fail_errno();
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(listener), std::move(wake), std::move(text)));
}

MetricsServer::MetricsServer(unique_fd listener, unique_fd wake, std::function<std::string()> text)
    : listener_(std::move(listener)), wake_(std::move(wake)), text_(std::move(text)), thread_([this] { run(); }) {}

MetricsServer::~MetricsServer() {
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void MetricsServer::run() {
  ::pthread_setname_np(::pthread_self(), "metrics");
  for (;;) {
    pollfd ready[] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0 && errno != EINTR) return;
    if (ready[1].revents != 0) return;
    if (ready[0].revents == 0) continue;
    const unique_fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client && may_read(client.get())) answer(client.get());
  }
}

void MetricsServer::answer(int client) const {
  limit_time(client, kClientTimeoutMs);
  std::string request;
  std::array<char, 1024> buffer;
  const int64_t deadline = boottime_ms() + kClientTimeoutMs;
  while (request.find("\r\n\r\n") == std::string::npos && request.find("\n\n") == std::string::npos) {
    const ssize_t n = ::recv(client, buffer.data(), buffer.size(), 0);
    if (n <= 0 || boottime_ms() > deadline) return;
    request.append(buffer.data(), static_cast<size_t>(n));
    if (request.size() > kRequestMax) return;
  }
  if (!request.starts_with("GET ")) {
    send_all(client, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return;
  }
  const std::string body = text_();
  send_all(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body);
}

Result<std::string> read_metrics(const std::string& name, int timeout_ms) {
  const auto address = address_of(name);
  if (!address) return fail(address.error());
  const unique_fd fd = new_socket();
  if (!fd) return fail_errno();
  limit_time(fd.get(), timeout_ms);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address->address), address->size) != 0) return fail_errno();
  if (!send_all(fd.get(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")) return fail_errno();
  std::string answer;
  std::array<char, 65536> buffer;
  const int64_t deadline = boottime_ms() + timeout_ms;
  for (;;) {
    const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0) return fail_errno();
    if (n == 0) break;
    answer.append(buffer.data(), static_cast<size_t>(n));
    if (answer.size() > kAnswerMax) return fail(EFBIG);
    if (boottime_ms() > deadline) return fail(ETIMEDOUT);
  }
  const size_t head = answer.find("\r\n\r\n");
  if (head == std::string::npos || !answer.starts_with("HTTP/1.1 200 ")) return fail(EPROTO);
  return answer.substr(head + 4);
}

std::vector<std::string> metrics_servers() {
  // proc(5): "Num RefCount Protocol Flags Type St Inode Path"; a path in the abstract namespace begins with '@'. Of a
  // listening socket and each of its connections there is a line.
  std::ifstream table("/proc/net/unix");
  std::vector<std::string> names;
  for (std::string line; std::getline(table, line);) {
    const size_t at = line.find(" @voldfs/");
    if (at != std::string::npos) names.push_back(line.substr(at + 2));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace voldfs
