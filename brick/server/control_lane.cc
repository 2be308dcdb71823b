#include "brick/server/control_lane.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cstring>

#include "brick/server/dispatch.h"
#include "brick/server/limits.h"
#include "brick/wire/frame.h"

namespace voldfs::server {

namespace {

// Sends all of it; the socket's SO_SNDTIMEO bounds how long a peer that does not read is waited for.
bool send_all(int socket, const void* data, size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size != 0) {
    const ssize_t sent = ::send(socket, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

class ControlLane {
 public:
  ControlLane(ServerState& server, const std::shared_ptr<Session>& session, int socket, uint64_t token)
      : server_(server), session_(session), socket_(socket), token_(token) {}

  void serve() {
    const timeval timeout{kSendMs / 1000, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    while (!session_->ended() && session_->notifications().attached(token_) && !server_.killed.load()) {
      pollfd ready[2] = {{socket_, POLLIN, 0}, {session_->notifications().wake_fd(), POLLIN, 0}};
      if (::poll(ready, 2, -1) < 0 && errno != EINTR) return;
      if ((ready[1].revents & POLLIN) != 0 && !send_notifications()) return;
      if (ready[0].revents != 0 && !take_requests()) return;
    }
    // A new control connection shares our wake_fd: it must not sleep through what we have just taken off it.
    session_->notifications().wake();
  }

 private:
  bool send_notifications() {
    for (const std::string& frame : session_->notifications().take(token_)) {
      if (!send_all(socket_, frame.data(), frame.size())) return false;
    }
    return true;
  }

  // Receives what is there and answers the whole requests in it.
  bool take_requests() {
    const ssize_t more = ::recv(socket_, input_.data() + received_, input_.size() - received_, MSG_DONTWAIT);
    if (more < 0) return errno == EAGAIN || errno == EINTR;
    if (more == 0) return false;
    received_ += static_cast<size_t>(more);
    size_t used = 0;
    while (received_ - used >= sizeof(wire::RequestHeader)) {
      wire::RequestHeader header;
      std::memcpy(&header, &input_[used], sizeof header);
      if (!wire::check_header(header) || header.data_size != 0) return refuse();
      const size_t whole = sizeof header + wire::front_size(header);
      if (received_ - used < whole) break;
      if (!answer(wire::view_request(header, &input_[used + sizeof header]))) return false;
      used += whole;
    }
    std::memmove(input_.data(), &input_[used], received_ - used);
    received_ -= used;
    return true;
  }

  bool answer(const wire::RequestView& request) {
    if (request.header.session != session_->id()) return refuse();
    if (request.op() == wire::Op::kAck) {
      const auto ack = request.as<wire::AckBody>();
      if (!ack) return refuse();
      if (server_.faults.any.load() && server_.faults.dial(request.op()).error.load() != 0) return true;  // lost
      session_->notifications().acknowledge(ack->sequence);
      return true;
    }
    if (server_.faults.any.load() && server_.faults.dial(request.op()).error.load() != 0) return true;  // lost
    wire::ReplyBuilder reply;
    if (request.op() == wire::Op::kHeartbeat && request.header.body_size == 0) {
      session_->touch();
      if (session_->to_reclaim()) {
        spdlog::info("session_reclaimed session={}", session_->id());
        session_->reclaimed();
      }
      reply.set_body(wire::HeartbeatBody{session_->lease_ms(), 0});
    } else if (request.op() == wire::Op::kBye && request.header.body_size == 0) {
      spdlog::info("session_ended session={} client={}", session_->id(), session_->client().hex());
      // Unmounted: nobody is left who could show what it was told, and nobody who would acknowledge.
      server_.leases.forget(session_->id());
      server_.sessions.note_bye(session_->id());
      session_->notifications().attach();
      server_.sessions.end(session_);
    } else {
      return refuse();
    }
    complete_header(server_, request, 0, reply);
    std::array<std::byte, sizeof(wire::ReplyHeader) + sizeof(wire::HeartbeatBody)> out;
    std::memcpy(out.data(), &reply.header, sizeof reply.header);
    std::memcpy(out.data() + sizeof reply.header, reply.body.data(), reply.header.body_size);
    return send_all(socket_, out.data(), sizeof reply.header + reply.header.body_size);
  }

  bool refuse() {
    server_.metrics.protocol_errors.fetch_add(1);
    spdlog::warn("frame_refused session={} connection=control", session_->id());
    return false;
  }

  ServerState& server_;
  const std::shared_ptr<Session>& session_;
  const int socket_;
  const uint64_t token_;
  std::array<std::byte, kLaneInput> input_;
  size_t received_ = 0;
};

}  // namespace

void serve_control(ServerState& server, const std::shared_ptr<Session>& session, int socket, uint64_t token) {
  ControlLane(server, session, socket, token).serve();
}

}  // namespace voldfs::server
