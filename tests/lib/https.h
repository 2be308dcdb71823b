#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <memory>
#include <string>

#include "brick/base/unique_fd.h"

// An HTTPS client as any program has one: OpenSSL's own checks, with the authority that it was given; and none of voldfs's code.
namespace voldfs::test {

inline unique_fd connect_to(const std::string& address, uint16_t port) {
  unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  const int yes = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fd.reset();
  return fd;
}

struct HttpsClient {
  std::string authority_pem;       // empty: whoever answers is believed
  int version_max = 0;             // of TLS; 0: any
  std::string named = {};          // the address that the certificate is to be of, if not the one asked
  bool ends_after_request = false; // says that nothing more will come
  std::string trouble = {};        // of the last request that was not answered

  // The whole answer, or "".
  std::string ask(const std::string& address, uint16_t port, const std::string& request) {
    const unique_fd fd = connect_to(address, port);
    if (!fd) return trouble = "no connection", "";
    const std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> context(::SSL_CTX_new(::TLS_client_method()), ::SSL_CTX_free);
    if (version_max) ::SSL_CTX_set_max_proto_version(context.get(), version_max);
    if (!authority_pem.empty()) {
      BIO* text = ::BIO_new_mem_buf(authority_pem.data(), static_cast<int>(authority_pem.size()));
      X509* authority = ::PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
      ::BIO_free(text);
      ::X509_STORE_add_cert(::SSL_CTX_get_cert_store(context.get()), authority);
      ::X509_free(authority);
      ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
      X509_VERIFY_PARAM_set_flags(::SSL_CTX_get0_param(context.get()), X509_V_FLAG_X509_STRICT);
      ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_CTX_get0_param(context.get()), (named.empty() ? address : named).c_str());
    }
    const std::unique_ptr<SSL, decltype(&::SSL_free)> ssl(::SSL_new(context.get()), ::SSL_free);
    ::SSL_set_fd(ssl.get(), fd.get());
    if (::SSL_connect(ssl.get()) != 1) return trouble = ::X509_verify_cert_error_string(::SSL_get_verify_result(ssl.get())), "";
    std::string answer;
    char buffer[4096];
    if (::SSL_write(ssl.get(), request.data(), static_cast<int>(request.size())) != static_cast<int>(request.size())) return "";
    if (ends_after_request) {
      ::SSL_shutdown(ssl.get());
      ::shutdown(fd.get(), SHUT_WR);
    }
    for (int n; (n = ::SSL_read(ssl.get(), buffer, sizeof buffer)) > 0;) answer.append(buffer, static_cast<size_t>(n));
    return answer;
  }

  // Its status; -1: no answer.
  int status(const std::string& address, uint16_t port, const std::string& method, const std::string& path, const std::string& headers) {
    const std::string answer = ask(address, port, method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n" + headers + "\r\n{}");
    return answer.size() >= 12 ? std::atoi(answer.c_str() + 9) : -1;
  }
};

}  // namespace voldfs::test
