#include "mgmt/raft_transport.h"

#include <netinet/tcp.h>
#include <spdlog/spdlog.h>

#include <cstring>
#include <set>

#include "brick/base/clock.h"
#include "mgmt/tls_stream.h"

namespace voldfs::mgmt {

namespace {

constexpr char kMagic[] = "VLDRAFT2";
constexpr size_t kMagicSize = 8;
constexpr size_t kHelloSize = kMagicSize + 8 + 8 + 16;
constexpr size_t kPiece = 64 << 10;       // that a connection holds at most, in each direction, of what libraft sends
constexpr int kUnacknowledgedMaxMs = 5000;
constexpr int64_t kWarningMs = 10'000;    // between two warnings of strangers
constexpr uint64_t kHandshakeTimeoutMs = 3000;
constexpr size_t kIncomingMax = 128;  // strangers that have not proved anything yet; above, they are hung up on
constexpr int kBacklog = 64;

std::string u64_bytes(uint64_t value) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

uint64_t u64_at(std::string_view bytes, size_t offset) {
  uint64_t value = 0;
  for (size_t i = 8; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

std::string_view view(const Id& id) { return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()}; }

Explained<sockaddr_storage> socket_address(const Endpoint& endpoint) {
  sockaddr_storage address{};
  if (uv_ip4_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in*>(&address)) == 0) return address;
  if (uv_ip6_addr(endpoint.address.c_str(), endpoint.port, reinterpret_cast<sockaddr_in6*>(&address)) == 0) return address;
  return explain("\"" + endpoint.address + "\" is no address literal.");
}

}  // namespace

struct RaftTransport::Impl {
  class Connection;

  uv_loop_t* loop = nullptr;
  Options options;
  raft_uv_transport* transport = nullptr;
  uint64_t voter = 0;
  uv_tcp_t* listener = nullptr;
  raft_uv_accept_cb accepted = nullptr;
  raft_uv_transport_close_cb closed = nullptr;
  bool closing = false;
  std::set<Connection*> connections;
  size_t incoming = 0;                // of them, in their handshake
  Tls::Current current_tls;           // before the context, which asks it
  OpenSslPtr<SSL_CTX> context;        // of connections that others open
  int64_t next_warning_ms = 0;

  void maybe_closed() {
    if (closing && !listener && connections.empty() && closed) std::exchange(closed, nullptr)(transport);
  }
  static Impl& of(raft_uv_transport* t) { return *static_cast<Impl*>(t->impl); }
  static void on_connection(uv_stream_t* stream, int status);
};

// One connection, on either end: TLS, hello, and then, until it ends, libraft's bytes. libraft writes to a stream of libuv
// and reads from it; it gets one end of a socket pair, and what goes through the other end goes through TLS. Owns all but
// libraft's end; ends itself.
class RaftTransport::Impl::Connection {
 public:
  static void accept(Impl& transport, uv_stream_t* listener) {
    auto* self = new Connection(transport, nullptr);
    ++transport.incoming;
    if (!self->init() || uv_accept(listener, self->stream()) != 0) return self->end();
    if (transport.closing || !transport.accepted || transport.incoming > kIncomingMax) return self->end();
    self->begin(transport.context.get());
  }

  static void connect(Impl& transport, raft_uv_connect* request, uint64_t to) {
    auto* self = new Connection(transport, request);
    self->peer_ = to;
    const auto endpoint = transport.options.resolve(to);
    if (!self->init() || !endpoint) return self->end();
    const auto address = socket_address(*endpoint);
    if (!address) return self->end();
    self->other_.address = endpoint->address;
    self->context_.reset(::SSL_CTX_new(::TLS_method()));
    if (!self->context_) return self->end();
    Tls::connecting(self->context_.get(), self->other_, transport.options.tls);
    self->connect_.data = self;
    const int failed = uv_tcp_connect(&self->connect_, &self->tcp_, reinterpret_cast<const sockaddr*>(&*address), [](uv_connect_t* connect, int status) {
      Connection& connection = of(connect->data);
      if (connection.ended_) return;
      status == 0 ? connection.begin(connection.context_.get()) : connection.end();
    });
    if (failed) self->end();
  }

  void cancel() { end(RAFT_CANCELED); }

 private:
  enum class Stage { kHandshake, kHello, kAccept, kRelay };

  Connection(Impl& transport, raft_uv_connect* request) : transport_(transport), request_(request) {
    transport_.connections.insert(this);
  }

  static Connection& of(void* data) { return *static_cast<Connection*>(data); }
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&tcp_); }
  uv_stream_t* relay() { return reinterpret_cast<uv_stream_t*>(&relay_); }

  bool init() {
    if (uv_timer_init(transport_.loop, &timer_) != 0) return false;
    timer_.data = this;
    timer_open_ = true;
    uv_timer_start(&timer_, [](uv_timer_t* timer) { of(timer->data).end(); }, kHandshakeTimeoutMs, 0);
    if (uv_tcp_init(transport_.loop, &tcp_) != 0) return false;
    tcp_.data = this;
    tcp_open_ = true;
    return true;
  }

  void begin(SSL_CTX* context) {
    uv_tcp_nodelay(&tcp_, 1);
    uv_os_fd_t fd = -1;
    // A peer that has gone is noticed; TCP alone would try for a quarter of an hour, and wait minutes between two tries.
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(&tcp_), &fd) == 0) ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMaxMs, sizeof kUnacknowledgedMaxMs);
    tls_.emplace(context, !incoming_);
    advance();
  }

  // From the network. One piece is taken in at a time, so that no more is kept than that.
  void receive() {
    const int failed = uv_read_start(
        stream(), [](uv_handle_t* handle, size_t, uv_buf_t* buffer) { *buffer = uv_buf_init(of(handle->data).coming_, sizeof coming_); },
        [](uv_stream_t* from, ssize_t n, const uv_buf_t*) {
          Connection& self = of(from->data);
          if (n == 0) return;
          uv_read_stop(from);
          if (n < 0) return self.end();
          self.tls_->put_received({self.coming_, static_cast<size_t>(n)});
          self.advance();
        });
    if (failed) end();
  }

  // As far as what has come allows.
  void advance() {
    while (!ended_) {
      const auto status = stage_ == Stage::kHandshake ? tls_->shake_hands() : stage_ == Stage::kRelay ? pass_on() : read_greeting();
      if (ended_) return;
      flush();
      if (ended_) return;
      if (status == TlsStream::Status::kBroken) return refuse();
      if (status == TlsStream::Status::kWaiting) return to_libraft_busy_ ? void() : receive();
      if (stage_ == Stage::kHandshake) secured();
    }
  }

  void refuse() {
    if (stage_ == Stage::kHandshake) warn(tls_->trouble());
    end();
  }

  // Strangers do not fill the journal.
  void warn(const std::string& reason) {
    const int64_t now = boottime_ms();
    if (now < transport_.next_warning_ms) return;
    transport_.next_warning_ms = now + kWarningMs;
    sockaddr_storage address{};
    int size = sizeof address;
    char text[INET6_ADDRSTRLEN] = "?";
    if (uv_tcp_getpeername(&tcp_, reinterpret_cast<sockaddr*>(&address), &size) == 0) uv_ip_name(reinterpret_cast<sockaddr*>(&address), text, sizeof text);
    spdlog::warn("log connection refused with={} reason=\"{}\" meaning=\"what is there has another secret than this cluster, or is no voldmgmt of this version\"", text, reason);
  }

  void secured() {
    stage_ = incoming_ ? Stage::kHello : Stage::kAccept;
    greeting_.clear();
    if (incoming_) return;
    std::string hello = std::string(kMagic, kMagicSize) + u64_bytes(transport_.voter) + u64_bytes(peer_);
    hello += view(transport_.options.cluster);
    if (!tls_->write(hello)) end();
  }

  // Exactly as much as the greeting has: what follows is libraft's.
  TlsStream::Status read_greeting() {
    char bytes[kHelloSize];
    const size_t wanted = (incoming_ ? kHelloSize : kMagicSize) - greeting_.size();
    size_t size = 0;
    const auto status = tls_->read({bytes, wanted}, size);
    if (status != TlsStream::Status::kDone) return status;
    greeting_.append(bytes, size);
    if (size == wanted && !(incoming_ ? got_hello() : greeting_ == std::string_view(kMagic, kMagicSize) && hand_over())) return TlsStream::Status::kBroken;
    return TlsStream::Status::kDone;
  }

  bool got_hello() {
    peer_ = u64_at(greeting_, kMagicSize);
    const bool ours = greeting_.compare(0, kMagicSize, kMagic) == 0 && u64_at(greeting_, kMagicSize + 8) == transport_.voter &&
                      std::string_view(greeting_).substr(kMagicSize + 16, 16) == view(transport_.options.cluster);
    // Who shows no certificate is let through a handshake, and no further.
    return ours && peer_ != 0 && tls_->proven() && !transport_.options.refuse(peer_) && tls_->write({kMagic, kMagicSize}) && hand_over();
  }

  bool hand_over() {
    uv_os_sock_t ends[2] = {-1, -1};
    auto* theirs = static_cast<uv_pipe_t*>(raft_malloc(sizeof(uv_pipe_t)));  // libraft frees it
    if (!theirs || uv_pipe_init(transport_.loop, theirs, 0) != 0) {
      raft_free(theirs);
      return false;
    }
    uv_pipe_init(transport_.loop, &relay_, 0);
    relay_.data = this;
    relay_open_ = true;
    const bool paired = uv_socketpair(SOCK_STREAM, 0, ends, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE) == 0;
    if (!paired || uv_pipe_open(theirs, ends[0]) != 0 || uv_pipe_open(&relay_, ends[1]) != 0) {
      uv_close(reinterpret_cast<uv_handle_t*>(theirs), [](uv_handle_t* handle) { raft_free(handle); });
      return false;
    }
    stage_ = Stage::kRelay;
    uv_timer_stop(&timer_);
    if (incoming_) --transport_.incoming;
    counted_ = false;
    theirs->data = nullptr;
    auto* for_libraft = reinterpret_cast<uv_stream_t*>(theirs);
    if (raft_uv_connect* request = std::exchange(request_, nullptr)) {
      request->cb(request, for_libraft, 0);
    } else {
      const std::string address = "voter-" + std::to_string(peer_);
      transport_.accepted(transport_.transport, peer_, address.c_str(), for_libraft);
    }
    take_from_libraft();
    return true;
  }

  // To libraft, a piece at a time.
  TlsStream::Status pass_on() {
    if (to_libraft_busy_) return TlsStream::Status::kWaiting;
    size_t size = 0;
    const auto status = tls_->read(to_libraft_, size);
    if (status != TlsStream::Status::kDone) return status;
    uv_buf_t buffer = uv_buf_init(to_libraft_, static_cast<unsigned>(size));
    to_libraft_write_.data = this;
    to_libraft_busy_ = true;
    const int failed = uv_write(&to_libraft_write_, relay(), &buffer, 1, [](uv_write_t* write, int failure) {
      Connection& self = of(write->data);
      self.to_libraft_busy_ = false;
      if (self.ended_) return;
      failure ? self.end() : self.advance();
    });
    return failed ? TlsStream::Status::kBroken : TlsStream::Status::kWaiting;
  }

  // From libraft; while something is on its way out, it waits, and libraft's socket fills.
  void take_from_libraft() {
    if (std::exchange(reading_libraft_, true)) return;
    const int failed = uv_read_start(
        relay(), [](uv_handle_t* handle, size_t, uv_buf_t* buffer) { *buffer = uv_buf_init(of(handle->data).from_libraft_, sizeof from_libraft_); },
        [](uv_stream_t* from, ssize_t n, const uv_buf_t*) {
          Connection& self = of(from->data);
          if (n == 0) return;
          uv_read_stop(from);
          self.reading_libraft_ = false;
          if (n < 0 || !self.tls_->write({self.from_libraft_, static_cast<size_t>(n)})) return self.end();
          self.flush();
        });
    if (failed) end();
  }

  void flush() {
    if (!outgoing_.empty() || (outgoing_ = tls_->take_outgoing()).empty()) return;
    uv_buf_t buffer = uv_buf_init(outgoing_.data(), static_cast<unsigned>(outgoing_.size()));
    write_.data = this;
    const int failed = uv_write(&write_, stream(), &buffer, 1, [](uv_write_t* write, int failure) {
      Connection& self = of(write->data);
      self.outgoing_.clear();
      if (self.ended_) return;
      if (failure) return self.end();
      self.flush();
      if (self.stage_ == Stage::kRelay && self.outgoing_.empty()) self.take_from_libraft();
    });
    if (failed) end();
  }

  // Closes what is open, answers libraft, and is gone when libuv has let go of it.
  void end(int status = RAFT_NOCONNECTION) {
    if (std::exchange(ended_, true)) return;
    if (raft_uv_connect* request = std::exchange(request_, nullptr)) request->cb(request, nullptr, status);
    ++closing_;
    if (timer_open_) close(&timer_);
    if (tcp_open_) close(&tcp_);
    if (relay_open_) close(&relay_);
    // Not at once: the caller may be one of this connection's own functions.
    let_go();
  }

  template <class Handle>
  void close(Handle* handle) {
    ++closing_;
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) { of(closed->data).let_go(); });
  }

  void let_go() {
    if (--closing_ > 0) return;
    Impl& transport = transport_;
    transport.connections.erase(this);
    if (incoming_ && counted_) --transport.incoming;
    delete this;
    transport.maybe_closed();
  }

  Impl& transport_;
  raft_uv_connect* request_;
  const bool incoming_ = request_ == nullptr;
  bool counted_ = true;          // among those that have not proved anything yet
  uint64_t peer_ = 0;
  Tls::Other other_;             // of a connection that this end opened
  OpenSslPtr<SSL_CTX> context_;  // of such a one
  std::optional<TlsStream> tls_;
  Stage stage_ = Stage::kHandshake;
  std::string greeting_;
  uv_tcp_t tcp_{};
  uv_timer_t timer_{};
  uv_pipe_t relay_{};
  bool tcp_open_ = false, timer_open_ = false, relay_open_ = false;
  uv_connect_t connect_{};
  uv_write_t write_{}, to_libraft_write_{};
  std::string outgoing_;         // on its way to the network
  bool to_libraft_busy_ = false, reading_libraft_ = false;
  char coming_[kPiece], from_libraft_[kPiece], to_libraft_[kPiece];
  bool ended_ = false;
  int closing_ = 0;
};

void RaftTransport::Impl::on_connection(uv_stream_t* stream, int status) {
  Impl& self = *static_cast<Impl*>(stream->data);
  if (status == 0) Connection::accept(self, stream);
}

RaftTransport::RaftTransport(uv_loop_t* loop, Options options) : impl_(std::make_unique<Impl>()) {
  impl_->loop = loop;
  impl_->options = std::move(options);
  impl_->transport = &transport_;
  impl_->current_tls = [tls = impl_->options.tls] { return tls; };
  impl_->context.reset(::SSL_CTX_new(::TLS_method()));
  if (!impl_->context) std::abort();  // out of memory
  Tls::listening(impl_->context.get(), impl_->current_tls);
  transport_.version = 1;
  transport_.impl = impl_.get();
  transport_.init = [](raft_uv_transport* t, raft_id id, const char*) {
    Impl::of(t).voter = id;
    return 0;
  };
  transport_.listen = [](raft_uv_transport* t, raft_uv_accept_cb accepted) {
    Impl& self = Impl::of(t);
    self.accepted = accepted;
    const int failed = uv_listen(reinterpret_cast<uv_stream_t*>(self.listener), kBacklog, Impl::on_connection);
    if (!failed) return 0;
    snprintf(t->errmsg, sizeof t->errmsg, "listen: %s", uv_strerror(failed));
    return static_cast<int>(RAFT_IOERR);
  };
  transport_.connect = [](raft_uv_transport* t, raft_uv_connect* request, raft_id id, const char*, raft_uv_connect_cb done) {
    Impl& self = Impl::of(t);
    if (self.closing) return static_cast<int>(RAFT_CANCELED);
    request->cb = done;
    Impl::Connection::connect(self, request, id);
    return 0;
  };
  transport_.close = [](raft_uv_transport* t, raft_uv_transport_close_cb closed) {
    Impl& self = Impl::of(t);
    self.closing = true;
    self.closed = closed;
    if (self.listener) {
      uv_close(reinterpret_cast<uv_handle_t*>(self.listener), [](uv_handle_t* handle) {
        Impl& owner = *static_cast<Impl*>(handle->data);
        delete std::exchange(owner.listener, nullptr);
        owner.maybe_closed();
      });
    }
    const auto connections = self.connections;
    for (Impl::Connection* connection : connections) connection->cancel();
    self.maybe_closed();
  };
}

RaftTransport::~RaftTransport() = default;

Explained<void> RaftTransport::bind() {
  const Endpoint& listen = impl_->options.listen;
  const auto address = socket_address(listen);
  if (!address) return explain(address.error());
  auto* listener = new uv_tcp_t;
  uv_tcp_init(impl_->loop, listener);
  listener->data = impl_.get();
  impl_->listener = listener;
  int failed = uv_tcp_bind(listener, reinterpret_cast<const sockaddr*>(&*address), 0);
  // libuv tells of a used address in uv_listen() alone; this is the same call, and libraft's own follows.
  if (!failed) failed = uv_listen(reinterpret_cast<uv_stream_t*>(listener), kBacklog, Impl::on_connection);
  if (failed)
    return explain("Could not listen on " + listen.address + ":" + std::to_string(listen.port) + ": " + uv_strerror(failed) +
                   ". Is another voldmgmt running, or another program on this port?");
  return {};
}

}  // namespace voldfs::mgmt
