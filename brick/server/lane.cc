#include "brick/server/lane.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "brick/base/clock.h"
#include "brick/server/control_lane.h"
#include "brick/server/dispatch.h"
#include "brick/server/limits.h"

namespace voldfs::server {

namespace {

int64_t deadline_in(int64_t milliseconds) { return monotonic_us() + milliseconds * 1000; }

}  // namespace

Lane::~Lane() {
  if (started_) ::pthread_join(thread_, nullptr);
}

Result<void> Lane::start() {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kLaneStack);
  const int error = ::pthread_create(&thread_, &attributes, thread_main, this);
  ::pthread_attr_destroy(&attributes);
  if (error != 0) return fail(error);
  started_ = true;
  return {};
}

void Lane::cut() { ::shutdown(socket_.get(), SHUT_RDWR); }

void Lane::stop_receiving() { ::shutdown(socket_.get(), SHUT_RD); }

void* Lane::thread_main(void* lane) {
  ::pthread_setname_np(::pthread_self(), "lane");
  static_cast<Lane*>(lane)->serve();
  return nullptr;
}

void Lane::serve() {
  {
    Stream stream(socket_.get());
    if (auto opened = stream.open(); !opened) {
      spdlog::error("lane_failed peer={} error={}: no io_uring (memory, or the limit of open files)", peer_.name,
                    opened.error().code);
    } else if (shake_hands(stream)) {
      serve_requests(stream);
    }
  }
  payloads_.clear();
  if (session_) session_->connections.fetch_sub(1);
  session_.reset();
  // The peer learns of the end now; the descriptor itself goes with the lane.
  ::shutdown(socket_.get(), SHUT_RDWR);
  finished_.store(true, std::memory_order_release);
}

bool Lane::shake_hands(Stream& stream) {
  const int64_t deadline = deadline_in(kHandshakeMs);
  Handshake handshake(server_, peer_);
  while (!handshake.done()) {
    if (receive_header(stream, deadline) != Received::kRequest) return false;
    // Nobody gets a buffer before it is known who asks.
    if (header_.data_size != 0 || receive_front(stream, deadline) != Received::kRequest) return false;
    wire::ReplyBuilder reply;
    const auto taken = handshake.take(request_, reply);
    if (!taken) server_.metrics.connections_refused.fetch_add(1);
    complete_header(server_, request_, taken ? 0 : taken.error().code, reply);
    drop_request();
    if (taken && handshake.done() && handshake.session()) connection_ = handshake.session()->number_connection();
    // Before the client hears that it is let in: what it is granted from then on must not be forgotten again.
    if (taken && handshake.done() && handshake.kind() == ConnectionKind::kControl && handshake.session()) {
      control_token_ = handshake.session()->notifications().attach();
      server_.leases.forget(handshake.session()->id());  // a client drops everything before it connects for control
    }
    stream.begin_send(gather(reply));
    if (!stream.finish_send(deadline) || !taken) return false;
  }
  session_ = handshake.session();
  if (session_) {
    session_->connections.fetch_add(1);
    session_id_.store(session_->id());
  }
  let_in_.store(true);
  if (handshake.kind() != ConnectionKind::kControl) return true;
  if (received_ == 0) serve_control(server_, session_, socket_.get(), control_token_);
  return false;
}

void Lane::serve_requests(Stream& stream) {
  wire::ReplyBuilder reply;  // outlives the sending of what it holds
  for (;;) {
    const Received header = receive_header(stream, 0);
    if (header == Received::kClosed) return;
    const int64_t deadline = deadline_in(kFrameMs);
    if (header != Received::kRequest || receive_front(stream, deadline) != Received::kRequest) break;
    const auto* operation = find_operation(request_.op());
    if (peer_.same_host) cpu_.follow(header_.cpu, transfer_size());
    if (!borrow_payloads(operation)) break;
    if (header_.data_size != 0 && !receive_data(stream, data_, deadline)) break;

    reply.header = {};
    reply.name.clear();
    reply.name2.clear();
    reply.data.clear();
    reply.descriptor.reset();
    if (!dispatch(server_, session_, operation, request_, connection_, data_room_, payloads_, reply)) return;
    if (server_.killed.load(std::memory_order_relaxed)) return;
    drop_request();
    send_deadline_us_ = deadline_in(kSendMs);
    stream.begin_send(gather(reply), std::move(reply.descriptor));
    if (payloads_.empty() && received_ == 0) {
      // The next request's beginning is awaited with the same system call that sends this reply.
      stream.begin_receive(input_);
      continue;
    }
    const bool sent = stream.finish_send(send_deadline_us_).has_value();
    payloads_.clear();
    if (!sent) return;
  }
  server_.metrics.protocol_errors.fetch_add(1);
}

// Receives until input_ holds `wanted` bytes. False: closed or broken.
bool Lane::fill(Stream& stream, size_t wanted, int64_t deadline_us) {
  while (received_ < wanted) {
    if (!stream.receiving()) stream.begin_receive(std::span(input_).subspan(received_));
    const auto more = stream.finish_receive(deadline_us, send_deadline_us_);
    if (!more || *more == 0) return false;
    received_ += *more;
  }
  return true;
}

Lane::Received Lane::receive_header(Stream& stream, int64_t deadline_us) {
  const bool began = received_ != 0;
  // Silence between requests is a client's right; a request that has begun has to end.
  if (!fill(stream, 1, deadline_us)) return began ? Received::kBroken : Received::kClosed;
  if (!fill(stream, sizeof header_, deadline_us != 0 ? deadline_us : deadline_in(kFrameMs))) return Received::kBroken;
  std::memcpy(&header_, input_.data(), sizeof header_);
  if (!wire::check_header(header_)) {
    spdlog::warn("frame_refused peer={} session={}", peer_.name, session_id());
    return Received::kBroken;
  }
  return Received::kRequest;
}

Lane::Received Lane::receive_front(Stream& stream, int64_t deadline_us) {
  if (!fill(stream, sizeof header_ + wire::front_size(header_), deadline_us)) return Received::kBroken;
  request_ = wire::view_request(header_, input_.data() + sizeof header_);
  // A descriptor goes to root on this host alone; an open that is reclaimed has one already.
  if (!peer_.trusted && !(header_.flags & wire::kFlagReclaim)) request_.header.flags &= static_cast<uint16_t>(~wire::kFlagTakesDescriptor);
  return Received::kRequest;
}

// The payload: what came along with the front is copied, the rest is received in place.
bool Lane::receive_data(Stream& stream, std::span<std::byte> into, int64_t deadline_us) {
  const size_t front = sizeof header_ + wire::front_size(header_);
  size_t have = std::min(received_ - front, into.size());
  std::memcpy(into.data(), input_.data() + front, have);
  while (have < into.size()) {
    stream.begin_receive(into.subspan(have));
    const auto more = stream.finish_receive(deadline_us, send_deadline_us_);
    if (!more || *more == 0) return false;
    have += *more;
  }
  request_.data = into;
  return true;
}

// Takes the request off the input; what is behind it belongs to the next one.
void Lane::drop_request() {
  const size_t whole = sizeof header_ + wire::front_size(header_) + header_.data_size;
  const size_t used = std::min(received_, whole);
  std::memmove(input_.data(), input_.data() + used, received_ - used);
  received_ -= used;
}

// Bytes of payload that the request brings or asks for.
size_t Lane::transfer_size() const {
  if (request_.op() != wire::Op::kRead) return header_.data_size;
  const auto body = request_.as<wire::IoBody>();
  return body ? body->size : 0;
}

bool Lane::borrow_payloads(const Operation* operation) {
  data_ = data_room_ = {};
  const bool takes = header_.data_size != 0;
  if (takes && (operation == nullptr || !operation->has_data)) return false;  // we would not know where to put it
  const bool gives = operation != nullptr && operation->reply_data;
  if (!takes && !gives) return true;
  payloads_ = server_.payloads.borrow(size_t{takes} + size_t{gives});
  if (takes) data_ = payloads_.front().bytes().first(header_.data_size);
  if (gives) data_room_ = payloads_.back().bytes();
  return true;
}

}  // namespace voldfs::server
