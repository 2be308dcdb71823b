#include "mgmt/signed_request.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "brick/base/unique_fd.h"
#include "mgmt/http.h"
#include "mgmt/secret.h"
#include "tests/lib/loopback.h"

namespace voldfs::mgmt {
namespace {

Proof proof_of(const std::string& challenge, int n) {
  std::string nonce(Challenges::kNonceDigits, '0');
  const std::string digits = std::to_string(n);
  nonce.replace(nonce.size() - digits.size(), digits.size(), digits);
  return {challenge, nonce, ""};
}

TEST(Challenges, Take_SameNonceTwice_IsRefused) {
  Challenges challenges;
  const std::string challenge = challenges.current();
  EXPECT_EQ(challenges.current(), challenge);
  EXPECT_TRUE(challenges.take(proof_of(challenge, 1)));
  EXPECT_FALSE(challenges.take(proof_of(challenge, 1)));
  EXPECT_TRUE(challenges.take(proof_of(challenge, 2)));
}

TEST(Challenges, Take_OfAnotherReceiverOrNone_IsRefused) {
  Challenges challenges, other;
  EXPECT_FALSE(challenges.take(proof_of(other.current(), 1)));
  EXPECT_FALSE(challenges.take(proof_of("", 1)));
  EXPECT_FALSE(challenges.take({challenges.current(), "short", ""}));
}

TEST(Challenges, Take_AfterTwoLives_IsRefused) {
  int64_t now = 1;
  Challenges challenges([&] { return now; });
  const std::string first = challenges.current();
  EXPECT_TRUE(challenges.take(proof_of(first, 1)));
  now += Challenges::kLifeMs;
  EXPECT_NE(challenges.current(), first);
  EXPECT_TRUE(challenges.take(proof_of(first, 2))) << "who was on the way";
  EXPECT_FALSE(challenges.take(proof_of(first, 1))) << "is remembered";
  now += Challenges::kLifeMs;
  EXPECT_FALSE(challenges.take(proof_of(first, 3)));
  // A clock that jumps, to either side, makes challenges anew at most.
  now += 1'000'000'000;
  EXPECT_TRUE(challenges.take(proof_of(challenges.current(), 1)));
  now = 1;
  EXPECT_TRUE(challenges.take(proof_of(challenges.current(), 2)));
}

TEST(Challenges, Take_MoreThanOneHolds_RefusesNobodyTwiceAndKeepsNoMore) {
  Challenges challenges;
  const std::string first = challenges.current();
  for (size_t i = 0; i < Challenges::kNoncesMax; ++i) ASSERT_TRUE(challenges.take(proof_of(first, static_cast<int>(i))));
  EXPECT_NE(challenges.current(), first);
  EXPECT_FALSE(challenges.take(proof_of(first, 5)));
}

// A request over the wire, as it was.
std::string raw(uint16_t port, const std::string& request) {
  const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  return answer;
}

class SignedHttp : public testing::Test {
 protected:
  void SetUp() override {
    for (uint16_t* port : {&port_, &other_port_}) {
      auto& server = port == &port_ ? server_ : other_;
      for (int tries = 0; !server && tries < 20; ++tries) {  // another test may be faster
        *port = test::bind_loopback().port;
        auto made = HttpServer::on_tcp("127.0.0.1", *port, [this] { return HttpServer::Credentials{key_, "token"}; }, [this](const HttpRequest& request) {
          signed_ += request.signed_;
          return HttpReply{200, "{\"answer\":" + request.body + "}", "application/json"};
        });
        if (made) server = std::move(*made);
      }
      ASSERT_TRUE(server);
    }
  }
  // As a sender would put it on the wire.
  std::string request(const std::string& destination, const std::string& challenge, const std::string& nonce, const std::string& body, const std::string& signed_body) {
    const Proof proof{challenge, nonce, ""};
    return "POST /v1/local/commit HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\nX-Voldfs-Challenge: " + challenge +
           "\r\nX-Voldfs-Nonce: " + nonce + "\r\nX-Voldfs-Mac: " + request_mac(key_, destination, proof, "POST", "/v1/local/commit", signed_body) + "\r\n\r\n" + body;
  }
  static int status(const std::string& answer) { return std::atoi(answer.c_str() + 9); }
  static std::string header(const std::string& answer, const std::string& name) {
    const size_t at = answer.find(name + ": ");
    return at == std::string::npos ? "" : answer.substr(at + name.size() + 2, answer.find('\r', at) - at - name.size() - 2);
  }

  const std::string key_ = std::string(32, 'k');
  uint16_t port_ = 0, other_port_ = 0;
  std::atomic<int> signed_ = 0;
  std::unique_ptr<HttpServer> server_, other_;
};

TEST_F(SignedHttp, Call_WithTheKey_IsAnsweredAndChallengesAreKept) {
  KnownChallenges known;
  const HttpTarget target{"", "127.0.0.1", port_, key_, &known};
  for (int i = 0; i < 3; ++i) {
    const auto reply = http_call(target, "POST", "/v1/local/commit", "1", 5000);
    ASSERT_TRUE(reply) << reply.error();
    EXPECT_EQ(reply->status, 200);
    EXPECT_NE(known.of("127.0.0.1:" + std::to_string(port_)), "");
  }
  EXPECT_EQ(signed_, 3);
  const auto stranger = http_call({"", "127.0.0.1", port_, std::string(32, 'x')}, "POST", "/v1/local/commit", "1", 5000);
  ASSERT_TRUE(stranger);
  EXPECT_EQ(stranger->status, 401);
  EXPECT_EQ(signed_, 3);
}

TEST_F(SignedHttp, Captured_RepeatedChangedOrSentElsewhere_IsRefused) {
  const std::string here = "127.0.0.1:" + std::to_string(port_), there = "127.0.0.1:" + std::to_string(other_port_);
  const std::string challenge = header(raw(port_, request(here, "", std::string(32, '1'), "1", "1")), "X-Voldfs-Challenge");
  ASSERT_EQ(challenge.size(), 32u);
  const std::string captured = request(here, challenge, std::string(32, '2'), "1", "1");
  EXPECT_EQ(status(raw(port_, captured)), 200);
  EXPECT_EQ(status(raw(port_, captured)), 401) << "repeated";
  EXPECT_EQ(status(raw(other_port_, captured)), 401) << "sent elsewhere";
  EXPECT_EQ(status(raw(port_, request(here, challenge, std::string(32, '3'), "2", "1"))), 401) << "changed";
  // The challenge of one end does not make a request that is for the other good for it.
  EXPECT_EQ(status(raw(port_, request(there, challenge, std::string(32, '4'), "1", "1"))), 401);
  EXPECT_EQ(status(raw(port_, request(here, challenge, std::string(32, '4'), "1", "1"))), 200);
  // Another daemon in its place has not seen it, and does not take it either.
  server_.reset();
  auto again = HttpServer::on_tcp("127.0.0.1", port_, [this] { return HttpServer::Credentials{key_, "token"}; }, [](const HttpRequest&) { return HttpReply{}; });
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(status(raw(port_, captured)), 401) << "after a restart";
}

TEST_F(SignedHttp, Reply_OfWhoDoesNotKnowTheSecret_IsNoAnswer) {
  const test::Loopback listener = test::bind_loopback();
  ASSERT_EQ(::listen(listener.socket.get(), 4), 0);
  std::thread impostor([&] {
    const unique_fd client(::accept(listener.socket.get(), nullptr, nullptr));
    char buffer[4096];
    EXPECT_GT(::recv(client.get(), buffer, sizeof buffer, 0), 0);
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Voldfs-Mac: " + std::string(64, '0') + "\r\nConnection: close\r\n\r\n{\"ok\":true}";
    ::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
  });
  const auto reply = http_call({"", "127.0.0.1", listener.port, key_}, "GET", "/v1/local/ping", "", 5000);
  impostor.join();
  EXPECT_FALSE(reply);
}

}  // namespace
}  // namespace voldfs::mgmt
