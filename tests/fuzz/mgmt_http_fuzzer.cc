// What anybody may send to the ports of voldmgmt: bytes over TCP (t), which are no TLS, or a handshake of it; HTTP in
// TLS (s), where only who has the token is let through; and HTTP over the unix socket (u). The first byte says which. Real sockets, in a network of its own: needs root.

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "brick/base/unique_fd.h"
#include "mgmt/http.h"
#include "tests/lib/https.h"

namespace {

using namespace voldfs;

constexpr char kToken[] = "the token of this test";
constexpr uint16_t kPort = 24107;

void expect(bool holds) {
  if (!holds) std::abort();
}

// A loopback that nothing else is on.
void leave_network() {
  if (::unshare(CLONE_NEWNET) != 0) {
    std::perror("unshare");  // not root
    std::exit(EXIT_FAILURE);
  }
  const unique_fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  expect(::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0);
}

class Servers {
 public:
  Servers() {
    leave_network();
    socket_ = "/dev/shm/voldfs-fuzz." + std::to_string(::getpid());
    const auto handler = [this](const mgmt::HttpRequest& request) {
      ++handled;
      std::string query;
      for (const auto& [key, value] : request.query) query += key + value;
      return mgmt::HttpReply{200, request.method + request.path + query + request.body, "text/plain"};
    };
    auto unix_server = mgmt::HttpServer::on_unix_socket(socket_, handler);
    const auto tls = std::make_shared<const mgmt::Tls>("secret that nobody guesses", "node", "127.0.0.1");
    const auto credentials = [tls] { return mgmt::HttpServer::Credentials{tls, kToken}; };
    auto tcp_server = mgmt::HttpServer::on_tcp("127.0.0.1", kPort, credentials, handler);
    expect(unix_server && tcp_server);
    unix_ = std::move(*unix_server);
    tcp_ = std::move(*tcp_server);
  }
  ~Servers() { ::unlink(socket_.c_str()); }

  // One connection: all of it, then the end. The answer, or nothing.
  std::string send(bool tcp, std::string_view bytes) const {
    const unique_fd fd(::socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in inet{};
    inet.sin_family = AF_INET;
    inet.sin_port = htons(kPort);
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    std::strcpy(local.sun_path, socket_.c_str());
    expect((tcp ? ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&inet), sizeof inet)
                : ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local)) == 0);
    static_cast<void>(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));  // it may have hung up already
    ::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
    return answer;
  }

  static std::string send_in_tls(std::string_view bytes) {
    test::HttpsClient client{""};
    client.ends_after_request = true;
    return client.ask("127.0.0.1", kPort, std::string(bytes));
  }

  std::atomic<int> handled = 0;

 private:
  std::string socket_;
  std::unique_ptr<mgmt::HttpServer> unix_, tcp_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Servers servers;
  if (size == 0 || (data[0] != 't' && data[0] != 's' && data[0] != 'u')) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const int before = servers.handled;
  const std::string answer = data[0] == 's' ? Servers::send_in_tls(bytes) : servers.send(data[0] == 't', bytes);
  expect(data[0] == 't' || answer.empty() || answer.starts_with("HTTP/1.1 "));  // what is no TLS may be answered by an alert of it
  const bool let_through = servers.handled != before;
  expect(!let_through || data[0] != 't');
  expect(!let_through || data[0] != 's' || bytes.find(kToken) != std::string_view::npos);
  return 0;
}
