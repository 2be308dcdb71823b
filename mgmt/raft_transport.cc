#include "mgmt/raft_transport.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <set>

#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

constexpr char kMagic[] = "VLDRAFT1";
constexpr size_t kMagicSize = 8, kNonceSize = 16, kMacSize = 32;
constexpr size_t kHelloSize = kMagicSize + 8 + 8 + 16 + kNonceSize;
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
  std::set<Connection*> connections;  // in their handshake
  size_t incoming = 0;

  void maybe_closed() {
    if (closing && !listener && connections.empty() && closed) std::exchange(closed, nullptr)(transport);
  }
  static Impl& of(raft_uv_transport* t) { return *static_cast<Impl*>(t->impl); }
  static void on_connection(uv_stream_t* stream, int status);
};

// One handshake, on either end. Owns the socket until libraft has it; ends itself.
class RaftTransport::Impl::Connection {
 public:
  static void accept(Impl& transport, uv_stream_t* listener) {
    auto* self = new Connection(transport, nullptr);
    ++transport.incoming;
    if (!self->init() || uv_accept(listener, self->stream()) != 0) return self->end(RAFT_NOCONNECTION);
    if (transport.closing || !transport.accepted || transport.incoming > kIncomingMax) return self->end(RAFT_NOCONNECTION);
    self->expect(kHelloSize, &Connection::got_hello);
  }

  static void connect(Impl& transport, raft_uv_connect* request, uint64_t to) {
    auto* self = new Connection(transport, request);
    self->peer_ = to;
    const auto endpoint = transport.options.resolve(to);
    if (!self->init() || !endpoint) return self->end(RAFT_NOCONNECTION);
    const auto address = socket_address(*endpoint);
    if (!address) return self->end(RAFT_NOCONNECTION);
    self->connect_.data = self;
    const int failed = uv_tcp_connect(&self->connect_, self->tcp_, reinterpret_cast<const sockaddr*>(&*address),
                                      [](uv_connect_t* connect, int status) { of(connect->data).connected(status); });
    if (failed) self->end(RAFT_NOCONNECTION);
  }

  void cancel() { end(RAFT_CANCELED); }

 private:
  using Next = void (Connection::*)();

  Connection(Impl& transport, raft_uv_connect* request) : transport_(transport), request_(request) {
    transport_.connections.insert(this);
  }

  static Connection& of(void* data) { return *static_cast<Connection*>(data); }
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(tcp_); }

  bool init() {
    uv_timer_init(transport_.loop, &timer_);
    timer_.data = this;
    timer_open_ = true;
    uv_timer_start(&timer_, [](uv_timer_t* timer) { of(timer->data).end(RAFT_NOCONNECTION); }, kHandshakeTimeoutMs, 0);
    tcp_ = static_cast<uv_tcp_t*>(raft_malloc(sizeof *tcp_));  // libraft frees it
    if (!tcp_) return false;
    if (uv_tcp_init(transport_.loop, tcp_) != 0) {
      raft_free(std::exchange(tcp_, nullptr));
      return false;
    }
    tcp_->data = this;
    uv_tcp_nodelay(tcp_, 1);
    return true;
  }

  // Reads exactly `size` bytes, so that nothing that is libraft's is taken.
  void expect(size_t size, Next next) {
    received_.assign(size, '\0');
    filled_ = 0;
    next_ = next;
    const int failed = uv_read_start(
        stream(),
        [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
          Connection& self = of(handle->data);
          *buffer = uv_buf_init(self.received_.data() + self.filled_, static_cast<unsigned>(self.received_.size() - self.filled_));
        },
        [](uv_stream_t* stream, ssize_t n, const uv_buf_t*) { of(stream->data).read(n); });
    if (failed) end(RAFT_NOCONNECTION);
  }

  void read(ssize_t n) {
    if (n == 0) return;
    if (n < 0) return end(RAFT_NOCONNECTION);
    filled_ += static_cast<size_t>(n);
    if (filled_ < received_.size()) return;
    uv_read_stop(stream());
    (this->*next_)();
  }

  void write(std::string bytes, Next next) {
    sending_ = std::move(bytes);
    sent_ = next;
    uv_buf_t buffer = uv_buf_init(sending_.data(), static_cast<unsigned>(sending_.size()));
    write_.data = this;
    const int failed = uv_write(&write_, stream(), &buffer, 1, [](uv_write_t* write, int status) {
      Connection& self = of(write->data);
      if (self.ended_) return;
      if (status != 0) return self.end(RAFT_NOCONNECTION);
      (self.*self.sent_)();
    });
    if (failed) end(RAFT_NOCONNECTION);
  }

  std::string proof(std::string_view role, std::string_view nonce) const {
    return mac(transport_.options.secret, {"voldfs raft", role, hello_, nonce});
  }

  // The connecting end.
  void connected(int status) {
    if (ended_) return;
    if (status != 0) return end(RAFT_NOCONNECTION);
    hello_ = std::string(kMagic, kMagicSize) + u64_bytes(transport_.voter) + u64_bytes(peer_);
    hello_ += view(transport_.options.cluster);
    hello_ += random_bytes(kNonceSize);
    write(hello_, &Connection::sent_hello);
  }
  void sent_hello() { expect(kNonceSize + kMacSize, &Connection::got_accept); }
  void got_accept() {
    const std::string nonce = received_.substr(0, kNonceSize);
    if (!same(std::string_view(received_).substr(kNonceSize), proof("accept", nonce))) return end(RAFT_NOCONNECTION);
    write(proof("connect", nonce), &Connection::hand_over);
  }

  // The listening end.
  void got_hello() {
    hello_ = received_;
    peer_ = u64_at(hello_, kMagicSize);
    const bool ours = hello_.compare(0, kMagicSize, kMagic) == 0 && u64_at(hello_, kMagicSize + 8) == transport_.voter &&
                      std::string_view(hello_).substr(kMagicSize + 16, 16) == view(transport_.options.cluster);
    if (!ours || peer_ == 0) return end(RAFT_NOCONNECTION);
    nonce_ = random_bytes(kNonceSize);
    write(nonce_ + proof("accept", nonce_), &Connection::sent_accept);
  }
  void sent_accept() { expect(kMacSize, &Connection::got_proof); }
  void got_proof() {
    if (!same(received_, proof("connect", nonce_)) || transport_.options.refuse(peer_)) return end(RAFT_NOCONNECTION);
    hand_over();
  }

  void hand_over() {
    auto* stream = reinterpret_cast<uv_stream_t*>(std::exchange(tcp_, nullptr));
    stream->data = nullptr;
    if (raft_uv_connect* request = std::exchange(request_, nullptr)) {
      request->cb(request, stream, 0);
    } else {
      const std::string address = "voter-" + std::to_string(peer_);
      transport_.accepted(transport_.transport, peer_, address.c_str(), stream);
    }
    end(0);
  }

  // Closes what is open, answers libraft, and is gone when libuv has let go of it.
  void end(int status) {
    if (std::exchange(ended_, true)) return;
    if (raft_uv_connect* request = std::exchange(request_, nullptr)) {
      request->cb(request, nullptr, status);
    }
    if (timer_open_) {
      ++closing_;
      uv_close(reinterpret_cast<uv_handle_t*>(&timer_), [](uv_handle_t* handle) { of(handle->data).let_go(); });
    }
    if (tcp_) {
      ++closing_;
      uv_close(reinterpret_cast<uv_handle_t*>(tcp_), [](uv_handle_t* handle) { of(handle->data).let_go(); });
    }
    if (closing_ == 0) {
      closing_ = 1;
      let_go();
    }
  }

  void let_go() {
    if (--closing_ > 0) return;
    if (tcp_) raft_free(tcp_);
    Impl& transport = transport_;
    transport.connections.erase(this);
    if (incoming_) --transport.incoming;
    delete this;
    transport.maybe_closed();
  }

  Impl& transport_;
  raft_uv_connect* request_;
  const bool incoming_ = request_ == nullptr;
  uint64_t peer_ = 0;
  uv_tcp_t* tcp_ = nullptr;
  uv_timer_t timer_{};
  bool timer_open_ = false;
  uv_connect_t connect_{};
  uv_write_t write_{};
  std::string received_, sending_, hello_, nonce_;
  size_t filled_ = 0;
  Next next_ = nullptr, sent_ = nullptr;
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
