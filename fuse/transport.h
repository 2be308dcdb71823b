#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>

#include "brick/base/result.h"

// The way of requests from the kernel and of replies back: /dev/fuse (dev_fuse_transport.h), or FUSE over io_uring
// (ring_transport.h), where an entry of a CPU's queue is a channel.
namespace voldfs::fuse {

// One worker at a time receives; a reply may be sent from any thread, through the channel that its request came
// from: the kernel looks for the request there alone.
class Channel {
 public:
  virtual ~Channel() = default;

  // Waits for a request; returns it, header first, in `buffer` or in memory of the channel's own, good until the next
  // call. Empty: the mount has ended.
  virtual Result<std::span<std::byte>> receive(std::span<std::byte> buffer) = 0;

  // Sends a whole reply or notification. ENOENT: the kernel has given the request up.
  virtual Result<void> send(const iovec* parts, int count) = 0;

  // The worker is done with the request. A channel that cannot carry another one before this one is answered waits
  // for the answer.
  virtual void finish() {}

  // Where a reply's payload can be put so that it need not be copied; empty: nowhere.
  virtual std::span<std::byte> payload_room() { return {}; }
};

class Transport {
 public:
  virtual ~Transport() = default;

  // A channel for a further worker. Any thread.
  virtual Result<std::shared_ptr<Channel>> open_channel() = 0;

  // False: once somebody has received from a channel, somebody must until the mount ends.
  virtual bool channels_are_reusable() const { return true; }
};

// The channel of the request that this thread works on. libfuse sends a reply by a function that knows neither
// request nor channel; this is how it finds the way. Null outside of requests.
class ReplyChannel {
 public:
  explicit ReplyChannel(std::shared_ptr<Channel> channel) : outer_(std::move(current_)) { current_ = std::move(channel); }
  ~ReplyChannel() { current_ = std::move(outer_); }
  ReplyChannel(const ReplyChannel&) = delete;
  ReplyChannel& operator=(const ReplyChannel&) = delete;

  static const std::shared_ptr<Channel>& current() { return current_; }

 private:
  inline static thread_local std::shared_ptr<Channel> current_;
  std::shared_ptr<Channel> outer_;
};

}  // namespace voldfs::fuse
