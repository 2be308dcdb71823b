#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "brick/base/result.h"
#include "mgmt/tls.h"

// HTTP/1.1 over TLS on TCP (tls.h), and over unix sockets; the only file that knows cpp-httplib.
namespace voldfs::mgmt {

inline constexpr size_t kRequestSizeMax = 64u << 20;

struct HttpRequest {
  std::string method, path, body;
  std::map<std::string, std::string> query;
  bool local = false;   // over the unix socket, which root alone can open
  bool node = false;    // from a node of this cluster: it showed a certificate of the cluster's authority
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string type = "application/json";
};

// A server with a handful of threads. The handler is called on them, several at once.
class HttpServer {
 public:
  using Handler = std::function<HttpReply(const HttpRequest&)>;
  // What nodes know each other by, and the token ("Authorization: Bearer TOKEN") of everybody else over TCP.
  struct Credentials {
    std::shared_ptr<const Tls> tls;
    std::string token;
  };

  // The socket is 0600. Replaces a socket that nobody listens on.
  static Explained<std::unique_ptr<HttpServer>> on_unix_socket(const std::string& path, Handler handler);
  // TLS alone. A request without a credential is answered 401, whatever it asks for. `credentials` is called for each connection.
  static Explained<std::unique_ptr<HttpServer>> on_tcp(const std::string& address, uint16_t port,
                                                       std::function<Credentials()> credentials, Handler handler);
  ~HttpServer();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct HttpTarget {
  std::string unix_socket;   // or
  std::string address;
  uint16_t port = 0;
  std::shared_ptr<const Tls> tls;  // of this end; the other must be the node at this address. Null: none (unix socket)
  Tls::Other::Verdict* verdict = nullptr;  // what the other end showed, for who wants to know
};

// One request and its reply; the error says that there was none.
Explained<HttpReply> http_call(const HttpTarget& target, const std::string& method, const std::string& path,
                               const std::string& body, int timeout_ms);

// Posts JSON to a URL, http or https; an answer other than 2xx is an error.
Explained<void> http_post_url(const std::string& url, const std::string& body, int timeout_ms);

}  // namespace voldfs::mgmt
