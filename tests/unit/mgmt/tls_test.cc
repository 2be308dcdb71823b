#include "mgmt/tls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "mgmt/http.h"
#include "mgmt/secret.h"
#include "mgmt/tls_stream.h"
#include "tests/lib/https.h"

namespace voldfs::mgmt {
namespace {

using test::connect_to;
using test::HttpsClient;

constexpr char kHere[] = "127.0.0.1";

std::shared_ptr<const Tls> tls_of(char secret, const std::string& address = kHere) { return std::make_shared<const Tls>(std::string(32, secret), "node", address); }

TEST(Tls, Authority_OfTheSameSecret_IsTheSameEverywhereAndSaysNothingOfIt) {
  const std::string pem = tls_of('s')->authority_pem();
  EXPECT_EQ(pem, tls_of('s', "10.1.2.3")->authority_pem());
  EXPECT_NE(pem, tls_of('t')->authority_pem());
  EXPECT_EQ(pem.find("PRIVATE"), std::string::npos);
}

// A server that waits for whom it was given, and says what it takes a request for.
class TlsHttp : public testing::Test {
 protected:
  void SetUp() override {
    for (int tries = 0; !server_ && tries < 20; ++tries) {  // another test may be faster
      port_ = free_port();
      auto made = HttpServer::on_tcp(
          kHere, port_,
          [this] {
            const std::lock_guard lock(mutex_);
            return HttpServer::Credentials{tls_, "token"};
          },
          [this](const HttpRequest& request) {
            ++handled_;
            return HttpReply{200, request.node ? "{\"who\":\"a node\"}" : "{\"who\":\"a reader\"}", "application/json"};
          });
      if (made) server_ = std::move(*made);
    }
    ASSERT_TRUE(server_);
  }
  static uint16_t free_port() {
    const unique_fd fd = listen_somewhere();
    return port_of(fd);
  }
  static unique_fd listen_somewhere() {
    unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    EXPECT_EQ(::listen(fd.get(), 8), 0);
    return fd;
  }
  static uint16_t port_of(const unique_fd& fd) {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
    return ntohs(name.sin_port);
  }
  Explained<HttpReply> call(const std::shared_ptr<const Tls>& tls, uint16_t port = 0, const std::string& body = "{}") {
    return http_call({"", kHere, port ? port : port_, tls}, "POST", "/x", body, 5000);
  }

  std::mutex mutex_;
  std::shared_ptr<const Tls> tls_ = tls_of('s');  // guarded by mutex_
  uint16_t port_ = 0;
  std::atomic<int> handled_ = 0;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(TlsHttp, Node_OfTheSameSecret_IsKnownAsOne) {
  const auto reply = call(tls_of('s', "127.9.9.9"));
  ASSERT_TRUE(reply) << reply.error();
  EXPECT_EQ(reply->body, "{\"who\":\"a node\"}");
}

TEST_F(TlsHttp, Node_OfAnotherSecret_IsRefusedByBothEnds) {
  const auto reply = call(tls_of('x'));
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().find("does not know the cluster's secret"), std::string::npos) << reply.error();
  // One that does not care whom it talks to: its certificate is looked at all the same.
  const unique_fd fd = connect_to(kHere, port_);
  const OpenSslPtr<SSL_CTX> context(::SSL_CTX_new(::TLS_method()));
  Tls::Other other{kHere};
  Tls::connecting(context.get(), other, tls_of('x'));
  ::SSL_CTX_set_cert_verify_callback(context.get(), [](X509_STORE_CTX*, void*) { return 1; }, nullptr);
  const OpenSslPtr<SSL> ssl(::SSL_new(context.get()));
  ::SSL_set_fd(ssl.get(), fd.get());
  EXPECT_EQ(::SSL_connect(ssl.get()), 1);
  const std::string request = "GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n\r\n";
  ::SSL_write(ssl.get(), request.data(), static_cast<int>(request.size()));
  char answer[64];
  EXPECT_LE(::SSL_read(ssl.get(), answer, sizeof answer), 0);
  EXPECT_EQ(handled_, 0);
}

TEST_F(TlsHttp, Node_OfAnotherAddress_IsNotTheOneAsked) {
  {
    const std::lock_guard lock(mutex_);
    tls_ = tls_of('s', "127.0.0.77");
  }
  const auto reply = call(tls_of('s'));
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().find("the node of another address"), std::string::npos) << reply.error();
  EXPECT_EQ(handled_, 0);
}

TEST_F(TlsHttp, AnyProgram_TrustsTheAuthorityAndNeedsTheToken) {
  HttpsClient client{tls_of('s')->authority_pem()};
  EXPECT_EQ(client.status(kHere, port_, "GET", "/x", ""), 401) << client.trouble;
  EXPECT_EQ(client.status(kHere, port_, "GET", "/x", "Authorization: Bearer wrong\r\n"), 401);
  EXPECT_EQ(client.status(kHere, port_, "GET", "/x", "Authorization: Bearer token\r\n"), 200);
  EXPECT_EQ(handled_, 1);
  client.named = "127.0.0.2";
  EXPECT_EQ(client.status(kHere, port_, "GET", "/x", "Authorization: Bearer token\r\n"), -1) << "the certificate is of one address";
  HttpsClient foreign{tls_of('x')->authority_pem()};
  EXPECT_EQ(foreign.status(kHere, port_, "GET", "/x", "Authorization: Bearer token\r\n"), -1) << "another cluster's";
  HttpsClient old{tls_of('s')->authority_pem(), TLS1_2_VERSION};
  EXPECT_EQ(old.status(kHere, port_, "GET", "/x", "Authorization: Bearer token\r\n"), -1);
  EXPECT_EQ(handled_, 1);
}

TEST_F(TlsHttp, Stranger_IsRefusedBeforeItsBodyIsThere) {
  HttpsClient client{tls_of('s')->authority_pem()};
  const std::string announced = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n";
  EXPECT_EQ(client.ask(kHere, port_, announced).substr(0, 12), "HTTP/1.1 401");
  EXPECT_EQ(handled_, 0);
}

TEST_F(TlsHttp, Plain_IsToldSo) {
  const unique_fd fd = connect_to(kHere, port_);
  const std::string request = "POST /v1/local/commit HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + std::string(30000, 'x');
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[1024];
  for (ssize_t n; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
  EXPECT_NE(answer.find("speaks TLS alone"), std::string::npos) << answer;
  EXPECT_EQ(handled_, 0);
}

TEST_F(TlsHttp, Call_OfWhoSpeaksNoTls_SaysSo) {
  const unique_fd listener = listen_somewhere();
  std::thread plain([&] {
    const unique_fd client(::accept(listener.get(), nullptr, nullptr));
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"ok\":true}";
    ::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    char buffer[4096];
    while (::recv(client.get(), buffer, sizeof buffer, 0) > 0) {}
  });
  const auto reply = call(tls_of('s'), port_of(listener));
  plain.join();
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().find("speaks no TLS"), std::string::npos) << reply.error();
}

TEST_F(TlsHttp, NewSecret_HoldsFromTheNextConnectionOn) {
  ASSERT_TRUE(call(tls_of('s')));
  {
    const std::lock_guard lock(mutex_);
    tls_ = tls_of('n');
  }
  EXPECT_FALSE(call(tls_of('s')));
  EXPECT_TRUE(call(tls_of('n')));
  // A new key of the same node, as after a restart.
  {
    const std::lock_guard lock(mutex_);
    tls_ = tls_of('n');
  }
  EXPECT_TRUE(call(tls_of('n')));
}

// Somebody between two nodes, who can read and change what passes.
TEST_F(TlsHttp, BetweenTwoNodes_NothingIsReadAndNothingChanged) {
  const unique_fd listener = listen_somewhere();
  std::string seen;
  std::thread between([&] {
    for (const bool meddles : {false, true}) {
      const unique_fd client(::accept(listener.get(), nullptr, nullptr));
      const unique_fd server = connect_to(kHere, port_);
      std::thread back([&] {
        char buffer[4096];
        for (ssize_t n; (n = ::recv(server.get(), buffer, sizeof buffer, 0)) > 0;) {
          seen.append(buffer, static_cast<size_t>(n));
          ::send(client.get(), buffer, static_cast<size_t>(n), MSG_NOSIGNAL);
        }
        ::shutdown(client.get(), SHUT_RDWR);
      });
      std::string out;
      char buffer[4096];
      size_t passed = 0;
      for (ssize_t n; (n = ::recv(client.get(), buffer, sizeof buffer, 0)) > 0; passed += static_cast<size_t>(n)) {
        if (meddles && passed > 600) buffer[0] ^= 1;  // behind the handshake's first message
        out.append(buffer, static_cast<size_t>(n));
        ::send(server.get(), buffer, static_cast<size_t>(n), MSG_NOSIGNAL);
      }
      ::shutdown(server.get(), SHUT_RDWR);
      back.join();
      seen += out;
    }
  });
  const std::string body = "{\"secret\":\"" + std::string(64, 'a') + "\"}" + std::string(4000, ' ');
  const auto reply = call(tls_of('s'), port_of(listener), body);
  EXPECT_TRUE(reply) << reply.error();
  const int before = handled_;
  EXPECT_FALSE(call(tls_of('s'), port_of(listener), body));
  EXPECT_EQ(handled_, before);
  between.join();
  EXPECT_GT(seen.size(), body.size());
  for (const std::string& what : {std::string("aaaaaaaa"), std::string("a node"), std::string("HTTP"), std::string(32, 's'), to_hex(std::string(32, 's'))})
    EXPECT_EQ(seen.find(what), std::string::npos) << what;
}

// Both ends without a socket, and every cut of what is between them.
TEST(TlsStream, Pieces_OfAnySize_ComeOutAsTheyWentIn) {
  const OpenSslPtr<SSL_CTX> from(::SSL_CTX_new(::TLS_method())), to(::SSL_CTX_new(::TLS_method()));
  Tls::Other other{kHere};
  const auto tls = tls_of('s');
  const Tls::Current current = [&] { return tls; };
  Tls::connecting(from.get(), other, tls);
  Tls::listening(to.get(), current);
  for (const size_t piece : {1u, 7u, 4096u}) {
    TlsStream a(from.get(), true), b(to.get(), false);
    const auto carry = [&](TlsStream& source, TlsStream& target, auto taken) {
      const std::string bytes = source.take_outgoing();
      for (size_t at = 0; at < bytes.size(); at += piece) {
        target.put_received(std::string_view(bytes).substr(at, piece));
        taken();
      }
    };
    auto at_a = TlsStream::Status::kWaiting, at_b = TlsStream::Status::kWaiting;
    for (int rounds = 0; rounds < 4; ++rounds) {
      at_a = a.shake_hands();
      carry(a, b, [&] { at_b = b.shake_hands(); });
      carry(b, a, [] {});
    }
    ASSERT_EQ(at_a, TlsStream::Status::kDone) << a.trouble();
    ASSERT_EQ(at_b, TlsStream::Status::kDone) << b.trouble();
    EXPECT_TRUE(a.proven());
    EXPECT_TRUE(b.proven());
    std::string sent(40'000, '\0'), got;
    for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7);
    ASSERT_TRUE(a.write(sent));
    char buffer[1000];
    carry(a, b, [&] {
      size_t size = 0;
      while (b.read(buffer, size) == TlsStream::Status::kDone) got.append(buffer, size);
    });
    EXPECT_EQ(got, sent);
    b.put_received("what is no TLS, and never was");
    size_t size = 0;
    EXPECT_EQ(b.read(buffer, size), TlsStream::Status::kBroken);
  }
}

}  // namespace
}  // namespace voldfs::mgmt
