#pragma once

#include <memory>
#include <string>

#include "brick/base/result.h"
#include "brick/server/server_state.h"
#include "brick/wire/proof.h"

namespace voldfs::server {

enum class ConnectionKind : uint8_t { kRequests = 1, kControl = 2, kAsk = 3 };

// Where a connection comes from.
struct Peer {
  std::string name;          // for logs
  bool trusted = false;      // the unix socket's, of uid 0: its proof is not looked at
  bool ask_only = false;     // came through the map port
  bool same_host = false;    // its CPUs are ours
};

// The first two requests of a connection: kHello and kAuth, until it is known who is there. No I/O; one lane's.
class Handshake {
 public:
  Handshake(ServerState& server, Peer peer) : server_(server), peer_(std::move(peer)) {}

  // Takes the next request and fills the reply; whatever its status, it is to be sent. An error: and then the
  // connection is to be closed.
  Result<void> take(const wire::RequestView& request, wire::ReplyBuilder& reply);

  bool done() const { return done_; }
  ConnectionKind kind() const { return kind_; }
  const std::shared_ptr<Session>& session() const { return session_; }  // null: kAsk

 private:
  Result<void> hello(const wire::RequestView& request, wire::ReplyBuilder& reply);
  Result<void> auth(const wire::RequestView& request, wire::ReplyBuilder& reply);
  Result<void> join(wire::WelcomeBody& welcome);

  ServerState& server_;
  const Peer peer_;
  bool greeted_ = false, done_ = false;
  ConnectionKind kind_ = ConnectionKind::kAsk;
  uint64_t wanted_session_ = 0;
  wire::ProofParts parts_;
  std::shared_ptr<Session> session_;
};

// Checks the structure of a kHello: reserved bytes, kind. EPROTO.
Result<void> check_hello(const wire::HelloBody& hello);

}  // namespace voldfs::server
