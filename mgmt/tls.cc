#include "mgmt/tls.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>

#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

// RFC 5280, 4.1.2.5: a certificate without a well-defined end.
constexpr char kNotBefore[] = "20000101000000Z", kNotAfter[] = "99991231235959Z";

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// OpenSSL does not fail here but for want of memory, or of Ed25519.
void must(bool done) {
  if (!done) std::abort();
}

void set_serial(X509* certificate, std::string_view number) {
  BIGNUM* value = ::BN_bin2bn(bytes(number), static_cast<int>(number.size()), nullptr);
  must(value && ::BN_to_ASN1_INTEGER(value, ::X509_get_serialNumber(certificate)));
  ::BN_free(value);
}

void set_name(X509_NAME* name, const std::string& common_name) {
  for (const auto& [field, value] : {std::pair<const char*, std::string>("O", "voldfs"), {"CN", common_name}})
    must(::X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, bytes(value), static_cast<int>(value.size()), -1, 0) == 1);
}

void extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  ::X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = ::X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  must(extension && ::X509_add_ext(certificate, extension, -1) == 1);
  ::X509_EXTENSION_free(extension);
}

OpenSslPtr<X509> new_certificate(std::string_view serial, const std::string& subject, const std::string& issuer, EVP_PKEY* key) {
  OpenSslPtr<X509> certificate(::X509_new());
  must(certificate && ::X509_set_version(certificate.get(), 2) == 1);  // version 3
  set_serial(certificate.get(), serial);
  set_name(::X509_get_subject_name(certificate.get()), subject);
  set_name(::X509_get_issuer_name(certificate.get()), issuer);
  must(::ASN1_TIME_set_string_X509(::X509_getm_notBefore(certificate.get()), kNotBefore) == 1 &&
       ::ASN1_TIME_set_string_X509(::X509_getm_notAfter(certificate.get()), kNotAfter) == 1 &&
       ::X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

void prepare(SSL_CTX* context) {
  must(::SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1);
  // A session that goes on would not be checked against a secret that has changed.
  ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  must(::SSL_CTX_set_num_tickets(context, 0) == 1);
}

}  // namespace

Tls::Tls(std::string_view secret, const std::string& name, const std::string& address) {
  // Ed25519: every 32 bytes are a key, and its signatures have no random part, so that the authority's certificate is the
  // same on every node, byte by byte.
  const std::string seed = mac(secret, {"voldfs tls authority"});
  authority_key_.reset(::EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes(std::string_view(seed)), seed.size()));
  must(authority_key_ != nullptr);
  const std::string issuer = "voldfs cluster " + to_hex(mac(secret, {"voldfs tls name"})).substr(0, 16);
  authority_ = new_certificate(std::string_view("\1", 1), issuer, issuer, authority_key_.get());
  extend(authority_.get(), authority_.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  extend(authority_.get(), authority_.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  extend(authority_.get(), authority_.get(), NID_subject_key_identifier, "hash");
  must(::X509_sign(authority_.get(), authority_key_.get(), nullptr) > 0);

  key_.reset(::EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  must(key_ != nullptr);
  certificate_ = new_certificate(random_bytes(16), name, issuer, key_.get());
  extend(certificate_.get(), authority_.get(), NID_basic_constraints, "critical,CA:FALSE");
  extend(certificate_.get(), authority_.get(), NID_key_usage, "critical,digitalSignature");
  extend(certificate_.get(), authority_.get(), NID_ext_key_usage, "serverAuth,clientAuth");
  extend(certificate_.get(), authority_.get(), NID_subject_key_identifier, "hash");
  extend(certificate_.get(), authority_.get(), NID_authority_key_identifier, "keyid");
  extend(certificate_.get(), authority_.get(), NID_subject_alt_name, "IP:" + address + ",DNS:" + name);
  must(::X509_sign(certificate_.get(), authority_key_.get(), nullptr) > 0);
}

std::string Tls::authority_pem() const {
  const std::unique_ptr<BIO, decltype(&::BIO_free)> memory(::BIO_new(::BIO_s_mem()), ::BIO_free);
  must(memory && ::PEM_write_bio_X509(memory.get(), authority_.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<size_t>(size)};
}

bool Tls::signed_by_authority(X509* certificate) const { return certificate && ::X509_verify(certificate, authority_key_.get()) == 1; }

// Called in place of OpenSSL's own way along a chain: there is one step, and no clock.
int Tls::check_node(X509_STORE_CTX* store, void* argument) {
  Other& other = *static_cast<Other*>(argument);
  X509* certificate = ::X509_STORE_CTX_get0_cert(store);
  other.verdict = !other.tls->signed_by_authority(certificate)                              ? Other::Verdict::kForeign
                  : ::X509_check_ip_asc(certificate, other.address.c_str(), 0) == 1 ? Other::Verdict::kTrusted
                                                                                    : Other::Verdict::kElsewhere;
  const bool trusted = other.verdict == Other::Verdict::kTrusted;
  ::X509_STORE_CTX_set_error(store, trusted ? X509_V_OK : X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
  return trusted;
}

int Tls::check_client(X509_STORE_CTX* store, void* argument) {
  const bool trusted = (*static_cast<const Current*>(argument))()->signed_by_authority(::X509_STORE_CTX_get0_cert(store));
  ::X509_STORE_CTX_set_error(store, trusted ? X509_V_OK : X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
  return trusted;
}

int Tls::show(SSL* ssl, void* argument) {
  const auto tls = (*static_cast<const Current*>(argument))();
  return ::SSL_use_certificate(ssl, tls->certificate_.get()) == 1 && ::SSL_use_PrivateKey(ssl, tls->key_.get()) == 1;
}

void Tls::connecting(SSL_CTX* context, Other& other, std::shared_ptr<const Tls> tls) {
  prepare(context);
  other.tls = std::move(tls);
  must(::SSL_CTX_use_certificate(context, other.tls->certificate_.get()) == 1 && ::SSL_CTX_use_PrivateKey(context, other.tls->key_.get()) == 1);
  ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  ::SSL_CTX_set_cert_verify_callback(context, &Tls::check_node, &other);
}

void Tls::listening(SSL_CTX* context, const Current& current) {
  prepare(context);
  void* const argument = const_cast<Current*>(&current);  // read alone
  ::SSL_CTX_set_cert_cb(context, &Tls::show, argument);
  ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  ::SSL_CTX_set_cert_verify_callback(context, &Tls::check_client, argument);
}

bool Tls::proven(const SSL* ssl) { return ssl && ::SSL_get0_peer_certificate(ssl) != nullptr; }

}  // namespace voldfs::mgmt
