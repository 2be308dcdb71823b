#include "brick/server/handshake.h"

#include <spdlog/spdlog.h>

#include <cstring>

#include "brick/server/limits.h"

namespace voldfs::server {

namespace {

// Those that a connection from `peer` has.
uint64_t features_of(const Peer& peer) { return peer.trusted ? wire::kFeatureDescriptors : 0; }

}  // namespace

Result<void> check_hello(const wire::HelloBody& hello) {
  if (hello.reserved[0] != 0 || hello.reserved[1] != 0 || hello.reserved[2] != 0) return fail(EPROTO);
  if (hello.kind < 1 || hello.kind > 3 || hello.version_min > hello.version_max) return fail(EPROTO);
  return {};
}

Result<void> Handshake::take(const wire::RequestView& request, wire::ReplyBuilder& reply) {
  Result<void> result = fail(EPROTO);
  if (request.op() == wire::Op::kHello && !greeted_) result = hello(request, reply);
  if (request.op() == wire::Op::kAuth && greeted_ && !done_) result = auth(request, reply);
  if (result) return result;
  // Whoever knocks without belonging here can have this line as often as they like: at most one a second in all.
  static std::atomic<int64_t> last_ms{0};
  const int64_t now = boottime_ms();
  int64_t last = last_ms.load();
  if (now - last > 1000 && last_ms.compare_exchange_strong(last, now)) {
    spdlog::warn("handshake_refused peer={} operation={} error={} volume={} client={}", peer_.name,
                 wire::op_name(request.op()), result.error().code, parts_.volume.hex(), parts_.client.hex());
  }
  return result;
}

Result<void> Handshake::hello(const wire::RequestView& request, wire::ReplyBuilder& reply) {
  const auto hello = request.as<wire::HelloBody>();
  if (!hello) return fail(hello.error());
  if (auto checked = check_hello(*hello); !checked) return checked;
  const store::Identity& identity = server_.store.identity();
  parts_.volume = hello->volume;
  parts_.client = hello->client;
  parts_.brick = identity.brick;
  kind_ = static_cast<ConnectionKind>(hello->kind);
  wanted_session_ = hello->session;
  // Who only asks may not know the volume's id yet.
  const bool any_volume = kind_ == ConnectionKind::kAsk && hello->volume.is_none();
  if (hello->volume != identity.volume && !any_volume) return fail(ENODEV);
  if (peer_.ask_only && kind_ != ConnectionKind::kAsk) return fail(EPERM);
  if (hello->version_min > wire::kVersion || hello->version_max < wire::kVersion) return fail(EPROTONOSUPPORT);
  if (hello->client.is_none() && kind_ != ConnectionKind::kAsk) return fail(EPROTO);

  std::memcpy(parts_.client_nonce.data(), hello->nonce, sizeof hello->nonce);
  parts_.brick_nonce = wire::random_nonce();
  wire::ChallengeBody challenge{};
  challenge.brick = identity.brick;
  std::memcpy(challenge.nonce, parts_.brick_nonce.data(), sizeof challenge.nonce);
  const wire::Proof proof = wire::make_proof(server_.store.secret(), wire::Side::kBrick, parts_);
  std::memcpy(challenge.proof, proof.data(), proof.size());
  challenge.features = hello->features & features_of(peer_);
  challenge.version = wire::kVersion;
  reply.set_body(challenge);
  greeted_ = true;
  return {};
}

Result<void> Handshake::auth(const wire::RequestView& request, wire::ReplyBuilder& reply) {
  const auto auth = request.as<wire::AuthBody>();
  if (!auth) return fail(auth.error());
  if (!peer_.trusted) {
    wire::Proof given;
    std::memcpy(given.data(), auth->proof, given.size());
    const wire::Proof wanted = wire::make_proof(server_.store.secret(), wire::Side::kClient, parts_);
    if (!wire::same_proof(given, wanted)) return fail(EACCES);
  }
  wire::WelcomeBody welcome{};
  welcome.incarnation = server_.incarnation;
  welcome.ordinal = server_.store.identity().ordinal;
  if (kind_ != ConnectionKind::kAsk) {
    if (auto joined = join(welcome); !joined) return joined;
  }
  reply.set_body(welcome);
  done_ = true;
  return {};
}

Result<void> Handshake::join(wire::WelcomeBody& welcome) {
  if (wanted_session_ != 0) {
    session_ = server_.sessions.find(wanted_session_, parts_.client);
    // A request connection joins what the control connection has made; alone it could not know what it lost.
    if (!session_ && kind_ == ConnectionKind::kRequests) return fail(wire::kSessionGone);
    welcome.resumed = session_ ? 1 : 0;
  }
  if (!session_) {
    auto created = server_.sessions.create(parts_.client);
    if (!created) return fail(created.error());
    session_ = std::move(*created);
    spdlog::info("session_started session={} client={} peer={}", session_->id(), parts_.client.hex(), peer_.name);
  }
  if (session_->connections.load() >= kConnectionsPerSessionMax) return fail(EUSERS);
  session_->touch();
  if (kind_ == ConnectionKind::kControl) session_->set_peer(peer_.name);
  welcome.session = session_->id();
  welcome.lease_ms = session_->lease_ms();
  welcome.slots = static_cast<uint16_t>(session_->slots());
  welcome.grace = server_.store.in_grace() ? 1 : 0;
  return {};
}

}  // namespace voldfs::server
