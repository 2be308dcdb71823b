#include "mgmt/tls_stream.h"

#include <openssl/err.h>

#include <cstdlib>

namespace voldfs::mgmt {

TlsStream::TlsStream(SSL_CTX* context, bool connecting) : ssl_(::SSL_new(context)), received_(::BIO_new(::BIO_s_mem())), outgoing_(::BIO_new(::BIO_s_mem())) {
  if (!ssl_ || !received_ || !outgoing_) std::abort();  // out of memory
  BIO_set_mem_eof_return(received_, -1);  // empty is not the end
  ::SSL_set_bio(ssl_.get(), received_, outgoing_);
  connecting ? ::SSL_set_connect_state(ssl_.get()) : ::SSL_set_accept_state(ssl_.get());
}

TlsStream::Status TlsStream::shake_hands() {
  ::ERR_clear_error();
  const int done = ::SSL_do_handshake(ssl_.get());
  if (done == 1) return Status::kDone;
  if (::SSL_get_error(ssl_.get(), done) == SSL_ERROR_WANT_READ) return Status::kWaiting;
  const char* reason = ::ERR_reason_error_string(::ERR_peek_last_error());
  trouble_ = reason ? reason : "the other end hung up";
  return Status::kBroken;
}

TlsStream::Status TlsStream::read(std::span<char> into, size_t& size) {
  ::ERR_clear_error();
  size = 0;
  if (::SSL_read_ex(ssl_.get(), into.data(), into.size(), &size) == 1) return Status::kDone;
  return ::SSL_get_error(ssl_.get(), 0) == SSL_ERROR_WANT_READ ? Status::kWaiting : Status::kBroken;
}

bool TlsStream::write(std::string_view plain) {
  ::ERR_clear_error();
  size_t written = 0;
  return plain.empty() || (::SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) == 1 && written == plain.size());
}

void TlsStream::put_received(std::string_view bytes) {
  if (::BIO_write(received_, bytes.data(), static_cast<int>(bytes.size())) != static_cast<int>(bytes.size())) std::abort();  // out of memory
}

std::string TlsStream::take_outgoing() {
  std::string bytes(BIO_pending(outgoing_), '\0');
  if (!bytes.empty() && ::BIO_read(outgoing_, bytes.data(), static_cast<int>(bytes.size())) != static_cast<int>(bytes.size())) std::abort();
  return bytes;
}

std::string TlsStream::trouble() const { return trouble_; }

}  // namespace voldfs::mgmt
