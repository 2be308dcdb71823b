#include "mgmt/signed_request.h"

#include "mgmt/secret.h"

namespace voldfs::mgmt {

std::string request_mac(const std::string& key, const std::string& destination, const Proof& proof, const std::string& method,
                        const std::string& target, const std::string& body) {
  return to_hex(mac(key, {"voldfs api request", destination, proof.challenge, proof.nonce, method, target, body}));
}

std::string reply_mac(const std::string& key, const Proof& proof, int status, const std::string& body) {
  return to_hex(mac(key, {"voldfs api reply", proof.challenge, proof.nonce, std::to_string(status), body}));
}

void Challenges::renew() {
  const int64_t now = clock_ms_();
  const bool fresh = !current_.text.empty() && now < current_.made_ms + kLifeMs && current_.nonces.size() < kNoncesMax;
  if (fresh) return;
  previous_ = std::move(current_);
  current_ = {to_hex(random_bytes(16)), now, {}};
}

std::string Challenges::current() {
  const std::lock_guard lock(mutex_);
  renew();
  return current_.text;
}

bool Challenges::take(const Proof& proof) {
  if (proof.challenge.empty() || proof.nonce.size() != kNonceDigits) return false;
  const std::lock_guard lock(mutex_);
  renew();
  if (proof.challenge == current_.text) return current_.nonces.insert(proof.nonce).second;
  const bool alive = proof.challenge == previous_.text && clock_ms_() < previous_.made_ms + 2 * kLifeMs && previous_.nonces.size() < 2 * kNoncesMax;
  return alive && previous_.nonces.insert(proof.nonce).second;
}

std::string KnownChallenges::of(const std::string& destination) const {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(destination);
  return found == known_.end() ? "" : found->second;
}

void KnownChallenges::note(const std::string& destination, const std::string& challenge) {
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMax) known_.clear();
  known_[destination] = challenge;
}

}  // namespace voldfs::mgmt
