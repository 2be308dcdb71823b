#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

// TLS 1.3 for all that crosses the network between nodes, and for who asks one over TCP. There is nothing to administer: the
// key of the authority that signs certificates is made of the cluster's secret, so that every node has the same authority
// without having been given it, and whoever shows a certificate of it has proved to know the secret. A node's own key is
// made when its daemon starts, and is never written anywhere. Certificates do not expire, and no clock is asked: those of
// nodes may be wrong. A new secret is a new authority.
namespace voldfs::mgmt {

struct FreeOpenSsl {
  void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  void operator()(X509* certificate) const { ::X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
};
template <class T>
using OpenSslPtr = std::unique_ptr<T, FreeOpenSsl>;

// What one node shows, and what it takes from others. Immutable; any thread.
class Tls {
 public:
  // Of the node that others reach at `address`, a literal, and call `name`.
  Tls(std::string_view secret, const std::string& name, const std::string& address);

  // The authority's certificate, for programs that are to trust the cluster's nodes. Tells nothing of the secret.
  std::string authority_pem() const;

  // The other end of a connection that this end opens. Lives as long as the context that heeds it.
  struct Other {
    enum class Verdict { kUnknown, kTrusted, kForeign, kElsewhere };  // elsewhere: of this cluster, but the node of another address
    std::string address;  // where it is meant to be
    Verdict verdict = Verdict::kUnknown;
    std::shared_ptr<const Tls> tls = nullptr;  // set by connecting()
  };
  // Prepares a context for connecting: nobody but that node of the cluster is talked to.
  static void connecting(SSL_CTX* context, Other& other, std::shared_ptr<const Tls> tls);

  // Prepares a context for listening. Who shows a certificate must be of the cluster; nobody has to show one.
  // `current` is asked for each connection, and lives as long as the context.
  using Current = std::function<std::shared_ptr<const Tls>()>;
  static void listening(SSL_CTX* context, const Current& current);

  // Whether the other end of an established connection has shown a certificate, which then is the cluster's.
  static bool proven(const SSL* ssl);

 private:
  bool signed_by_authority(X509* certificate) const;
  static int check_node(X509_STORE_CTX* store, void* other);
  static int check_client(X509_STORE_CTX* store, void* current);
  static int show(SSL* ssl, void* current);

  OpenSslPtr<EVP_PKEY> authority_key_, key_;
  OpenSslPtr<X509> authority_, certificate_;
};

}  // namespace voldfs::mgmt
