#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "brick/base/clock.h"

// What nodes ask each other is signed with the cluster's secret, and so is the answer. A request that was captured is worth
// nothing later, nor elsewhere: signed with it are where it goes, a challenge that its receiver has made, and a nonce that
// it takes once. No clocks are compared: those of nodes may be wrong, and jump.
namespace voldfs::mgmt {

// As header fields; hexadecimal.
struct Proof {
  std::string challenge;  // of the receiver; empty: not known yet, it will be answered
  std::string nonce;
  std::string mac;
};

// `destination`: ADDRESS:PORT that the receiver listens on.
std::string request_mac(const std::string& key, const std::string& destination, const Proof& proof, const std::string& method,
                        const std::string& target, const std::string& body);
std::string reply_mac(const std::string& key, const Proof& proof, int status, const std::string& body);

// The receiver's challenges. Any thread.
class Challenges {
 public:
  static constexpr int64_t kLifeMs = 60'000;     // of one; it is taken for as long again after the next one has come
  static constexpr size_t kNoncesMax = 16'384;   // that one takes; then the next one comes at once
  static constexpr size_t kNonceDigits = 32;

  explicit Challenges(std::function<int64_t()> clock_ms = boottime_ms) : clock_ms_(std::move(clock_ms)) {}
  std::string current();
  // Whether a request with this may be heeded: true once. REQUIRES: its MAC was checked, so that strangers fill no memory.
  bool take(const Proof& proof);

 private:
  struct Challenge {
    std::string text;
    int64_t made_ms = 0;
    std::set<std::string> nonces;
  };
  void renew();  // REQUIRES: mutex_ is held

  const std::function<int64_t()> clock_ms_;
  std::mutex mutex_;
  Challenge current_, previous_;  // guarded by mutex_
};

// The sender's knowledge of others' challenges, so that a request takes one round trip. Any thread.
class KnownChallenges {
 public:
  std::string of(const std::string& destination) const;
  void note(const std::string& destination, const std::string& challenge);

 private:
  static constexpr size_t kMax = 256;  // destinations; above, all are forgotten
  mutable std::mutex mutex_;
  std::map<std::string, std::string> known_;  // guarded by mutex_
};

}  // namespace voldfs::mgmt
