#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "brick/server/handshake.h"
#include "brick/server/lane_cpu.h"
#include "brick/server/limits.h"
#include "brick/server/stream.h"

namespace voldfs::server {

// One connection and the thread that serves it, from the handshake to its end: receives a request, carries it out,
// sends the reply, all itself. A system call that is slow holds up this connection and no other.
class Lane {
 public:
  Lane(ServerState& server, unique_fd socket, Peer peer) : server_(server), socket_(std::move(socket)), peer_(std::move(peer)) {}
  ~Lane();  // REQUIRES: started and finished(), or never started
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Result<void> start();
  // Any thread.
  void cut();                                   // the connection is gone; the thread ends when its request has
  void stop_receiving();                        // the running request is still answered, then the thread ends
  bool finished() const { return finished_.load(std::memory_order_acquire); }
  bool let_in() const { return let_in_.load(std::memory_order_relaxed); }
  uint64_t session_id() const { return session_id_.load(std::memory_order_relaxed); }  // 0: none

 private:
  // Everything below belongs to the lane's thread.
  static void* thread_main(void* lane);
  void serve();
  bool shake_hands(Stream& stream);
  void serve_requests(Stream& stream);

  enum class Received { kRequest, kClosed, kBroken };
  Received receive_header(Stream& stream, int64_t deadline_us);
  Received receive_front(Stream& stream, int64_t deadline_us);
  bool receive_data(Stream& stream, std::span<std::byte> into, int64_t deadline_us);
  bool fill(Stream& stream, size_t wanted, int64_t deadline_us);
  void drop_request();
  size_t transfer_size() const;
  bool borrow_payloads(const Operation* operation);

  ServerState& server_;
  const unique_fd socket_;
  const Peer peer_;
  pthread_t thread_{};
  bool started_ = false;
  std::atomic<bool> finished_{false}, let_in_{false};
  std::atomic<uint64_t> session_id_{0};

  uint64_t control_token_ = 0;  // of Notifications::attach(), on a control connection
  std::shared_ptr<Session> session_;
  uint64_t connection_ = 0;     // its number in the session
  std::array<std::byte, kLaneInput> input_;
  size_t received_ = 0;               // bytes in input_; the request under way begins at 0
  int64_t send_deadline_us_ = 0;      // of the reply under way
  wire::RequestHeader header_{};      // of the request under way
  wire::RequestView request_;
  std::vector<Payload> payloads_;     // of the request under way
  LaneCpu cpu_;
  std::span<std::byte> data_, data_room_;
};

}  // namespace voldfs::server
