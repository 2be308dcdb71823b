#include "brick/client/connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "brick/base/clock.h"
#include "brick/wire/frame.h"
#include "brick/wire/proof.h"

namespace voldfs::client {

namespace {

void set(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); }

// connect(2) that gives up after a while; the socket is blocking again afterwards.
Result<void> connect_within(int fd, const sockaddr* address, socklen_t size, uint32_t timeout_ms) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  if (::connect(fd, address, size) != 0) {
    if (errno != EINPROGRESS) return fail_errno();
    pollfd ready{fd, POLLOUT, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(timeout_ms));
    if (count < 0) return fail_errno();
    if (count == 0) return fail(ETIMEDOUT);
    int error = 0;
    socklen_t error_size = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0) return fail_errno();
    if (error != 0) return fail(error);
  }
  ::fcntl(fd, F_SETFL, flags);
  return {};
}

Result<unique_fd> connect_unix(const std::string& path, uint32_t timeout_ms) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno();
  set(fd.get(), SOL_SOCKET, SO_SNDBUF, kUnixSocketBuffer);
  set(fd.get(), SOL_SOCKET, SO_RCVBUF, kUnixSocketBuffer);
  auto connected = connect_within(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address, timeout_ms);
  if (!connected) return fail(connected.error());
  return fd;
}

Result<unique_fd> connect_tcp(const std::string& host, uint16_t port, uint32_t timeout_ms) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) return fail(EINVAL);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(list, ::freeaddrinfo);
  unique_fd fd(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno();
  set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  auto connected = connect_within(fd.get(), address->ai_addr, address->ai_addrlen, timeout_ms);
  if (!connected) return fail(connected.error());
  return fd;
}

int status_of(const wire::Reply& reply) { return static_cast<int>(reply.header.status); }

}  // namespace

Result<std::unique_ptr<Connection>> Connection::open(const BrickAddress& address, const ClientOptions& options,
                                                     ConnectionKind kind, uint64_t session) {
  int64_t left_ms = options.connect_timeout_ms;
  if (options.use_unix_sockets && !address.unix_socket.empty() && ::access(address.unix_socket.c_str(), F_OK) == 0) {
    const int64_t until = boottime_ms() + left_ms;
    auto local = open_one(address, options, kind, session, true, options.connect_timeout_ms);
    left_ms = until - boottime_ms();
    // The brick has spoken, or hangs; anything else may be another host's path, or the socket of a brick that has gone.
    if (local || local.error().code == wire::kSessionGone || address.port == 0 || left_ms <= 0) return local;
  }
  return open_one(address, options, kind, session, false, static_cast<uint32_t>(left_ms));
}

Result<std::unique_ptr<Connection>> Connection::open_one(const BrickAddress& address, const ClientOptions& options,
                                                         ConnectionKind kind, uint64_t session, bool local, uint32_t timeout_ms) {
  auto socket = local ? connect_unix(address.unix_socket, timeout_ms)
                      : connect_tcp(address.host, address.port, timeout_ms);
  if (!socket) return fail(socket.error());
  std::unique_ptr<Connection> connection(new Connection(std::move(*socket), local));
  connection->set_timeouts(timeout_ms);
  if (auto hands = connection->shake_hands(address, options, kind, session); !hands) return fail(hands.error());
  connection->prepare_for_service();
  return connection;
}

void Connection::set_timeouts(uint32_t milliseconds) {
  const timeval time{milliseconds / 1000, milliseconds % 1000 * 1000};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
  has_timeouts_ = milliseconds != 0;
}

// An answer may take as long as it takes; but a host that does not even acknowledge for the time of a lease is down.
void Connection::prepare_for_service() {
  set_timeouts(0);
  if (local_) return;
  const int lease_ms = static_cast<int>(std::max<uint32_t>(welcome_.lease_ms, 4000));
  set(socket_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, lease_ms);
  set(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket_.get(), IPPROTO_TCP, TCP_KEEPIDLE, lease_ms / 4000);
  set(socket_.get(), IPPROTO_TCP, TCP_KEEPINTVL, lease_ms / 4000);
  set(socket_.get(), IPPROTO_TCP, TCP_KEEPCNT, 3);
}

Result<wire::Reply> Connection::exchange(const wire::Request& request) {
  if (auto sent = send(request); !sent) return fail(sent.error());
  wire::Reply reply;
  auto received = receive(reply, {});
  if (!received && received.error().code == EAGAIN) return fail(ETIMEDOUT);
  if (!received) return fail(received.error());
  if (reply.header.op != request.header().op) return fail(EPROTO);
  if (status_of(reply) != 0) return fail(status_of(reply));
  return reply;
}

Result<void> Connection::shake_hands(const BrickAddress& address, const ClientOptions& options, ConnectionKind kind,
                                     uint64_t session) {
  wire::ProofParts parts;
  parts.client_nonce = wire::random_nonce();
  parts.volume = options.volume;
  parts.client = options.client;

  wire::HelloBody hello{};
  hello.volume = options.volume;
  hello.client = options.client;
  std::memcpy(hello.nonce, parts.client_nonce.data(), sizeof hello.nonce);
  hello.session = session;
  hello.version_min = hello.version_max = wire::kVersion;
  hello.kind = static_cast<uint8_t>(kind);
  hello.features = local_ ? wire::kFeatureDescriptors : 0;
  auto greeted = exchange(wire::Request(wire::Op::kHello, hello));
  if (!greeted) return fail(greeted.error());
  const auto challenge = greeted->body<wire::ChallengeBody>();
  if (!challenge) return fail(challenge.error());
  if (!address.brick.is_none() && challenge->brick != address.brick) return fail(EXDEV);
  if (challenge->version != wire::kVersion) return fail(EPROTONOSUPPORT);

  passes_descriptors_ = local_ && (challenge->features & wire::kFeatureDescriptors) != 0;

  std::memcpy(parts.brick_nonce.data(), challenge->nonce, sizeof challenge->nonce);
  parts.brick = challenge->brick;
  wire::Proof given;
  std::memcpy(given.data(), challenge->proof, given.size());
  // Over the unix socket root talks to root, and a tool need not have the secret.
  const bool check = !local_ || !options.secret.empty();
  if (check && !wire::same_proof(given, wire::make_proof(options.secret, wire::Side::kBrick, parts))) return fail(EACCES);

  wire::AuthBody auth{};
  const wire::Proof own = wire::make_proof(options.secret, wire::Side::kClient, parts);
  std::memcpy(auth.proof, own.data(), own.size());
  auto welcomed = exchange(wire::Request(wire::Op::kAuth, auth));
  if (!welcomed) return fail(welcomed.error());
  const auto welcome = welcomed->body<wire::WelcomeBody>();
  if (!welcome) return fail(welcome.error());
  if (kind != ConnectionKind::kAsk && (welcome->session == 0 || welcome->slots < wire::kSlotsMax || welcome->lease_ms == 0)) {
    return fail(EPROTO);
  }
  welcome_ = *welcome;
  return {};
}

Result<wire::Reply> Connection::ask_within(const wire::Request& request, uint32_t milliseconds) {
  set_timeouts(milliseconds);
  auto reply = exchange(request);
  set_timeouts(0);
  return reply;
}

Result<void> Connection::send(const wire::Request& request) {
  wire::RequestHeader& header = const_cast<wire::Request&>(request).header();
  header.magic = wire::kRequestMagic;
  header.version = wire::kVersion;
  last_op_ = header.op;
  may_get_descriptor_ = passes_descriptors_ && (header.flags & wire::kFlagTakesDescriptor) != 0;
  wire::Gather message = wire::gather(request);
  while (message.bytes != 0) {
    msghdr to{};
    to.msg_iov = message.parts.data();
    to.msg_iovlen = message.count;
    const ssize_t sent = ::sendmsg(socket_.get(), &to, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return fail_errno();
    message.advance(static_cast<size_t>(sent));
  }
  return {};
}

Result<void> Connection::receive(wire::Reply& reply, std::span<std::byte> data_into) {
  reply.data = {};
  if (last_op_ == static_cast<uint16_t>(wire::Op::kRead) && !data_into.empty() && received_ == 0) {
    const auto whole = receive_read(reply, data_into);
    if (!whole) return fail(whole.error());
    if (*whole) return {};
  }
  if (auto filled = fill(sizeof reply.header); !filled) return filled;
  std::memcpy(&reply.header, input_.data(), sizeof reply.header);
  if (auto checked = wire::check_header(reply.header); !checked) return checked;
  const size_t before_data = sizeof reply.header + wire::front_size(reply.header);
  if (auto filled = fill(before_data); !filled) return filled;
  wire::take_front(reply, input_.data() + sizeof reply.header);
  unique_fd descriptor = std::move(descriptor_);
  if (reply.header.flags & wire::kFlagDescriptor) reply.descriptor = std::move(descriptor);  // perhaps none: this process has too many
  received_ -= before_data;
  std::memmove(input_.data(), input_.data() + before_data, received_);
  return reply.header.data_size != 0 ? receive_data(reply, data_into) : Result<void>{};
}

// A thread asleep in recv(2) on a unix socket is woken twice for an answer: also when the brick takes the request off the
// socket, which makes room to write. One in poll(2) is asked what it waits for. (4 us of a request.)
void Connection::await_answer() {
  if (!local_ || has_timeouts_) return;
  pollfd answer{socket_.get(), POLLIN, 0};
  ::poll(&answer, 1, -1);  // an error or a signal: the call that receives sees it
}

Result<void> Connection::fill(size_t wanted) {
  if (received_ < wanted) await_answer();
  while (received_ < wanted) {
    const auto room = std::span(input_).subspan(received_);
    const ssize_t more = may_get_descriptor_ ? receive_with_descriptor(room) : ::recv(socket_.get(), room.data(), room.size(), 0);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return fail_errno();
    if (more == 0) return fail(ECONNRESET);
    received_ += static_cast<size_t>(more);
  }
  return {};
}

// A descriptor for which this process has no room is lost (MSG_CTRUNC): the open is then one without.
ssize_t Connection::receive_with_descriptor(std::span<std::byte> into) {
  iovec part{into.data(), into.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control;
  msghdr from{};
  from.msg_iov = &part;
  from.msg_iovlen = 1;
  from.msg_control = control.data();
  from.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket_.get(), &from, MSG_CMSG_CLOEXEC);
  if (size <= 0) return size;
  const cmsghdr* const head = CMSG_FIRSTHDR(&from);
  if (head != nullptr && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    descriptor_.reset(fd);
  }
  return size;
}

// The usual answer to a read is a header and the data: received with one call, the data where the caller wants it. True:
// that is what it was. False: something else, now in input_.
Result<bool> Connection::receive_read(wire::Reply& reply, std::span<std::byte> data_into) {
  iovec parts[2] = {{&reply.header, sizeof reply.header}, {data_into.data(), data_into.size()}};
  msghdr from{};
  from.msg_iov = parts;
  from.msg_iovlen = 2;
  ssize_t count;
  await_answer();
  do {
    count = ::recvmsg(socket_.get(), &from, 0);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return fail_errno();
  if (count == 0) return fail(ECONNRESET);
  const auto size = static_cast<size_t>(count);
  const size_t in_header = std::min(size, sizeof reply.header);
  const size_t in_data = size - in_header;
  const wire::ReplyHeader& header = reply.header;
  const bool usual = in_header == sizeof header && wire::check_header(header) && wire::front_size(header) == 0 &&
                     header.data_size <= data_into.size() && in_data <= header.data_size;
  if (usual) {
    reply.data = data_into.first(header.data_size);
    if (auto rest = receive_rest(reply.data.subspan(in_data)); !rest) return fail(rest.error());
    return true;
  }
  if (size > input_.size()) return fail(EPROTO);
  std::memcpy(input_.data(), &reply.header, in_header);
  std::memcpy(input_.data() + in_header, data_into.data(), in_data);
  received_ = size;
  return false;
}

Result<void> Connection::receive_data(wire::Reply& reply, std::span<std::byte> data_into) {
  if (reply.header.data_size <= data_into.size()) {
    reply.data = data_into.first(reply.header.data_size);
  } else {
    reply.owned_data.resize(reply.header.data_size);
    reply.data = reply.owned_data;
  }
  const size_t here = std::min(received_, reply.data.size());
  std::memcpy(reply.data.data(), input_.data(), here);
  received_ -= here;
  std::memmove(input_.data(), input_.data() + here, received_);
  return receive_rest(reply.data.subspan(here));
}

Result<void> Connection::receive_rest(std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t more = ::recv(socket_.get(), into.data(), into.size(), MSG_WAITALL);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return fail_errno();
    if (more == 0) return fail(ECONNRESET);
    into = into.subspan(static_cast<size_t>(more));
  }
  return {};
}

void Connection::shut_down() { ::shutdown(socket_.get(), SHUT_RDWR); }

Result<std::vector<std::byte>> ask(const BrickAddress& address, const ClientOptions& options, wire::Op op,
                                   std::span<const std::byte> data) {
  const int64_t until = boottime_ms() + options.connect_timeout_ms;
  auto connection = Connection::open(address, options, ConnectionKind::kAsk, 0);
  if (!connection) return fail(connection.error());
  const int64_t left_ms = until - boottime_ms();
  if (left_ms <= 0) return fail(ETIMEDOUT);
  (*connection)->set_timeouts(static_cast<uint32_t>(left_ms));
  auto reply = (*connection)->exchange(wire::Request(op, data));
  if (!reply) return fail(reply.error());
  return std::move(reply->owned_data);
}

}  // namespace voldfs::client
