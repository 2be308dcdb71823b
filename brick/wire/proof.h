#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "brick/base/id.h"

// The proofs of the handshake: that a side knows the volume's secret, bound to both nonces and to who the two
// sides say they are, so that neither can be replayed or reflected.
namespace voldfs::wire {

using Nonce = std::array<uint8_t, 16>;
using Proof = std::array<uint8_t, 32>;

enum class Side : uint8_t { kBrick, kClient };

// What a proof speaks of.
struct ProofParts {
  Nonce client_nonce, brick_nonce;
  Id volume, client, brick;
};

Nonce random_nonce();

// HMAC-SHA256 (RFC 2104) over "voldfs brick 1" or "voldfs client 1", NUL, and the parts in the order above.
Proof make_proof(std::span<const uint8_t> secret, Side side, const ProofParts& parts);

// In a time that does not depend on where they differ.
bool same_proof(const Proof& left, const Proof& right);

}  // namespace voldfs::wire
