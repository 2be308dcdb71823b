#include "brick/wire/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <string_view>
#include <vector>

namespace voldfs::wire {

Nonce random_nonce() { return Id::random().bytes; }

Proof make_proof(std::span<const uint8_t> secret, Side side, const ProofParts& parts) {
  using std::literals::operator""sv;
  const std::string_view label = side == Side::kBrick ? "voldfs brick 1\0"sv : "voldfs client 1\0"sv;
  std::vector<uint8_t> text(label.begin(), label.end());
  const auto add = [&text](const std::array<uint8_t, 16>& bytes) { text.insert(text.end(), bytes.begin(), bytes.end()); };
  add(parts.client_nonce);
  add(parts.brick_nonce);
  add(parts.volume.bytes);
  add(parts.client.bytes);
  add(parts.brick.bytes);

  Proof proof;
  unsigned size = proof.size();
  if (::HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), text.data(), text.size(), proof.data(),
             &size) == nullptr) {
    std::abort();  // only for want of memory: a proof that was not made must never be compared
  }
  return proof;
}

bool same_proof(const Proof& left, const Proof& right) {
  return ::CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace voldfs::wire
