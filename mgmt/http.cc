#include "mgmt/http.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <thread>

#include "brick/base/unique_fd.h"
#include "mgmt/fault_point.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

constexpr size_t kThreads = 16;
constexpr time_t kIoTimeoutS = 5;

// Header fields of signed requests and replies.
constexpr char kChallenge[] = "X-Voldfs-Challenge", kNonce[] = "X-Voldfs-Nonce", kMac[] = "X-Voldfs-Mac";

// The same text on both ends, however the literal was written.
std::string destination_of(const std::string& address, uint16_t port) {
  unsigned char parsed[sizeof(in6_addr)];
  char text[INET6_ADDRSTRLEN] = {};
  for (const int family : {AF_INET, AF_INET6}) {
    if (::inet_pton(family, address.c_str(), parsed) == 1 && ::inet_ntop(family, parsed, text, sizeof text)) return std::string(text) + ":" + std::to_string(port);
  }
  return address + ":" + std::to_string(port);
}

Explained<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return explain("The socket path " + path + " is longer than " + std::to_string(sizeof address.sun_path - 1) + " bytes.");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

unique_fd connect_unix(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return {};
  unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) return {};
  return fd;
}

// cpp-httplib of Debian 12 knows no unix sockets; its accept loop takes any listening one.
class Listener : public httplib::Server {
 public:
  Explained<void> bind_unix(const std::string& path) {
    const auto address = unix_address(path);
    if (!address) return explain(address.error());
    if (connect_unix(path)) return explain("Another voldmgmt listens on " + path + " already.");
    ::unlink(path.c_str());
    unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const mode_t before = ::umask(0177);
    const bool bound = fd && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
    const int error = errno;
    ::umask(before);
    if (!bound || ::listen(fd.get(), 64) != 0)
      return explain("Could not listen on " + path + ": " + std::strerror(bound ? errno : error) + ".");
    svr_sock_ = fd.release();
    return {};
  }
};

class UnixClient : public httplib::ClientImpl {
 public:
  explicit UnixClient(std::string path) : ClientImpl("localhost", 80), path_(std::move(path)) {}

 protected:
  bool create_and_connect_socket(Socket& socket, httplib::Error& error) override {
    unique_fd fd = connect_unix(path_);
    if (!fd) {
      error = httplib::Error::Connection;
      return false;
    }
    socket.sock = fd.release();
    return true;
  }

 private:
  const std::string path_;
};

void set_options(int fd) {
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);  // not REUSEPORT: a used port is an error
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);                              // a brick must not keep the port
}

}  // namespace

struct HttpServer::Impl {
  Listener server;
  std::function<Credentials()> credentials;  // null: the unix socket
  Handler handler;
  std::string destination;                   // ADDRESS:PORT, with credentials
  Challenges challenges;
  std::thread thread;

  void answer(const httplib::Request& in, httplib::Response& out) {
    HttpRequest request{in.method, in.path, in.body, {}, !credentials, false};
    for (const auto& [key, value] : in.params) request.query[key] = value;
    HttpReply reply{401, "{\"error\":\"This needs a credential: the header Authorization: Bearer TOKEN, with the api_token that `voldctl peer token --json` prints on a node (not the token, which is the secret of the cluster itself).\"}\n"};
    const Credentials known = credentials ? credentials() : Credentials{};
    const Proof proof{in.get_header_value(kChallenge), in.get_header_value(kNonce), in.get_header_value(kMac)};
    request.signed_ = !request.local && is_signed(in, known, proof);
    const bool has_token = proof.mac.empty() && !known.token.empty() && same(in.get_header_value("Authorization"), "Bearer " + known.token);
    if (request.local || request.signed_ || has_token) reply = handler(request);
    else if (!proof.mac.empty()) out.set_header(kChallenge, challenges.current());  // to try again with
    if (request.signed_) out.set_header(kMac, reply_mac(known.key, proof, reply.status, reply.body));
    out.status = reply.status;
    out.set_content(reply.body, reply.type.c_str());
  }

  bool is_signed(const httplib::Request& in, const Credentials& known, const Proof& proof) {
    return !proof.mac.empty() && !known.key.empty() &&
           same(proof.mac, request_mac(known.key, destination, proof, in.method, in.target, in.body)) && challenges.take(proof);
  }

  void set_up() {
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server.set_payload_max_length(kRequestSizeMax);
    server.set_read_timeout(kIoTimeoutS);
    server.set_write_timeout(kIoTimeoutS);
    server.set_keep_alive_max_count(1);  // a connection that waits would hold a thread
    const auto route = [this](const httplib::Request& in, httplib::Response& out) { answer(in, out); };
    server.Get(".*", route).Post(".*", route).Put(".*", route).Delete(".*", route);
  }

  void run() {
    thread = std::thread([this] { server.listen_after_bind(); });
    while (!server.is_running()) std::this_thread::yield();
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->thread.join();
}

Explained<std::unique_ptr<HttpServer>> HttpServer::on_unix_socket(const std::string& path, Handler handler) {
  auto impl = std::make_unique<Impl>();
  impl->handler = std::move(handler);
  impl->set_up();
  if (auto bound = impl->server.bind_unix(path); !bound) return explain(bound.error());
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Explained<std::unique_ptr<HttpServer>> HttpServer::on_tcp(const std::string& address, uint16_t port,
                                                          std::function<Credentials()> credentials, Handler handler) {
  auto impl = std::make_unique<Impl>();
  impl->handler = std::move(handler);
  impl->credentials = std::move(credentials);
  impl->destination = destination_of(address, port);
  impl->set_up();
  impl->server.set_socket_options(set_options);
  if (!impl->server.bind_to_port(address.c_str(), port))
    return explain("Could not listen on " + address + ":" + std::to_string(port) +
                   ": the address is not of this machine, or another program has the port.");
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Explained<HttpReply> http_call(const HttpTarget& target, const std::string& method, const std::string& path,
                               const std::string& body, int timeout_ms) {
  if (target.unix_socket.empty() && cut_off(target.address)) return explain("No answer from voldmgmt at " + target.address + " (a test has cut the way).");
  std::unique_ptr<httplib::ClientImpl> client;
  if (!target.unix_socket.empty())
    client = std::make_unique<UnixClient>(target.unix_socket);
  else
    client = std::make_unique<httplib::ClientImpl>(target.address, target.port);
  const time_t seconds = timeout_ms / 1000, rest_us = timeout_ms % 1000 * 1000;
  client->set_connection_timeout(std::min<time_t>(seconds, 1), seconds >= 1 ? 0 : rest_us);
  client->set_read_timeout(seconds, rest_us);
  client->set_write_timeout(seconds, rest_us);
  client->set_socket_options(set_options);
  const std::string where = target.unix_socket.empty() ? destination_of(target.address, target.port) : target.unix_socket;
  KnownChallenges own;
  KnownChallenges& challenges = target.challenges ? *target.challenges : own;
  for (bool again = false;; again = true) {
    httplib::Headers headers;
    Proof proof;
    if (!target.key.empty()) {
      proof = {challenges.of(where), to_hex(random_bytes(Challenges::kNonceDigits / 2)), ""};
      proof.mac = request_mac(target.key, where, proof, method, path, body);
      headers = {{kChallenge, proof.challenge}, {kNonce, proof.nonce}, {kMac, proof.mac}};
    }
    const auto result = method == "GET" ? client->Get(path.c_str(), headers) : client->Post(path.c_str(), headers, body, "application/json");
    if (!result) return explain("No answer from voldmgmt at " + where + " (" + httplib::to_string(result.error()) + ").");
    const std::string challenge = result->get_header_value(kChallenge);
    if (result->status == 401 && !challenge.empty() && challenge != proof.challenge && !again) {
      challenges.note(where, challenge);
      continue;
    }
    if (!target.key.empty() && result->status != 401 && !same(result->get_header_value(kMac), reply_mac(target.key, proof, result->status, result->body)))
      return explain("What answered at " + where + " does not know the cluster's secret.");
    return HttpReply{result->status, result->body, result->get_header_value("Content-Type")};
  }
}

Explained<void> http_post_url(const std::string& url, const std::string& body, int timeout_ms) {
  const size_t host = url.find("://");
  if (host == std::string::npos) return explain("\"" + url + "\" is no URL.");
  const size_t path = url.find('/', host + 3);
  httplib::Client client(url.substr(0, path));
  if (!client.is_valid()) return explain("\"" + url + "\" is no URL that can be asked.");
  client.set_connection_timeout(timeout_ms / 1000, timeout_ms % 1000 * 1000);
  client.set_read_timeout(timeout_ms / 1000, timeout_ms % 1000 * 1000);
  client.set_write_timeout(timeout_ms / 1000, timeout_ms % 1000 * 1000);
  client.set_socket_options(set_options);
  const auto result = client.Post(path == std::string::npos ? "/" : url.substr(path), body, "application/json");
  if (!result) return explain(httplib::to_string(result.error()));
  if (result->status / 100 != 2) return explain("answered " + std::to_string(result->status));
  return {};
}

}  // namespace voldfs::mgmt
