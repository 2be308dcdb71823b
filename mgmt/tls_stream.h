#pragma once

#include <span>
#include <string>
#include <string_view>

#include "mgmt/tls.h"

namespace voldfs::mgmt {

// One end of a TLS connection without a socket: what came from the network is put in, what is to go there is taken out.
// One thread at a time.
class TlsStream {
 public:
  // The context is kept as long as it is needed.
  TlsStream(SSL_CTX* context, bool connecting);

  enum class Status { kDone, kWaiting, kBroken };  // waiting: for more from the network
  Status shake_hands();
  // REQUIRES (all below): the handshake is done.
  // `size` is set to what was read, at least 1 if it is done. Broken: also where the other end has ended it.
  Status read(std::span<char> into, size_t& size);
  bool write(std::string_view plain);
  bool proven() const { return Tls::proven(ssl_.get()); }

  void put_received(std::string_view bytes);
  std::string take_outgoing();  // may be empty
  std::string trouble() const;  // of a handshake that broke

 private:
  OpenSslPtr<SSL> ssl_;
  BIO* received_;  // ssl_'s
  BIO* outgoing_;  // ssl_'s
  std::string trouble_;
};

}  // namespace voldfs::mgmt
