#include "mgmt/http.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <openssl/err.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "brick/base/clock.h"
#include "brick/base/unique_fd.h"
#include "mgmt/fault_point.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

constexpr size_t kThreads = 16;
constexpr time_t kIoTimeoutS = 5;

constexpr int64_t kPlainWarningMs = 10'000;  // between two warnings of those who speak no TLS

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
class UnixListener : public httplib::Server {
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

// Who speaks plain HTTP to a port of TLS is told so; OpenSSL alone would hang up without a word. Called as handshakes end.
void answer_plain(const SSL* ssl, int where, int result) {
  if (where != SSL_CB_ACCEPT_EXIT || result > 0 || ERR_GET_REASON(::ERR_peek_last_error()) != SSL_R_HTTP_REQUEST) return;
  static std::atomic<int64_t> next_ms{0};
  if (const int64_t now = boottime_ms(); now >= next_ms.exchange(now + kPlainWarningMs))
    spdlog::warn("request refused reason=\"it came without TLS; all nodes need the same version of voldfs, and other programs https://\"");
  const int fd = ::SSL_get_fd(ssl);
  char request[4096];
  while (::recv(fd, request, sizeof request, MSG_DONTWAIT) > 0) {}  // what is left unread would take the answer away
  static constexpr std::string_view body = "{\"error\":\"This port speaks TLS alone: https://. The certificate of the cluster's authority is in /etc/voldfs/authority.pem on each node.\"}\n";
  const std::string answer = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
  ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);  // best effort
}

std::string where_text(const HttpTarget& target) {
  const bool six = target.address.find(':') != std::string::npos;
  return !target.unix_socket.empty() ? target.unix_socket : (six ? "[" + target.address + "]" : target.address) + ":" + std::to_string(target.port);
}

std::string no_answer(const HttpTarget& target, const Tls::Other& other, httplib::Error error) {
  const std::string where = where_text(target);
  if (other.verdict == Tls::Other::Verdict::kForeign) return "What answers at " + where + " does not know the cluster's secret.";
  if (other.verdict == Tls::Other::Verdict::kElsewhere) return "What answers at " + where + " is the node of another address.";
  if (error == httplib::Error::SSLConnection)
    return "What listens at " + where + " speaks no TLS, or not in time: is it another program, or a voldmgmt of another version?";
  if (error == httplib::Error::Connection) return "Nobody listens at " + where + ", or cannot be reached: does voldmgmt run there, and is its port let through?";
  if (error == httplib::Error::Read) return "voldmgmt at " + where + " has not answered, or not in time.";
  return "No answer from voldmgmt at " + where + " (" + httplib::to_string(error) + ").";
}

}  // namespace

struct HttpServer::Impl {
  std::function<Credentials()> credentials;  // null: the unix socket
  Handler handler;
  Tls::Current tls;                          // before the server, which asks it
  std::unique_ptr<httplib::Server> server;
  std::thread thread;

  bool is_let_in(const httplib::Request& in) const {
    if (!credentials || Tls::proven(in.ssl)) return true;
    const std::string token = credentials().token;
    return !token.empty() && same(in.get_header_value("Authorization"), "Bearer " + token);
  }

  // Before the body is read, so that a stranger's costs no memory.
  httplib::Server::HandlerResponse refuse_stranger(const httplib::Request& in, httplib::Response& out) const {
    if (is_let_in(in)) return httplib::Server::HandlerResponse::Unhandled;
    out.status = 401;
    out.set_content("{\"error\":\"This needs a credential: the header Authorization: Bearer TOKEN, with the api_token that `voldctl peer token --json` prints on a node (not the token, which is the secret of the cluster itself).\"}\n",
                    "application/json");
    return httplib::Server::HandlerResponse::Handled;
  }

  void answer(const httplib::Request& in, httplib::Response& out) {
    HttpRequest request{in.method, in.path, in.body, {}, !credentials, credentials && Tls::proven(in.ssl)};
    for (const auto& [key, value] : in.params) request.query[key] = value;
    const HttpReply reply = handler(request);
    out.status = reply.status;
    out.set_content(reply.body, reply.type.c_str());
  }

  void set_up() {
    server->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server->set_payload_max_length(kRequestSizeMax);
    server->set_read_timeout(kIoTimeoutS);
    server->set_write_timeout(kIoTimeoutS);
    server->set_tcp_nodelay(true);
    server->set_keep_alive_max_count(1);  // a connection that waits would hold a thread
    server->set_pre_routing_handler([this](const httplib::Request& in, httplib::Response& out) { return refuse_stranger(in, out); });
    const auto route = [this](const httplib::Request& in, httplib::Response& out) { answer(in, out); };
    server->Get(".*", route).Post(".*", route).Put(".*", route).Delete(".*", route);
  }

  void run() {
    thread = std::thread([this] { server->listen_after_bind(); });
    while (!server->is_running()) std::this_thread::yield();
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->server->stop();
  impl_->thread.join();
}

Explained<std::unique_ptr<HttpServer>> HttpServer::on_unix_socket(const std::string& path, Handler handler) {
  auto impl = std::make_unique<Impl>();
  impl->handler = std::move(handler);
  auto listener = std::make_unique<UnixListener>();
  if (auto bound = listener->bind_unix(path); !bound) return explain(bound.error());
  impl->server = std::move(listener);
  impl->set_up();
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Explained<std::unique_ptr<HttpServer>> HttpServer::on_tcp(const std::string& address, uint16_t port,
                                                          std::function<Credentials()> credentials, Handler handler) {
  auto impl = std::make_unique<Impl>();
  impl->handler = std::move(handler);
  impl->credentials = std::move(credentials);
  impl->tls = [made = impl.get()] { return made->credentials().tls; };
  impl->server = std::make_unique<httplib::SSLServer>([&](SSL_CTX& context) {
    Tls::listening(&context, impl->tls);
    ::SSL_CTX_set_info_callback(&context, answer_plain);
    return true;
  });
  impl->set_up();
  impl->server->set_socket_options(set_options);
  if (!impl->server->bind_to_port(address.c_str(), port))
    return explain("Could not listen on " + address + ":" + std::to_string(port) +
                   ": the address is not of this machine, or another program has the port.");
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Explained<HttpReply> http_call(const HttpTarget& target, const std::string& method, const std::string& path,
                               const std::string& body, int timeout_ms) {
  if (target.unix_socket.empty() && cut_off(target.address)) return explain("No answer from voldmgmt at " + target.address + " (a test has cut the way).");
  Tls::Other other{target.address};  // outlives the client
  std::unique_ptr<httplib::ClientImpl> client;
  if (!target.unix_socket.empty()) {
    client = std::make_unique<UnixClient>(target.unix_socket);
  } else {
    auto secured = std::make_unique<httplib::SSLClient>(target.address, target.port);
    secured->enable_server_certificate_verification(false);  // httplib's own; that of the context is in its place
    Tls::connecting(secured->ssl_context(), other, target.tls);
    client = std::move(secured);
  }
  const time_t seconds = timeout_ms / 1000, rest_us = timeout_ms % 1000 * 1000;
  client->set_connection_timeout(std::min<time_t>(seconds, 1), seconds >= 1 ? 0 : rest_us);
  client->set_read_timeout(seconds, rest_us);
  client->set_write_timeout(seconds, rest_us);
  client->set_socket_options(set_options);
  client->set_tcp_nodelay(true);
  const auto result = method == "GET" ? client->Get(path.c_str()) : client->Post(path.c_str(), body, "application/json");
  if (target.verdict) *target.verdict = other.verdict;
  if (!result || (target.tls && other.verdict != Tls::Other::Verdict::kTrusted)) return explain(no_answer(target, other, result.error()));
  return HttpReply{result->status, result->body, result->get_header_value("Content-Type")};
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
