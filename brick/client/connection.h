#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "brick/base/unique_fd.h"
#include "brick/client/brick_client.h"
#include "brick/client/limits.h"

namespace voldfs::client {

enum class ConnectionKind : uint8_t { kRequests = 1, kControl = 2, kAsk = 3 };

// One connection that a brick has let in: a blocking socket. One thread at a time; shut_down(): any thread, as long
// as the connection is not destroyed meanwhile.
class Connection {
 public:
  // Over the unix socket if there is one and its brick is the right one, over TCP otherwise. `session` 0: a new one.
  // ETIMEDOUT, ECONNREFUSED and what else connect(2) says; EACCES: other secret; ENODEV: other volume; EXDEV: another
  // brick lives there; EPROTONOSUPPORT: no common version; EUSERS: too many sessions or connections; kSessionGone.
  static Result<std::unique_ptr<Connection>> open(const BrickAddress& address, const ClientOptions& options,
                                                  ConnectionKind kind, uint64_t session);

  const wire::WelcomeBody& welcome() const { return welcome_; }
  int fd() const { return socket_.get(); }
  bool passes_descriptors() const { return passes_descriptors_; }
  bool has_input() const { return received_ != 0; }  // of a further message, besides what the socket holds

  // Everything at once, in one system call where the socket takes it.
  Result<void> send(const wire::Request& request);
  // The next message; its payload goes into `data_into` if it fits there, else into Reply::owned_data. ECONNRESET: the
  // brick has closed. EPROTO: what came is no reply. After an error the connection is of no use.
  Result<void> receive(wire::Reply& reply, std::span<std::byte> data_into);
  // A small request and its answer, with status 0. ETIMEDOUT: none in time.
  Result<wire::Reply> ask_within(const wire::Request& request, uint32_t milliseconds);
  void shut_down();

 private:
  friend Result<std::vector<std::byte>> ask(const BrickAddress&, const ClientOptions&, wire::Op, std::span<const std::byte>);
  Connection(unique_fd socket, bool local) : socket_(std::move(socket)), local_(local) {}
  static Result<std::unique_ptr<Connection>> open_one(const BrickAddress& address, const ClientOptions& options,
                                                      ConnectionKind kind, uint64_t session, bool local, uint32_t timeout_ms);
  Result<void> shake_hands(const BrickAddress& address, const ClientOptions& options, ConnectionKind kind,
                           uint64_t session);
  Result<wire::Reply> exchange(const wire::Request& request);
  void set_timeouts(uint32_t milliseconds);
  void prepare_for_service();

  void await_answer();
  Result<void> fill(size_t wanted);
  ssize_t receive_with_descriptor(std::span<std::byte> into);
  Result<bool> receive_read(wire::Reply& reply, std::span<std::byte> data_into);
  Result<void> receive_data(wire::Reply& reply, std::span<std::byte> data_into);
  Result<void> receive_rest(std::span<std::byte> into);

  const unique_fd socket_;
  const bool local_;                       // the unix socket: root at both ends
  wire::WelcomeBody welcome_{};
  bool has_timeouts_ = true;               // of the socket's calls
  bool passes_descriptors_ = false;
  uint16_t last_op_ = 0;
  bool may_get_descriptor_ = false;        // with the reply to the last request
  unique_fd descriptor_;                   // that came with the message being received
  std::array<std::byte, kInput> input_;
  size_t received_ = 0;                    // bytes in input_
};

// Asks a brick without a session: `op` is kMapGet, kStatus, or kMapPut with the map as `data`. With an unknown brick or
// volume id (none in `address`, `options`) whoever answers there is taken. Gives up after connect_timeout_ms.
Result<std::vector<std::byte>> ask(const BrickAddress& address, const ClientOptions& options, wire::Op op,
                                   std::span<const std::byte> data = {});

}  // namespace voldfs::client
